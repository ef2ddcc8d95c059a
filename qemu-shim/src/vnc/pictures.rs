//! Pictures encoded once for everybody who wants the same.

use std::sync::Arc;

use crate::damage::Rect;
use crate::frame::Frame;
use crate::rfb::encode::{Encoded, Encoder, Settings};

/// Encoders that are kept; each holds compressors of some hundred kilobytes.
const MOST_ENCODERS: usize = 8;

#[derive(Debug)]
struct Entry {
    settings: Settings,
    encoder: Encoder,
    /// What was encoded last: of which look, with or without the cursor, which parts.
    of: (u64, bool, Vec<Rect>),
    encoded: Arc<Encoded>,
}

/// The encoders, and what each made last.
#[derive(Debug, Default)]
pub struct Pictures {
    /// Counts looks at the device.
    look: u64,
    /// Most recently used first.
    entries: Vec<Entry>,
    made: u64,
}

impl Pictures {
    /// The picture is another.
    pub fn next(&mut self) {
        self.look += 1;
    }

    /// How many pictures were encoded.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.made
    }

    /// Parts of the picture of this look, encoded so. `draws_cursor`: the frame is the one without a cursor.
    pub fn encode(
        &mut self,
        settings: &Settings,
        frame: &Frame,
        draws_cursor: bool,
        rects: &[Rect],
    ) -> Arc<Encoded> {
        let at = self.entries.iter().position(|entry| entry.settings == *settings);
        if let Some(at) = at {
            self.entries[..=at].rotate_right(1);
        } else {
            self.entries.truncate(MOST_ENCODERS - 1);
            let entry = Entry {
                settings: *settings,
                encoder: Encoder::new(settings),
                of: (0, false, Vec::new()),
                encoded: Arc::default(),
            };
            self.entries.insert(0, entry);
        }
        let entry = &mut self.entries[0];
        let (look, drawn, ref parts) = entry.of;
        if (look, drawn) != (self.look, draws_cursor) || parts != rects {
            // Memory is used again unless a viewer is still being sent the last picture.
            if Arc::get_mut(&mut entry.encoded).is_none() {
                entry.encoded = Arc::default();
            }
            if let Some(encoded) = Arc::get_mut(&mut entry.encoded)
                && let Err(error) = entry.encoder.encode_update(frame, rects, encoded)
            {
                tracing::error!("{error}");
                *encoded = Encoded::default();
            }
            entry.of = (self.look, draws_cursor, rects.to_vec());
            self.made += 1;
        }
        Arc::clone(&entry.encoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rfb::encodings::Encoding;
    use crate::rfb::pixel_format::PixelFormat;

    #[test]
    fn equal_viewers_cost_one_encoding() {
        let mut pictures = Pictures::default();
        let frame = Frame::new(64, 64).unwrap();
        let all = [Rect::new(0, 0, 64, 64)];
        let settings =
            |level| Settings { encoding: Encoding::Zrle, format: PixelFormat::SERVER, level, quality: None };
        pictures.next();
        let first = pictures.encode(&settings(1), &frame, false, &all);
        for _ in 0..9 {
            assert!(Arc::ptr_eq(&first, &pictures.encode(&settings(1), &frame, false, &all)));
        }
        assert_eq!(pictures.made(), 1);
        pictures.encode(&settings(2), &frame, false, &all);
        pictures.encode(&settings(1), &frame, true, &all);
        pictures.encode(&settings(1), &frame, true, &all[..0]);
        assert_eq!(pictures.made(), 4, "other settings, without the cursor, other parts");
        pictures.next();
        let next = pictures.encode(&settings(1), &frame, false, &all);
        assert!(!Arc::ptr_eq(&first, &next), "the first is still on its way to somebody");
        drop((first, next));
        for level in 0..10 {
            pictures.next();
            pictures.encode(&settings(level), &frame, false, &all);
        }
        assert_eq!(pictures.entries.len(), MOST_ENCODERS);
    }
}
