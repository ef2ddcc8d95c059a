//! The few colours of a part of a picture, numbered in the order in which they appear.

/// Most colours there can be: an index is a byte.
const MOST: usize = 256;

/// Slots of the table, a power of two: at most a quarter full, so that a colour is found at once.
const SLOTS: usize = 1024;

/// Colours and a hash table to find them, without memory of its own.
#[derive(Debug)]
pub(super) struct Palette {
    colours: [u32; MOST],
    count: usize,
    /// Number of a colour plus 1; 0 is empty.
    slots: [u16; SLOTS],
}

impl Palette {
    pub(super) fn new() -> Self {
        Self { colours: [0; MOST], count: 0, slots: [0; SLOTS] }
    }

    pub(super) fn clear(&mut self) {
        self.count = 0;
        self.slots.fill(0);
    }

    /// The colours so far.
    pub(super) fn colours(&self) -> &[u32] {
        self.colours.get(..self.count).unwrap_or_default()
    }

    /// The number of a colour, which is a new one if it was not there; `None` when `most` were there already.
    fn index(&mut self, colour: u32, most: usize) -> Option<u8> {
        // Fibonacci hashing: the upper bits of a product with 2^32 / golden ratio.
        let mut at = (colour.wrapping_mul(0x9e37_79b9) >> 22) as usize;
        loop {
            at %= SLOTS;
            let slot = self.slots.get_mut(at)?;
            let Some(number) = slot.checked_sub(1) else {
                if self.count >= most.min(MOST) {
                    return None;
                }
                *self.colours.get_mut(self.count)? = colour;
                let index = u8::try_from(self.count).ok()?;
                self.count += 1;
                *slot = u16::from(index) + 1;
                return Some(index);
            };
            if self.colours.get(usize::from(number)) == Some(&colour) {
                return u8::try_from(number).ok();
            }
            at += 1;
        }
    }

    /// The colours of some pixels, at most `most`, and the number of each pixel's in `indices`, which has as many places;
    /// `false` if there are more.
    pub(super) fn fill(&mut self, values: &[u32], most: usize, indices: &mut [u8]) -> bool {
        self.clear();
        let mut last = (values.first().map_or(0, |first| !first), 0);
        for (value, index) in values.iter().zip(indices) {
            if *value != last.0 {
                let Some(number) = self.index(*value, most) else { return false };
                last = (*value, number);
            }
            *index = last.1;
        }
        true
    }
}

/// Bits of a packed index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bits {
    One,
    Two,
    Four,
    Eight,
}

impl Bits {
    /// The fewest that number so many colours.
    pub(super) fn of(colours: usize) -> Self {
        match colours {
            ..=2 => Self::One,
            3..=4 => Self::Two,
            5..=16 => Self::Four,
            _ => Self::Eight,
        }
    }

    /// How many they are.
    pub(super) fn count(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    /// Bytes of a row of so many indices.
    pub(super) fn stride(self, width: usize) -> usize {
        (width * usize::from(self.count())).div_ceil(8)
    }
}

/// Appends packed indices, the leftmost in the highest bits, each row of `width` in bytes of its own.
pub(super) fn pack(indices: &[u8], width: usize, bits: Bits, out: &mut Vec<u8>) {
    match bits {
        Bits::One => pack_groups::<8>(indices, width, out),
        Bits::Two => pack_groups::<4>(indices, width, out),
        Bits::Four => pack_groups::<2>(indices, width, out),
        Bits::Eight => out.extend_from_slice(indices),
    }
}

/// Packs `N` indices, at least 2, into each byte.
fn pack_groups<const N: usize>(indices: &[u8], width: usize, out: &mut Vec<u8>) {
    let bits = 8 / N;
    let joined = |group: [u8; N]| group.into_iter().fold(0, |byte, index| byte << bits | index);
    for row in indices.chunks(width.max(1)) {
        let (whole, rest) = row.as_chunks::<N>();
        out.extend(whole.iter().map(|group| joined(*group)));
        if !rest.is_empty() {
            let mut last = [0; N];
            for (index, from) in last.iter_mut().zip(rest) {
                *index = *from;
            }
            out.push(joined(last));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bits_start_at_the_left() {
        let mut out = Vec::new();
        pack(&[1, 0, 0, 0, 0, 0, 0, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1], 9, Bits::One, &mut out);
        assert_eq!(out, [0x81, 0x80, 0x40, 0x80]);
        out.clear();
        pack(&[3, 2, 1, 0, 1], 5, Bits::Two, &mut out);
        assert_eq!(out, [0b1110_0100, 0b0100_0000]);
        out.clear();
        pack(&[15, 1, 9], 3, Bits::Four, &mut out);
        assert_eq!(out, [0xf1, 0x90]);
        out.clear();
        pack(&[15, 1, 255], 3, Bits::Eight, &mut out);
        assert_eq!(out, [15, 1, 255]);
        assert_eq!([2, 3, 16, 17].map(|colours| Bits::of(colours).stride(9)), [2, 3, 5, 9]);
    }

    proptest! {
        #[test]
        fn indices_lead_back(
            values in prop::collection::vec(prop_oneof![0..300u32, any::<u32>()], 0..2000), most in 0..300usize,
        ) {
            let mut palette = Palette::new();
            palette.fill(&[1, 2, 3], 256, &mut [0; 3]);
            let mut indices = vec![0; values.len()];
            let distinct: std::collections::BTreeSet<_> = values.iter().collect();
            let fits = palette.fill(&values, most, &mut indices);
            prop_assert_eq!(fits, distinct.len() <= most.min(256));
            if fits {
                prop_assert_eq!(palette.colours().len(), distinct.len());
                let back: Vec<u32> = indices.iter().map(|index| palette.colours()[usize::from(*index)]).collect();
                prop_assert_eq!(back, values);
            }
        }
    }
}
