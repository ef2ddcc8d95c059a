//! Bytes on their way to a viewer: answers of its own, and pictures that it may share with others.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::rfb::encode::{ClientStreams, Encoded, PARTS};

#[derive(Debug)]
enum Chunk {
    Answer(Vec<u8>),
    /// With the streams that the viewer had seen before it.
    Picture(Arc<Encoded>, ClientStreams),
}

impl Chunk {
    /// The bytes behind the first `skip`; empty if there are none.
    fn behind(&self, mut skip: usize) -> &[u8] {
        let (answer, parts) = match self {
            Self::Answer(bytes) => (bytes.as_slice(), [&[][..]; PARTS]),
            Self::Picture(encoded, seen) => (&[][..], encoded.parts(&mut seen.clone())),
        };
        for part in std::iter::once(answer).chain(parts) {
            match part.get(skip..) {
                Some(rest) if !rest.is_empty() => return rest,
                _ => skip = skip.saturating_sub(part.len()),
            }
        }
        &[]
    }
}

/// What is to be sent, first things first.
#[derive(Debug, Default)]
pub struct Output {
    chunks: VecDeque<Chunk>,
    /// Bytes of the first chunk that are sent.
    sent: usize,
    answers: usize,
    /// The streams that the viewer will have seen.
    seen: ClientStreams,
}

impl Output {
    /// Whether everything is sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Bytes of answers that are kept.
    #[must_use]
    pub fn answers(&self) -> usize {
        self.answers
    }

    /// Sends an answer after what is there.
    pub fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.answers += bytes.len();
        match self.chunks.back_mut() {
            Some(Chunk::Answer(last)) => last.extend_from_slice(bytes),
            _ => self.chunks.push_back(Chunk::Answer(bytes.to_vec())),
        }
    }

    /// Sends a picture that others may be sent too, after what is there.
    pub fn push_picture(&mut self, encoded: Arc<Encoded>) {
        let before = self.seen;
        let parts = encoded.parts(&mut self.seen);
        if parts.iter().any(|part| !part.is_empty()) {
            self.chunks.push_back(Chunk::Picture(encoded, before));
        }
    }

    /// What to send next; empty when everything is sent.
    #[must_use]
    pub fn front(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| chunk.behind(self.sent))
    }

    /// So many bytes of [`Output::front`] are sent.
    pub fn consume(&mut self, count: usize) {
        self.sent += count;
        let Some(first) = self.chunks.front() else { return };
        if first.behind(self.sent).is_empty() {
            if let Some(Chunk::Answer(bytes)) = self.chunks.pop_front() {
                self.answers -= bytes.len();
            }
            self.sent = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::frame::Frame;
    use crate::rfb::encode::{Encoder, Settings};
    use crate::rfb::encodings::Encoding;
    use crate::rfb::pixel_format::PixelFormat;

    #[test]
    fn bytes_leave_in_the_order_they_came_and_pictures_are_not_copied() {
        let settings =
            Settings { encoding: Encoding::Zrle, format: PixelFormat::SERVER, level: 1, quality: None };
        let mut encoded = Encoded::default();
        let frame = Frame::new(70, 70).unwrap();
        Encoder::new(&settings)
            .encode_update(&frame, &[crate::Rect::new(0, 0, 70, 70)], &mut encoded)
            .unwrap();
        let encoded = Arc::new(encoded);
        let mut expected = b"abc".to_vec();
        let mut seen = ClientStreams::default();
        encoded.write(&mut seen, &mut expected);
        expected.extend(b"d");
        encoded.write(&mut seen, &mut expected);

        let mut output = Output::default();
        output.push(b"a");
        output.push(b"bc");
        output.push_picture(Arc::clone(&encoded));
        output.push(b"d");
        output.push(b"");
        output.push_picture(Arc::clone(&encoded));
        assert_eq!(Arc::strong_count(&encoded), 3);
        let mut sent = Vec::new();
        while !output.is_empty() {
            let count = output.front().len().min(2);
            sent.extend_from_slice(&output.front()[..count]);
            output.consume(count);
        }
        assert_eq!(sent, expected);
        assert_eq!((output.answers(), Arc::strong_count(&encoded)), (0, 1));
        output.consume(5);
        assert!(output.front().is_empty());
    }
}
