//! How a client wants its pixels: RFC 6143 §7.4's `PIXEL_FORMAT`, checked once so that everything behind it can rely on it.

/// Why a client's pixel format is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PixelFormatError {
    /// No such pixels in the protocol.
    #[error("{found} bits per pixel where 8, 16 or 32 were expected")]
    BitsPerPixel {
        /// Bits asked for.
        found: u8,
    },
    /// A depth is a number of the pixel's bits.
    #[error("depth {found} where 1 to {bits_per_pixel} was expected")]
    Depth {
        /// Bits asked for.
        found: u8,
        /// Bits of a pixel.
        bits_per_pixel: u8,
    },
    /// Without a largest value nothing can be scaled.
    #[error("largest {channel} value is 0 where 1 to 65535 was expected")]
    NoMaximum {
        /// `red`, `green` or `blue`.
        channel: &'static str,
    },
    /// A channel would lie beyond the pixel.
    #[error("{channel} takes bits {shift} to {last} of a pixel that has {bits_per_pixel}")]
    OutsidePixel {
        /// `red`, `green` or `blue`.
        channel: &'static str,
        /// Its lowest bit.
        shift: u8,
        /// Its highest bit.
        last: u32,
        /// Bits of a pixel.
        bits_per_pixel: u8,
    },
    /// Two channels would share bits.
    #[error("{channel} shares bits with another channel")]
    Overlap {
        /// The later of the two: `green` or `blue`.
        channel: &'static str,
    },
    /// Our colour map has entries for 8 bits.
    #[error("a colour map for {found} bits per pixel where 8 were expected")]
    ColourMap {
        /// Bits asked for.
        found: u8,
    },
}

/// Where one colour is in a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Channel {
    /// Full intensity; never 0.
    pub max: u16,
    /// Its lowest bit in the pixel.
    pub shift: u8,
}

impl Channel {
    /// The bits it takes.
    fn mask(self) -> u64 {
        let bits = u16::BITS.saturating_sub(self.max.leading_zeros());
        let ones = 1u64.wrapping_shl(bits).saturating_sub(1);
        ones.wrapping_shl(self.shift.into())
    }

    /// An intensity of 0 to 255, scaled by exact rounding and moved to its place.
    fn place(self, intensity: u8) -> u32 {
        let (value, max) = (u32::from(intensity), u32::from(self.max));
        // round(v × max / 255): at most 2 × 255 × 65535 + 255, which fits.
        let scaled = value.wrapping_mul(max).wrapping_mul(2).wrapping_add(255) / 510;
        scaled.wrapping_shl(self.shift.into())
    }
}

/// What the bits of a pixel mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Colours {
    /// Red, green and blue intensities, which do not overlap.
    True([Channel; 3]),
    /// An index into the [colour map](PixelFormat::colour_map_message).
    Map,
}

/// A pixel format that can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PixelFormat {
    bits_per_pixel: u8,
    depth: u8,
    big_endian: bool,
    colours: Colours,
}

/// Levels of each colour in our colour map: as many as fit in 256 entries, with the same for all three.
const LEVELS: u8 = 6;

/// From one level to the next in a colour map, where full intensity is 65535.
const STEP: u16 = u16::MAX / 5;

impl PixelFormat {
    /// That of our frames: 32 bits per pixel, depth 24, little-endian `0x00RRGGBB`.
    pub const SERVER: Self = Self {
        bits_per_pixel: 32,
        depth: 24,
        big_endian: false,
        colours: Colours::True([
            Channel { max: 255, shift: 16 },
            Channel { max: 255, shift: 8 },
            Channel { max: 255, shift: 0 },
        ]),
    };

    /// Reads a `PIXEL_FORMAT`. Maxima that are not 2^n − 1 are taken for what they are and scaled to.
    ///
    /// # Errors
    /// See [`PixelFormatError`].
    pub fn parse(bytes: &[u8; 16]) -> Result<Self, PixelFormatError> {
        let [bits_per_pixel, depth, big_endian, true_colour, r1, r0, g1, g0, b1, b0, shifts @ ..] = *bytes;
        let [red_shift, green_shift, blue_shift, ..] = shifts;
        if !matches!(bits_per_pixel, 8 | 16 | 32) {
            return Err(PixelFormatError::BitsPerPixel { found: bits_per_pixel });
        }
        if depth == 0 || depth > bits_per_pixel {
            return Err(PixelFormatError::Depth { found: depth, bits_per_pixel });
        }
        // Meaningless for single bytes: one format, one value.
        let big_endian = big_endian != 0 && bits_per_pixel != 8;
        if true_colour == 0 {
            return match bits_per_pixel {
                8 => Ok(Self { bits_per_pixel, depth, big_endian, colours: Colours::Map }),
                found => Err(PixelFormatError::ColourMap { found }),
            };
        }
        let channels = [
            Channel { max: u16::from_be_bytes([r1, r0]), shift: red_shift },
            Channel { max: u16::from_be_bytes([g1, g0]), shift: green_shift },
            Channel { max: u16::from_be_bytes([b1, b0]), shift: blue_shift },
        ];
        check(channels, bits_per_pixel)?;
        Ok(Self { bits_per_pixel, depth, big_endian, colours: Colours::True(channels) })
    }

    /// As a `PIXEL_FORMAT`.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 16] {
        let big_endian = self.big_endian.into();
        let Colours::True([red, green, blue]) = self.colours else {
            return [self.bits_per_pixel, self.depth, big_endian, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        };
        let ([r1, r0], [g1, g0], [b1, b0]) =
            (red.max.to_be_bytes(), green.max.to_be_bytes(), blue.max.to_be_bytes());
        let [bits, depth] = [self.bits_per_pixel, self.depth];
        let shifts = [red.shift, green.shift, blue.shift];
        let [red_shift, green_shift, blue_shift] = shifts;
        [bits, depth, big_endian, 1, r1, r0, g1, g0, b1, b0, red_shift, green_shift, blue_shift, 0, 0, 0]
    }

    /// 8, 16 or 32.
    #[must_use]
    pub fn bits_per_pixel(&self) -> u8 {
        self.bits_per_pixel
    }

    /// Useful bits of a pixel, as the client said: decides how it reads compact pixels.
    #[must_use]
    pub fn depth(&self) -> u8 {
        self.depth
    }

    /// Whether a pixel's most significant byte comes first; `false` for single bytes.
    #[must_use]
    pub fn big_endian(&self) -> bool {
        self.big_endian
    }

    /// What the bits mean.
    #[must_use]
    pub fn colours(&self) -> Colours {
        self.colours
    }

    /// The bits of a pixel that red, green or blue take; all that an index can have for a colour map.
    #[must_use]
    pub fn used_bits(&self) -> u32 {
        let Colours::True(channels) = self.colours else { return 0xff };
        let mask = channels.into_iter().fold(0, |mask, channel| mask | channel.mask());
        u32::try_from(mask).unwrap_or(u32::MAX)
    }

    /// What each intensity of red, of green and of blue adds to the value of a pixel.
    #[must_use]
    pub fn tables(&self) -> [[u32; 256]; 3] {
        let table = |place: &dyn Fn(u8) -> u32| {
            let mut table = [0; 256];
            for (entry, intensity) in table.iter_mut().zip(0..=u8::MAX) {
                *entry = place(intensity);
            }
            table
        };
        match self.colours {
            Colours::True(channels) => channels.map(|channel| table(&|intensity| channel.place(intensity))),
            Colours::Map => {
                let levels = Channel { max: u16::from(LEVELS).saturating_sub(1), shift: 0 };
                let weights = [u32::from(LEVELS).saturating_pow(2), LEVELS.into(), 1];
                weights.map(|weight| table(&|intensity| levels.place(intensity).saturating_mul(weight)))
            }
        }
    }

    /// The `SetColourMapEntries` message (RFC 6143 §7.6.2) that must follow such a client's `SetPixelFormat`, which empties
    /// its map: 6 levels of each colour. `None` for true colour.
    #[must_use]
    pub fn colour_map_message(&self) -> Option<Vec<u8>> {
        if self.colours != Colours::Map {
            return None;
        }
        let mut message = vec![1, 0, 0, 0];
        message.extend(u16::from(LEVELS).saturating_pow(3).to_be_bytes());
        let level = |index: u8| u16::from(index).saturating_mul(STEP);
        for red in 0..LEVELS {
            for green in 0..LEVELS {
                for blue in 0..LEVELS {
                    message
                        .extend([red, green, blue].into_iter().flat_map(|index| level(index).to_be_bytes()));
                }
            }
        }
        Some(message)
    }
}

/// Whether each channel is in the pixel and in no other.
fn check(channels: [Channel; 3], bits_per_pixel: u8) -> Result<(), PixelFormatError> {
    let mut taken = 0;
    for (channel, name) in channels.into_iter().zip(["red", "green", "blue"]) {
        if channel.max == 0 {
            return Err(PixelFormatError::NoMaximum { channel: name });
        }
        let width = u16::BITS.saturating_sub(channel.max.leading_zeros());
        let end = u32::from(channel.shift).saturating_add(width);
        if end > bits_per_pixel.into() {
            let (shift, last) = (channel.shift, end.saturating_sub(1));
            return Err(PixelFormatError::OutsidePixel { channel: name, shift, last, bits_per_pixel });
        }
        if taken & channel.mask() != 0 {
            return Err(PixelFormatError::Overlap { channel: name });
        }
        taken |= channel.mask();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SERVER: [u8; 16] = [32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0];

    fn with(changes: &[(usize, u8)]) -> Result<PixelFormat, PixelFormatError> {
        let mut bytes = SERVER;
        for (at, byte) in changes {
            bytes[*at] = *byte;
        }
        PixelFormat::parse(&bytes)
    }

    #[test]
    fn the_server_s_own_goes_both_ways() {
        assert_eq!(PixelFormat::parse(&SERVER), Ok(PixelFormat::SERVER));
        assert_eq!(PixelFormat::SERVER.to_bytes(), SERVER);
        assert_eq!(PixelFormat::SERVER.used_bits(), 0x00ff_ffff);
    }

    #[test]
    fn hostile_formats_are_named() {
        for found in [0, 1, 24, 64, 255] {
            assert_eq!(with(&[(0, found)]), Err(PixelFormatError::BitsPerPixel { found }));
        }
        for found in [0, 33, 255] {
            assert_eq!(with(&[(1, found)]), Err(PixelFormatError::Depth { found, bits_per_pixel: 32 }));
        }
        assert_eq!(with(&[(7, 0)]), Err(PixelFormatError::NoMaximum { channel: "green" }));
        assert_eq!(
            with(&[(10, 25)]),
            Err(PixelFormatError::OutsidePixel { channel: "red", shift: 25, last: 32, bits_per_pixel: 32 })
        );
        assert!(matches!(with(&[(12, 255)]), Err(PixelFormatError::OutsidePixel { channel: "blue", .. })));
        assert_eq!(with(&[(11, 9)]), Err(PixelFormatError::Overlap { channel: "green" }));
        assert_eq!(with(&[(3, 0)]), Err(PixelFormatError::ColourMap { found: 32 }));
    }

    #[test]
    fn errors_say_what_was_expected() {
        let text = with(&[(10, 25)]).unwrap_err().to_string();
        assert_eq!(text, "red takes bits 25 to 32 of a pixel that has 32");
    }

    #[test]
    fn a_colour_map_has_the_colours_it_is_indexed_by() {
        let format = PixelFormat::parse(&[8, 8, 1, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9]).unwrap();
        assert_eq!(PixelFormat::parse(&format.to_bytes()), Ok(format));
        assert!(PixelFormat::SERVER.colour_map_message().is_none());
        let message = format.colour_map_message().unwrap();
        assert_eq!(message[..6], [1, 0, 0, 0, 0, 216]);
        assert_eq!(message.len(), 6 + 216 * 6);
        let [red, green, blue] = format.tables();
        for level in 0..=5u8 {
            let intensity = level * 51;
            let index = (red[255] + green[usize::from(intensity)] + blue[0]) as usize;
            let entry = &message[6 + index * 6..][..6];
            assert_eq!(entry, [255, 255, intensity, intensity, 0, 0], "exact where a level is");
        }
    }

    #[test]
    fn odd_maxima_are_scaled_to() {
        let format = PixelFormat::parse(&[16, 16, 1, 1, 0, 100, 0, 9, 0, 1, 0, 7, 15, 0, 0, 0]).unwrap();
        let [red, green, blue] = format.tables();
        assert_eq!((red[0], red[128], red[255]), (0, 50, 100));
        assert_eq!((green[127], green[255]), (4 << 7, 9 << 7));
        assert_eq!((blue[127], blue[128]), (0, 1 << 15));
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_comes_back_and_stays_in_its_bits(bytes: [u8; 16], like_server: [bool; 16]) {
            let mut bytes = bytes;
            for (at, keep) in like_server.into_iter().enumerate() {
                if keep {
                    bytes[at] = SERVER[at];
                }
            }
            if let Ok(format) = PixelFormat::parse(&bytes) {
                prop_assert_eq!(PixelFormat::parse(&format.to_bytes()), Ok(format));
                let [red, green, blue] = format.tables();
                let white = red[255] + green[255] + blue[255];
                prop_assert_eq!(white & !format.used_bits(), 0);
            }
        }
    }
}
