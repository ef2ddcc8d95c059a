//! What a client's `SetEncodings` means: what it can decode, in its order of preference, and what else it can do.

/// An encoding of pixels that the server can do (RFC 6143 §7.7, rfbproto "Encodings").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Encoding {
    /// As they are.
    Raw = 0,
    /// From elsewhere on the client's screen.
    CopyRect = 1,
    /// Raw in one deflate stream.
    Zlib = 6,
    /// Fills, palettes, deflate, JPEG.
    Tight = 7,
    /// Tiles of runs and palettes in one deflate stream.
    Zrle = 16,
    /// Tight with PNG in place of deflate.
    TightPng = -260,
}

impl Encoding {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Raw, Self::CopyRect, Self::Zlib, Self::Tight, Self::Zrle, Self::TightPng];

    /// Its number on the wire.
    #[must_use]
    #[expect(clippy::as_conversions, reason = "the discriminants are the numbers")]
    pub const fn raw(self) -> i32 {
        self as i32
    }

    /// The encoding with this number.
    #[must_use]
    pub fn from_raw(raw: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| encoding.raw() == raw)
    }
}

/// Numbers of the pseudo-encodings that the server understands (rfbproto "Pseudo-encodings").
pub mod pseudo {
    /// The screen's size may change.
    pub const DESKTOP_SIZE: i32 = -223;
    /// An update may end before its number of rectangles.
    pub const LAST_RECT: i32 = -224;
    /// The client draws the cursor: pixels and a mask.
    pub const CURSOR: i32 = -239;
    /// A key event may tell which key it was.
    pub const QEMU_EXTENDED_KEY: i32 = -258;
    /// The desktop's name may change.
    pub const DESKTOP_NAME: i32 = -307;
    /// The screen's size may change, at the client's wish too.
    pub const EXTENDED_DESKTOP_SIZE: i32 = -308;
    /// Fences in the stream.
    pub const FENCE: i32 = -312;
    /// Updates without requests.
    pub const CONTINUOUS_UPDATES: i32 = -313;
    /// The client draws the cursor: pixels with alpha.
    pub const CURSOR_WITH_ALPHA: i32 = -314;
    /// A pointer event may tell of more than eight buttons.
    pub const EXTENDED_MOUSE_BUTTONS: i32 = -316;
    /// JPEG quality 0; each number above it is a level more, up to 9.
    pub const QUALITY_0: i32 = -32;
    /// Compression level 0; each number above it is a level more, up to 9.
    pub const COMPRESSION_0: i32 = -256;
}

/// What a client can do and wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encodings {
    /// The encodings it named, each once, what it likes best first. Raw is always allowed, named or not.
    pub order: Vec<Encoding>,
    /// JPEG quality, 0 (small) to 9 (good). Without one nothing lossy may be sent.
    pub quality: Option<u8>,
    /// How hard to compress, 0 (fast) to 9 (small).
    pub compression: Option<u8>,
    /// [`pseudo::CURSOR`]
    pub cursor: bool,
    /// [`pseudo::CURSOR_WITH_ALPHA`]
    pub cursor_with_alpha: bool,
    /// [`pseudo::DESKTOP_SIZE`]
    pub desktop_size: bool,
    /// [`pseudo::EXTENDED_DESKTOP_SIZE`]
    pub extended_desktop_size: bool,
    /// [`pseudo::LAST_RECT`]
    pub last_rect: bool,
    /// [`pseudo::DESKTOP_NAME`]
    pub desktop_name: bool,
    /// [`pseudo::FENCE`]
    pub fence: bool,
    /// [`pseudo::CONTINUOUS_UPDATES`]
    pub continuous_updates: bool,
    /// [`pseudo::QEMU_EXTENDED_KEY`]
    pub qemu_extended_key: bool,
    /// [`pseudo::EXTENDED_MOUSE_BUTTONS`]
    pub extended_mouse_buttons: bool,
}

impl Encodings {
    /// The meaning of a list. Unknown numbers mean nothing; of two levels the later one counts.
    #[must_use]
    pub fn from_list(list: &[i32]) -> Self {
        let mut all = Self::default();
        for raw in list {
            all.add(*raw);
        }
        all
    }

    fn add(&mut self, raw: i32) {
        if let Some(encoding) = Encoding::from_raw(raw) {
            if !self.order.contains(&encoding) {
                self.order.push(encoding);
            }
            return;
        }
        match raw {
            pseudo::CURSOR => self.cursor = true,
            pseudo::CURSOR_WITH_ALPHA => self.cursor_with_alpha = true,
            pseudo::DESKTOP_SIZE => self.desktop_size = true,
            pseudo::EXTENDED_DESKTOP_SIZE => self.extended_desktop_size = true,
            pseudo::LAST_RECT => self.last_rect = true,
            pseudo::DESKTOP_NAME => self.desktop_name = true,
            pseudo::FENCE => self.fence = true,
            pseudo::CONTINUOUS_UPDATES => self.continuous_updates = true,
            pseudo::QEMU_EXTENDED_KEY => self.qemu_extended_key = true,
            pseudo::EXTENDED_MOUSE_BUTTONS => self.extended_mouse_buttons = true,
            _ => {
                self.quality = level(raw, pseudo::QUALITY_0).or(self.quality);
                self.compression = level(raw, pseudo::COMPRESSION_0).or(self.compression);
            }
        }
    }

    /// Whether the client can decode this encoding.
    #[must_use]
    pub fn has(&self, encoding: Encoding) -> bool {
        encoding == Encoding::Raw || self.order.contains(&encoding)
    }
}

/// How far above `zero` a number is, if it is one of the ten levels there.
fn level(raw: i32, zero: i32) -> Option<u8> {
    let level = u8::try_from(raw.checked_sub(zero)?).ok()?;
    (level <= 9).then_some(level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_s_list() {
        // In the style of TigerVNC: best encoding, CopyRect, the others, then what else it can do.
        let list = [
            7,
            1,
            16,
            5,
            2,
            0,
            7,
            -223,
            -308,
            -224,
            -239,
            -314,
            -307,
            -312,
            -313,
            -258,
            -316,
            -254,
            -24,
            -240,
            0x574d_5664,
        ];
        let all = Encodings {
            order: vec![Encoding::Tight, Encoding::CopyRect, Encoding::Zrle, Encoding::Raw],
            quality: Some(8),
            compression: Some(2),
            cursor: true,
            cursor_with_alpha: true,
            desktop_size: true,
            extended_desktop_size: true,
            last_rect: true,
            desktop_name: true,
            fence: true,
            continuous_updates: true,
            qemu_extended_key: true,
            extended_mouse_buttons: true,
        };
        assert_eq!(Encodings::from_list(&list), all);
        assert!(all.has(Encoding::Zrle) && !all.has(Encoding::Zlib));
    }

    #[test]
    fn nothing_said_is_raw_and_lossless() {
        let none = Encodings::from_list(&[i32::MIN, i32::MAX, -22, -33, -246, -257]);
        assert_eq!(none, Encodings::default());
        assert!(none.has(Encoding::Raw));
    }

    #[test]
    fn levels_have_ends_and_the_later_one_counts() {
        let levels = |list: &[i32]| {
            let all = Encodings::from_list(list);
            (all.quality, all.compression)
        };
        assert_eq!(levels(&[-32, -256]), (Some(0), Some(0)));
        assert_eq!(levels(&[-23, -247]), (Some(9), Some(9)));
        assert_eq!(levels(&[-23, -247, -30, -250]), (Some(2), Some(6)));
    }

    #[test]
    fn numbers_come_back() {
        for encoding in Encoding::ALL {
            assert_eq!(Encoding::from_raw(encoding.raw()), Some(encoding));
        }
    }
}
