//! The short messages of a server, apart from pictures.

use super::message::Fence;

/// Bytes of a desktop's name that are sent; longer ones are cut.
pub const MAX_NAME: usize = 1024;

/// `ServerInit`: the size of the screen in pixels, the server's pixel format (RFC 6143 §7.4) and the desktop's name, which
/// is cut behind [`MAX_NAME`] bytes.
#[must_use]
pub fn server_init(width: u16, height: u16, pixel_format: [u8; 16], name: &str) -> Vec<u8> {
    let ends = name.char_indices().map(|(at, c)| at.saturating_add(c.len_utf8()));
    let end = ends.take_while(|end| *end <= MAX_NAME).last().unwrap_or(0);
    let name = name.get(..end).unwrap_or_default();
    let mut message = Vec::new();
    message.extend(width.to_be_bytes());
    message.extend(height.to_be_bytes());
    message.extend(pixel_format);
    message.extend(counted(name.as_bytes()));
    message
}

/// Bytes with their number before them, as a big-endian word.
pub(super) fn counted(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    length.to_be_bytes().into_iter().chain(bytes.iter().copied()).collect()
}

/// `EndOfContinuousUpdates`: sent once to say that the server knows continuous updates, and as the answer to a client that
/// disables them.
pub const END_OF_CONTINUOUS_UPDATES: [u8; 1] = [150];

/// `ServerFence`: asks for a fence, or answers one.
#[must_use]
pub fn server_fence(fence: &Fence) -> Vec<u8> {
    let mut message = vec![248, 0, 0, 0];
    message.extend(fence.flags.to_be_bytes());
    message.push(u8::try_from(fence.payload.len()).unwrap_or(u8::MAX));
    message.extend(fence.payload.iter().take(usize::from(u8::MAX)));
    message
}

/// The server's `xvp` message `XVP_FAIL`: shutdown, reboot and reset are not ours to do.
///
/// `version` is that of the client's message.
#[must_use]
pub fn xvp_fail(version: u8) -> [u8; 4] {
    [250, 0, version, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_is_size_format_and_name() {
        let format = *b"0123456789abcdef";
        assert_eq!(
            server_init(0x0102, 0x0304, format, "vm"),
            b"\x01\x02\x03\x040123456789abcdef\0\0\0\x02vm"
        );
        let long = server_init(1, 1, format, &"\u{e9}".repeat(MAX_NAME));
        assert_eq!(long.len(), 24 + MAX_NAME);
        let long = server_init(1, 1, format, &format!("x{}", "\u{e9}".repeat(MAX_NAME)));
        assert_eq!(long.len(), 24 + MAX_NAME - 1, "characters stay whole");
    }

    #[test]
    fn a_fence_carries_flags_and_payload() {
        let fence = Fence { flags: 0x8000_0001, payload: b"abc".to_vec() };
        assert_eq!(server_fence(&fence), b"\xf8\0\0\0\x80\0\0\x01\x03abc");
    }
}
