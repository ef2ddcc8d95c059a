//! What a client can say once it sees the desktop.

use thiserror::Error;

use crate::damage::Rect;
use crate::input::Key;

/// Bytes of a fence's payload, at most (rfbproto "ClientFence").
pub const MAX_FENCE_PAYLOAD: usize = 64;

/// Encodings of a `SetEncodings` that are kept; the others, less liked by the client, are not.
pub const MAX_ENCODINGS: usize = 256;

/// A message of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage {
    /// The pixel format of every update from now on, as bytes (RFC 6143 §7.4).
    SetPixelFormat([u8; 16]),
    /// What the client can do, of which the first [`MAX_ENCODINGS`]; see [`Encodings`](super::encodings::Encodings).
    SetEncodings(Vec<i32>),
    /// The client wants to know of a part of the screen, which may be off it.
    FramebufferUpdateRequest {
        /// Only what changed.
        incremental: bool,
        /// Which part.
        rect: Rect,
    },
    /// A key. From `QEMU Extended Key Event` too, which tells the key's place.
    Key {
        /// Which one.
        key: Key,
        /// Whether it is down. Repeated while it is held.
        down: bool,
    },
    /// The pointer.
    Pointer {
        /// Pixels from the left.
        x: u16,
        /// Pixels from the top.
        y: u16,
        /// [`buttons`](crate::input::buttons) that are down.
        buttons: u16,
    },
    /// The client's clipboard had so many bytes; they are gone.
    CutText {
        /// How many.
        length: u32,
    },
    /// Updates shall come, or stop coming, without requests.
    EnableContinuousUpdates {
        /// Come.
        enable: bool,
        /// Of which part of the screen.
        rect: Rect,
    },
    /// A fence, or the answer to one.
    Fence(Fence),
    /// `xvp`: shut down (2), reboot (3) or reset (4) the machine.
    Xvp {
        /// Of the extension.
        version: u8,
        /// What to do.
        code: u8,
    },
    /// The screen shall have another size.
    SetDesktopSize {
        /// Pixels.
        width: u16,
        /// Pixels.
        height: u16,
        /// The monitors on it.
        screens: Vec<Screen>,
    },
}

/// A monitor of a desktop (rfbproto "ExtendedDesktopSize").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Screen {
    /// Chosen by who made it, kept by everyone.
    pub id: u32,
    /// Where on the desktop it is.
    pub rect: Rect,
    /// No flags are defined; they are kept.
    pub flags: u32,
}

/// A mark in the stream of messages (rfbproto "ClientFence").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Bits of [`Fence`]'s constants.
    pub flags: u32,
    /// Comes back as it is; at most [`MAX_FENCE_PAYLOAD`] bytes.
    pub payload: Vec<u8>,
}

impl Fence {
    /// What was before the fence is done before the answer.
    pub const BLOCK_BEFORE: u32 = 1 << 0;
    /// What is behind the fence is not begun before the answer.
    pub const BLOCK_AFTER: u32 = 1 << 1;
    /// The next message takes effect just where the answer stands.
    pub const SYNC_NEXT: u32 = 1 << 2;
    /// It asks for an answer.
    pub const REQUEST: u32 = 1 << 31;

    /// The answer, if it asks for one: the bits that we know, the same payload.
    #[must_use]
    pub fn answer(self) -> Option<Self> {
        let known = Self::BLOCK_BEFORE | Self::BLOCK_AFTER | Self::SYNC_NEXT;
        let answer = Self { flags: self.flags & known, payload: self.payload };
        (self.flags & Self::REQUEST != 0).then_some(answer)
    }
}

/// Why a connection cannot go on: where the next message begins is not known any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MessageError {
    /// Nobody told the client that it may send this, and its length is not known.
    #[error("expected a message of type 0, 2-6, 150, 248, 250, 251 or 255, found type {0}")]
    UnknownType(u8),
    /// The same inside QEMU's messages.
    #[error("expected QEMU message 0, an extended key event, found {0}")]
    UnknownQemuMessage(u8),
    /// Longer than the protocol allows.
    #[error("expected a fence of at most {MAX_FENCE_PAYLOAD} bytes, found {0}")]
    FencePayload(u8),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_answered_with_what_we_know() {
        let fence = |flags| Fence { flags, payload: b"x".to_vec() };
        assert_eq!(fence(0xffff_ffff).answer(), Some(fence(7)));
        assert_eq!(fence(Fence::REQUEST).answer(), Some(fence(0)));
        assert_eq!(fence(0x7fff_ffff).answer(), None, "an answer is not answered");
    }
}
