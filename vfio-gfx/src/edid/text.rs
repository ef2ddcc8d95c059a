//! The text of a display descriptor: at most 13 characters.

/// Characters a text descriptor holds at most.
pub const TEXT_MAX: usize = 13;

/// What is wrong with a text for a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Nothing in it, or too much.
    #[error("expected 1 to 13 characters, found {found} bytes")]
    Length {
        /// Its length in bytes.
        found: usize,
    },
    /// A character that is not printable ASCII.
    #[error("expected printable ASCII, found byte {found:#04x} at {position}")]
    Character {
        /// The byte there.
        found: u8,
        /// Where, counted from 0.
        position: usize,
    },
    /// A space at either end, which a reader could not tell from padding.
    #[error("expected no space at either end")]
    Space,
}

/// Text from a descriptor. Bytes that are not printable ASCII were replaced by `?`, so that it is safe to
/// print wherever it comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text {
    bytes: [u8; TEXT_MAX],
    len: usize,
}

impl Text {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.len).unwrap_or_default();
        // only printable ASCII gets in, so this is always text
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// Reads a descriptor's text: up to the line feed that ends it, without trailing spaces.
    pub(super) fn decode(mut bytes: [u8; TEXT_MAX]) -> Self {
        let end = bytes.iter().position(|&b| b == b'\n').unwrap_or(TEXT_MAX);
        for byte in &mut bytes {
            if !is_printable(*byte) {
                *byte = b'?';
            }
        }
        let text = bytes.get(..end).unwrap_or_default();
        Self { bytes, len: text.trim_ascii_end().len() }
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// The text as a descriptor stores it: ended by a line feed, padded with spaces (E-EDID 3.10.3.1).
pub(super) fn encode(text: &str) -> Result<[u8; TEXT_MAX], TextError> {
    let bytes = text.as_bytes();
    if bytes.is_empty() || bytes.len() > TEXT_MAX {
        return Err(TextError::Length { found: bytes.len() });
    }
    if let Some((position, &found)) = bytes.iter().enumerate().find(|&(_, &b)| !is_printable(b)) {
        return Err(TextError::Character { found, position });
    }
    if bytes.trim_ascii().len() != bytes.len() {
        return Err(TextError::Space);
    }
    let padding = std::iter::once(b'\n').chain(std::iter::repeat(b' '));
    let mut out = [0; TEXT_MAX];
    for (slot, byte) in out.iter_mut().zip(bytes.iter().copied().chain(padding)) {
        *slot = byte;
    }
    Ok(out)
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padded_and_read_back() {
        for text in ["a", "vGPU 12", "exactly 13 ch"] {
            let stored = encode(text).unwrap();
            assert_eq!(Text::decode(stored).as_str(), text);
        }
        assert_eq!(&encode("Monitor").unwrap(), b"Monitor\n     ");
    }

    #[test]
    fn refuses_what_cannot_be_stored() {
        assert_eq!(encode(""), Err(TextError::Length { found: 0 }));
        assert_eq!(encode("fourteen chars"), Err(TextError::Length { found: 14 }));
        assert_eq!(encode("a\nb"), Err(TextError::Character { found: b'\n', position: 1 }));
        assert_eq!(encode("é"), Err(TextError::Character { found: 0xc3, position: 0 }));
        assert_eq!(encode("a "), Err(TextError::Space));
    }

    #[test]
    fn hostile_text_is_made_printable() {
        assert_eq!(Text::decode(*b"\x1b[2J\x07\xff ok\nzzz").as_str(), "?[2J?? ok");
        assert_eq!(Text::decode([b' '; 13]).as_str(), "");
    }
}
