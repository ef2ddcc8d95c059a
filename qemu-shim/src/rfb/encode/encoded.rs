//! Rectangles encoded once, for any number of clients.
//!
//! A client's Zlib, ZRLE or Tight stream starts with the 2 bytes of RFC 1950 before the first block that this client gets,
//! and the length of that block counts them. All else is the same for all, so what is kept is the common bytes and what to
//! put in the few places where a client that is new to a stream needs other ones.
//!
//! Tight could start its streams anew for each update. It does not: noVNC (1.7, by its pako) forgets the history of a stream
//! that was started anew, and fails at the second rectangle.

use super::tight::compact_length;

/// The head of a zlib stream: deflate with a window of 32 KiB (RFC 1950 §2.2); 0x7801 is a multiple of 31.
const ZLIB_HEADER: [u8; 2] = [0x78, 0x01];

/// Most parts of an update: one before, between and after each of Tight's streams, and those.
pub const PARTS: usize = 7;

/// A stream that lasts as long as a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Zlib,
    Zrle,
    /// Tight's, by its number, 0 to 3.
    Tight(u8),
}

impl Stream {
    /// Its bit in [`ClientStreams`].
    fn bit(self) -> u8 {
        match self {
            Self::Zlib => 1,
            Self::Zrle => 2,
            Self::Tight(number) => 4 << (number & 3),
        }
    }
}

/// Which streams a client has seen the start of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientStreams(u8);

impl ClientStreams {
    /// Whether the client has seen it; from now on it has.
    fn see(&mut self, stream: Stream) -> bool {
        let seen = self.0 & stream.bit() != 0;
        self.0 |= stream.bit();
        seen
    }
}

/// The first block of a stream in an update.
#[derive(Debug)]
struct Opening {
    stream: Stream,
    /// Where the block's length is, and how many bytes it has.
    at: usize,
    size: usize,
    /// The length of a block with the stream's header, and that header.
    bytes: Vec<u8>,
}

/// The rectangles of one update. Kept by whoever encodes, its memory is used again.
#[derive(Debug, Default)]
pub struct Encoded {
    bytes: Vec<u8>,
    count: u16,
    /// In the order of their places, each of another stream.
    openings: Vec<Opening>,
}

impl Encoded {
    /// How many rectangles there are, for the head of the update. An encoding may need more than it was given.
    #[must_use]
    pub fn count(&self) -> u16 {
        self.count
    }

    /// Bytes of all rectangles, give or take the few that start a client's streams.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are no rectangles.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The bytes for one client, in parts to be sent one after the other, and notes which streams it has seen.
    ///
    /// Call it once for each client and update, and send all of it: the client's streams depend on it.
    pub fn parts(&self, seen: &mut ClientStreams) -> [&[u8]; PARTS] {
        let mut parts = [&[][..]; PARTS];
        let mut places = parts.iter_mut();
        let mut put = |part| places.next().map(|place| *place = part).unwrap_or_default();
        let mut start = 0;
        for opening in &self.openings {
            if !seen.see(opening.stream) {
                put(self.bytes.get(start..opening.at).unwrap_or_default());
                put(&opening.bytes);
                start = opening.at.saturating_add(opening.size);
            }
        }
        put(self.bytes.get(start..).unwrap_or_default());
        parts
    }

    /// Appends the bytes for one client; see [`Self::parts`].
    pub fn write(&self, seen: &mut ClientStreams, out: &mut Vec<u8>) {
        for part in self.parts(seen) {
            out.extend_from_slice(part);
        }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
        self.openings.clear();
    }

    /// Counts one more rectangle, whose bytes are to be appended.
    pub(super) fn begin(&mut self) -> &mut Vec<u8> {
        self.count = self.count.saturating_add(1);
        &mut self.bytes
    }

    /// Where more bytes of the rectangle that was begun are to be appended.
    pub(super) fn more(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The block of a stream that ends here has its length at `at`.
    pub(super) fn block(&mut self, stream: Stream, at: usize) {
        super::rect::fill_length(at, &mut self.bytes);
        if self.opens(stream) {
            let with_header = self.bytes.len().saturating_sub(at + 4) + ZLIB_HEADER.len();
            let length = u32::try_from(with_header).unwrap_or(u32::MAX).to_be_bytes();
            self.openings.push(Opening { stream, at, size: 4, bytes: [&length[..], &ZLIB_HEADER].concat() });
        }
    }

    /// Appends a block of one of Tight's streams, with its length.
    pub(super) fn tight_block(&mut self, number: u8, block: &[u8]) {
        let at = self.bytes.len();
        compact_length(block.len(), &mut self.bytes);
        let stream = Stream::Tight(number);
        if self.opens(stream) {
            let size = self.bytes.len().saturating_sub(at);
            let mut bytes = Vec::new();
            compact_length(block.len().saturating_add(ZLIB_HEADER.len()), &mut bytes);
            bytes.extend(ZLIB_HEADER);
            self.openings.push(Opening { stream, at, size, bytes });
        }
        self.bytes.extend_from_slice(block);
    }

    /// Whether the next block of a stream is its first in this update.
    fn opens(&self, stream: Stream) -> bool {
        self.openings.iter().all(|opening| opening.stream != stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded() -> Encoded {
        let mut encoded = Encoded::default();
        encoded.begin().extend(*b"head");
        encoded.begin().extend(*b"\0\0\0\0abc");
        encoded.block(Stream::Zrle, 4);
        encoded.begin().extend(*b"\0\0\0\0de");
        encoded.block(Stream::Zrle, 11);
        encoded
    }

    fn written(encoded: &Encoded, seen: &mut ClientStreams) -> Vec<u8> {
        let mut out = Vec::new();
        encoded.write(seen, &mut out);
        out
    }

    #[test]
    fn the_first_block_of_a_client_has_the_header() {
        let encoded = encoded();
        assert_eq!((encoded.count(), encoded.len()), (3, 17));
        let mut seen = ClientStreams::default();
        assert_eq!(written(&encoded, &mut seen), b"head\0\0\0\x05\x78\x01abc\0\0\0\x02de");
        assert_eq!(written(&encoded, &mut seen), b"head\0\0\0\x03abc\0\0\0\x02de");
        assert!(seen.see(Stream::Zrle) && !seen.see(Stream::Zlib));
    }

    #[test]
    fn each_of_tights_streams_starts_once() {
        let mut encoded = Encoded::default();
        encoded.begin().push(b'a');
        encoded.tight_block(0, b"one");
        encoded.begin().push(b'b');
        encoded.tight_block(2, &[b'-'; 126]);
        encoded.tight_block(0, b"two");
        encoded.begin().push(b'c');
        let long = [b'-'; 126];
        let mut seen = ClientStreams::default();
        let first = [b"a\x05\x78\x01oneb\x80\x01\x78\x01", &long[..], b"\x03twoc"].concat();
        assert_eq!(written(&encoded, &mut seen), first);
        assert_eq!(written(&encoded, &mut seen), [b"a\x03oneb\x7e", &long[..], b"\x03twoc"].concat());
        let mut seen = ClientStreams::default();
        seen.see(Stream::Tight(0));
        assert_eq!(written(&encoded, &mut seen)[..8], *b"a\x03oneb\x80\x01");
    }

    #[test]
    fn cleared_is_empty() {
        let mut encoded = encoded();
        encoded.clear();
        assert!(encoded.is_empty());
        assert!(written(&encoded, &mut ClientStreams::default()).is_empty());
    }
}
