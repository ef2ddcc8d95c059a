//! A frame in a client's pixels, the obvious and slow way.

use crate::{Frame, Rect};

/// Largest value and shift of each colour; `None` for a colour map.
pub(super) struct Reference {
    channels: Option<[(f64, u32); 3]>,
}

impl Reference {
    pub(super) fn new(format: &[u8; 16]) -> Self {
        let max = |at: usize| f64::from(u16::from_be_bytes([format[at], format[at + 1]]));
        let channel = |max: f64, at: usize| (max, u32::from(format[at]));
        let channels = [channel(max(4), 10), channel(max(6), 11), channel(max(8), 12)];
        Self { channels: (format[3] != 0).then_some(channels) }
    }

    /// The value of a colour.
    pub(super) fn value(&self, rgb: [u8; 3]) -> u32 {
        match self.channels {
            Some(channels) => rgb
                .into_iter()
                .zip(channels)
                .fold(0, |value, (intensity, (max, shift))| value | scaled(intensity, max) << shift),
            None => rgb.into_iter().fold(0, |index, intensity| index * 6 + scaled(intensity, 5.0)),
        }
    }

    /// Puts a part of a frame where a client must have it.
    pub(super) fn copy(&self, frame: &Frame, rect: Rect, pixels: &mut [u32]) {
        let rect = rect.clipped(frame.width(), frame.height());
        for y in rect.y..rect.y + rect.height {
            for x in rect.x..rect.x + rect.width {
                let at = (y * frame.width() + x) as usize;
                let [_, red, green, blue] = frame.pixels()[at].to_be_bytes();
                pixels[at] = self.value([red, green, blue]);
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 65535")]
fn scaled(intensity: u8, max: f64) -> u32 {
    (f64::from(intensity) * max / 255.0).round() as u32
}
