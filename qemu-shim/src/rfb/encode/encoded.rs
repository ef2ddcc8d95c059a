//! Rectangles encoded once, for any number of clients.
//!
//! A client's Zlib or ZRLE stream starts with the 2 bytes of RFC 1950 before the first block that this client gets, and the
//! length of that block counts them. All else is the same for all, so what is kept is the common bytes and what to put in
//! the one place where a client that is new to the stream needs other ones.

/// The head of a zlib stream: deflate with a window of 32 KiB (RFC 1950 §2.2); 0x7801 is a multiple of 31.
const ZLIB_HEADER: [u8; 2] = [0x78, 0x01];

/// A stream that lasts as long as a connection. Those of Tight do not: each update starts them anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Zlib,
    Zrle,
}

/// Which streams a client has seen the start of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientStreams {
    zlib: bool,
    zrle: bool,
}

/// The first block of a stream in an update.
#[derive(Clone, Copy, Debug)]
struct Opening {
    stream: Stream,
    /// Where the block's length is.
    at: usize,
    /// The length of a block with the stream's header, and that header.
    bytes: [u8; 6],
}

/// The rectangles of one update. Kept by whoever encodes, its memory is used again.
#[derive(Debug, Default)]
pub struct Encoded {
    bytes: Vec<u8>,
    count: u16,
    opening: Option<Opening>,
}

impl Encoded {
    /// How many rectangles there are, for the head of the update. An encoding may need more than it was given.
    #[must_use]
    pub fn count(&self) -> u16 {
        self.count
    }

    /// Bytes of all rectangles, give or take the 2 that start a client's stream.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are no rectangles.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The bytes for one client, in three parts to be sent one after the other, and notes which streams it has seen.
    ///
    /// Call it once for each client and update, and send all of it: the client's streams depend on it.
    pub fn parts(&self, seen: &mut ClientStreams) -> [&[u8]; 3] {
        let whole = [self.bytes.as_slice(), &[], &[]];
        let Some(opening) = &self.opening else { return whole };
        let seen = match opening.stream {
            Stream::Zlib => &mut seen.zlib,
            Stream::Zrle => &mut seen.zrle,
        };
        if std::mem::replace(seen, true) {
            return whole;
        }
        let (before, rest) = self.bytes.split_at_checked(opening.at).unwrap_or_default();
        [before, &opening.bytes, rest.get(4..).unwrap_or_default()]
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
        self.opening = None;
    }

    /// Counts one more rectangle, whose bytes are to be appended.
    pub(super) fn begin(&mut self) -> &mut Vec<u8> {
        self.count = self.count.saturating_add(1);
        &mut self.bytes
    }

    /// The block of a stream that ends here has its length at `at`.
    pub(super) fn block(&mut self, stream: Stream, at: usize) {
        super::rect::fill_length(at, &mut self.bytes);
        if self.opening.is_none() {
            let with_header = self.bytes.len().saturating_sub(at + 4) + ZLIB_HEADER.len();
            let [a, b, c, d] = u32::try_from(with_header).unwrap_or(u32::MAX).to_be_bytes();
            let [e, f] = ZLIB_HEADER;
            self.opening = Some(Opening { stream, at, bytes: [a, b, c, d, e, f] });
        }
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
        assert_eq!(seen, ClientStreams { zlib: false, zrle: true });
    }

    #[test]
    fn cleared_is_empty() {
        let mut encoded = encoded();
        encoded.clear();
        assert!(encoded.is_empty());
        assert!(written(&encoded, &mut ClientStreams::default()).is_empty());
    }
}
