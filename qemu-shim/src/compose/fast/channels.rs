//! A piece of a row with 16 bits per channel.
//!
//! Every step is a loop over an array of one kind of number, of a length that the compiler knows: those become vector
//! instructions, where loops over pixels of four channels do not. A group of [`GROUP`] pixels is what stays in registers
//! from one step to the next; with half of it or four times as many it took twice as long.

use super::{COLOURS, PIECE};

/// Pixels that are worked on at once.
const GROUP: usize = 16;

/// The channels of a group in one row: blue, green, red, alpha; and the next pixel's.
type Values = [u16; 4 * GROUP];

/// What is on the screen, opaque: a piece, of which only as much is meant as there were pixels. Looked at only once
/// something is to be laid over it.
#[derive(Clone, Debug)]
pub(super) struct Under {
    groups: [Values; PIECE / GROUP],
    is_loaded: bool,
}

impl Default for Under {
    fn default() -> Self {
        Self { groups: [[0; 4 * GROUP]; PIECE / GROUP], is_loaded: false }
    }
}

impl Under {
    /// Looks at pixels `0x00RRGGBB`, unless that was done.
    #[inline(always)]
    pub(super) fn of(&mut self, pixels: &[u32]) -> &mut Self {
        if !self.is_loaded {
            self.is_loaded = true;
            whole(pixels, |pixels| {
                for (values, pixels) in self.groups.iter_mut().zip(pixels.as_chunks().0) {
                    *values = widen(pixels);
                }
            });
        }
        self
    }

    /// Something else is there now.
    pub(super) fn forget(&mut self) {
        self.is_loaded = false;
    }

    /// Lays pixels `0xAARRGGBB` over these. Their colours are multiplied by alpha already.
    pub(super) fn cover(&mut self, over: &[u32]) {
        whole(over, |over| {
            for (under, over) in self.groups.iter_mut().zip(over.as_chunks().0) {
                lay(under, &widen(over), &clear(over));
            }
        });
    }

    /// The same with colours that are not multiplied yet.
    pub(super) fn cover_straight(&mut self, over: &[u32]) {
        whole(over, |over| {
            for (under, over) in self.groups.iter_mut().zip(over.as_chunks().0) {
                let (mut values, clear) = (widen(over), clear(over));
                for (value, clear) in values.iter_mut().zip(clear) {
                    *value = product(*value, u16::MAX - clear);
                }
                lay(under, &values, &clear);
            }
        });
    }

    /// Lays pixels `0xAAAA_RRRR_GGGG_BBBB` over these. Their colours are multiplied by alpha already.
    pub(super) fn cover_deep(&mut self, over: &[u64]) {
        for (under, over) in self.groups.iter_mut().zip(over.chunks(GROUP)) {
            let (mut values, mut clear) = ([[0; 4]; GROUP], [[u16::MAX; 4]; GROUP]);
            for ((values, clear), pixel) in values.iter_mut().zip(&mut clear).zip(over) {
                let [b0, b1, g0, g1, r0, r1, a0, a1] = pixel.to_le_bytes();
                *values = [[b0, b1], [g0, g1], [r0, r1], [a0, a1]].map(u16::from_le_bytes);
                *clear = [u16::MAX - u16::from_le_bytes([a0, a1]); 4];
            }
            lay(under, values.as_flattened(), clear.as_flattened());
        }
    }

    /// Rounds what something was laid over to `0x00RRGGBB`.
    pub(super) fn round(&self, pixels: &mut [u32]) {
        if !self.is_loaded {
            return;
        }
        if let Ok(whole) = <&mut [u32; PIECE]>::try_from(&mut *pixels) {
            for (values, pixels) in self.groups.iter().zip(whole.as_chunks_mut().0) {
                *pixels = narrow(values);
            }
            return;
        }
        for (values, pixels) in self.groups.iter().zip(pixels.chunks_mut(GROUP)) {
            pixels.iter_mut().zip(narrow(values)).for_each(|(pixel, rounded)| *pixel = rounded);
        }
    }
}

/// Hands on a whole piece, made up with zeros if it is none.
#[inline(always)]
fn whole(pixels: &[u32], mut hand_on: impl FnMut(&[u32; PIECE])) {
    if let Ok(whole) = pixels.try_into() {
        return hand_on(whole);
    }
    let mut room = [0; PIECE];
    room.iter_mut().zip(pixels).for_each(|(place, pixel)| *place = *pixel);
    hand_on(&room);
}

/// The channels of pixels `0xAARRGGBB`: 255 becomes 65535.
#[inline(always)]
fn widen(pixels: &[u32; GROUP]) -> Values {
    let mut bytes = [[0; 4]; GROUP];
    for (bytes, pixel) in bytes.iter_mut().zip(pixels) {
        *bytes = pixel.to_le_bytes();
    }
    let mut values = [0; 4 * GROUP];
    for (value, byte) in values.iter_mut().zip(bytes.as_flattened()) {
        *value = u16::from(*byte) * 257;
    }
    values
}

/// The way back, without alpha.
#[inline(always)]
fn narrow(values: &Values) -> [u32; GROUP] {
    let mut bytes = [[0; 4]; GROUP];
    for (byte, value) in bytes.as_flattened_mut().iter_mut().zip(values) {
        *byte = to_8_bits(*value);
    }
    let mut pixels = [0; GROUP];
    for (pixel, bytes) in pixels.iter_mut().zip(bytes) {
        *pixel = u32::from_le_bytes(bytes) & COLOURS;
    }
    pixels
}

/// For each of the channels how much is seen of what is below, of 65535: the complement of the pixel's alpha.
#[inline(always)]
fn clear(pixels: &[u32; GROUP]) -> Values {
    let mut clear = *pixels;
    for pixel in &mut clear {
        let top = !*pixel & 0xff00_0000;
        let half = top | top >> 8;
        *pixel = half | half >> 16;
    }
    widen(&clear)
}

/// Lays channels over others, of which this much is seen.
#[inline(always)]
fn lay(under: &mut Values, over: &[u16], clear: &[u16]) {
    for ((under, over), clear) in under.iter_mut().zip(over).zip(clear) {
        *under = over.saturating_add(product(*under, *clear));
    }
}

/// `value` × `by` / 65535, or up to two less: the division by 65536 instead is one vector instruction.
#[inline(always)]
fn product(value: u16, by: u16) -> u16 {
    let [_, _, low, high] = (u32::from(value) * u32::from(by)).to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// `round(v / 257)`, exactly. Where the sum saturates, 255 is right.
#[inline(always)]
pub(super) fn to_8_bits(v: u16) -> u8 {
    let v = v.saturating_add(128);
    let [_, high] = (v - (v >> 8)).to_le_bytes();
    high
}
