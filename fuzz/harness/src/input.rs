//! Bytes into numbers.
//!
//! Everything is read from the front and costs few bytes, so that a mutation changes one operation and not all that
//! follow, and so that seeds can be written down. An input that has run out goes on with zeros.

use arbitrary::Unstructured;

/// Numbers at which the code under test turns: sizes of ABI structs and one off, powers of two, the ends.
const INTERESTING: [u32; 64] = [
    59,
    60,
    61,
    63,
    64,
    65,
    79,
    80,
    96,
    127,
    128,
    129,
    255,
    256,
    257,
    384,
    400,
    480,
    511,
    512,
    600,
    640,
    642,
    768,
    800,
    1023,
    1024,
    1025,
    1080,
    1280,
    1366,
    1440,
    1920,
    2047,
    2048,
    2049,
    4080,
    4095,
    4096,
    4097,
    8191,
    8192,
    16383,
    16384,
    16385,
    32767,
    32768,
    65534,
    65535,
    65536,
    65537,
    0xf_ffff,
    0x10_0000,
    0x10_0001,
    0x3f_f000,
    0x3f_ffff,
    0x40_0000,
    0xff_ffff,
    0x0100_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_f000,
    0xffff_fffe,
    0xffff_ffff,
];

/// A fuzzer's input, read front to back.
pub(crate) struct Input<'a>(Unstructured<'a>);

impl<'a> Input<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self(Unstructured::new(data))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Any value of an integer type, from as many bytes as it has.
    pub(crate) fn any<T: for<'b> arbitrary::Arbitrary<'b> + Default>(&mut self) -> T {
        self.0.arbitrary().unwrap_or_default()
    }

    /// One byte.
    pub(crate) fn byte(&mut self) -> u8 {
        self.any()
    }

    /// Yes or no.
    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 != 0
    }

    /// Any number, the interesting ones in a single byte: 0 to 63, [`INTERESTING`], or (from 128 on) four more bytes.
    pub(crate) fn number(&mut self) -> u32 {
        match self.byte() {
            small @ 0..64 => u32::from(small),
            known @ 64..128 => INTERESTING[usize::from(known - 64)],
            _ => self.any(),
        }
    }

    /// As [`Input::number`], and 64-bit ones.
    pub(crate) fn number64(&mut self) -> u64 {
        if self.byte() & 0x3f == 0x3f { self.any() } else { u64::from(self.number()) }
    }

    /// One of several.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    /// At most `len` bytes, fewer at the end.
    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        self.0.bytes(len.min(self.0.len())).unwrap_or_default()
    }

    /// At most `max` bytes, of a number that comes first.
    pub(crate) fn some_bytes(&mut self, max: usize) -> &'a [u8] {
        let len = usize::from(self.byte()).min(max);
        self.bytes(len)
    }

    /// What is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        self.bytes(usize::MAX)
    }
}
