//! EBML, the binary XML that Matroska files are made of (RFC 8794): elements of an id, a size, and a payload that is
//! bytes or more elements.

/// A size that is not known yet: the payload goes on until something comes that cannot be in it (RFC 8794, 6.2), in eight
/// bytes like a size that replaces it.
pub(super) const UNKNOWN_SIZE: [u8; 8] = [0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

/// Bytes of an id and of a one-byte size, for elements that are replaced in place.
pub(super) const VOID_HEADER: usize = 2;

/// The element that says nothing (RFC 8794, 11.3.2).
const VOID: u32 = 0xec;

/// Elements one after the other, in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Elements(Vec<u8>);

impl Elements {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// An id as it is in the file: its length is in its first byte, so that leading zeros are not part of it.
    pub(super) fn id(&mut self, id: u32) -> &mut Self {
        let bytes = id.to_be_bytes();
        let start = bytes.iter().take_while(|byte| **byte == 0).count();
        self.0.extend_from_slice(bytes.get(start..).unwrap_or_default());
        self
    }

    /// Raw bytes.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// An element of bytes that come in pieces.
    pub(super) fn bytes(&mut self, id: u32, pieces: &[&[u8]]) -> &mut Self {
        let size = pieces.iter().map(|piece| piece.len() as u64).sum();
        self.id(id).raw(&size_bytes(size));
        pieces.iter().for_each(|piece| self.0.extend_from_slice(piece));
        self
    }

    /// An unsigned number, in as few bytes as it needs.
    pub(super) fn number(&mut self, id: u32, value: u64) -> &mut Self {
        let bytes = value.to_be_bytes();
        let start = bytes.iter().take_while(|byte| **byte == 0).count().min(7);
        self.bytes(id, &[bytes.get(start..).unwrap_or_default()])
    }

    /// An element of elements.
    pub(super) fn master(&mut self, id: u32, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let mut inner = Self::default();
        fill(&mut inner);
        self.bytes(id, &[inner.as_bytes()])
    }

    /// Room of so many bytes in all, at least [`VOID_HEADER`] and less than 128, for an element that is known later.
    pub(super) fn room(&mut self, total: usize) -> &mut Self {
        let zeros = [0; 127];
        let zeros = zeros.get(..total.saturating_sub(VOID_HEADER)).unwrap_or_default();
        self.bytes(VOID, &[zeros])
    }
}

/// A size as a number of variable length: as many leading zero bits as bytes follow the first. The number of all ones is not
/// for sizes that are known.
fn size_bytes(size: u64) -> Vec<u8> {
    // 127 needs two bytes: 0xff is the unknown size.
    let length = (1..8).find(|length| size < (1 << (7 * length)) - 1).unwrap_or(8);
    let marked = size | 1 << (7 * length);
    marked.to_be_bytes().get(8 - length..).unwrap_or_default().to_vec()
}

/// A size in eight bytes, which can take the place of [`UNKNOWN_SIZE`].
pub(super) fn long_size(size: u64) -> [u8; 8] {
    (size & ((1 << 56) - 1) | 1 << 56).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_as_in_the_standard() {
        for (size, bytes) in [
            (0, &[0x80][..]),
            (1, &[0x81]),
            (126, &[0xfe]),
            (127, &[0x40, 0x7f]),
            (16382, &[0x7f, 0xfe]),
            (16383, &[0x20, 0x3f, 0xff]),
            (500, &[0x41, 0xf4]),
        ] {
            assert_eq!(size_bytes(size), bytes, "{size}");
        }
        assert_eq!(long_size(2), [1, 0, 0, 0, 0, 0, 0, 2]);
    }

    #[test]
    fn elements_nest() {
        let mut elements = Elements::default();
        elements.master(0x1a45_dfa3, |header| {
            header.number(0x4286, 1).number(0xd7, 0).number(0xe7, 0x1234).bytes(0x4282, &[b"web", b"m"]);
        });
        let expected = b"\x1a\x45\xdf\xa3\x92\x42\x86\x81\x01\xd7\x81\x00\xe7\x82\x12\x34\x42\x82\x84webm";
        assert_eq!(elements.as_bytes(), expected);
        let mut room = Elements::default();
        assert_eq!(room.room(5).as_bytes(), [0xec, 0x83, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn sizes_can_be_read_again(size in 0u64..(1 << 56) - 1) {
            let bytes = size_bytes(size);
            prop_assert_eq!(bytes[0].leading_zeros() as usize + 1, bytes.len());
            let value = bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
            prop_assert_eq!(value ^ 1 << (7 * bytes.len()), size);
            prop_assert_eq!(long_size(size).len(), UNKNOWN_SIZE.len());
        }
    }
}
