//! Conversions that lose nothing, for which the standard library has no `From`: it allows for 16-bit machines, and for ones of
//! more than 64 bits.
#![expect(clippy::as_conversions, reason = "the widths are compared below")]

const _: () = assert!(u32::BITS <= usize::BITS && usize::BITS <= u64::BITS);

/// An index or count of the ABI, as one of ours.
pub(crate) const fn to_usize(number: u32) -> usize {
    number as usize
}

/// A length of ours, as one of the ABI.
pub(crate) const fn to_u64(len: usize) -> u64 {
    len as u64
}
