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

/// Numbers at which arithmetic turns, for tests that try all combinations of them.
#[cfg(test)]
pub(crate) mod edges {
    /// Ends, signs, pages and what fits 16 bits, each with its neighbours.
    pub(crate) const U32: [u32; 21] = [
        0,
        1,
        2,
        3,
        4,
        5,
        4095,
        4096,
        4097,
        65534,
        65535,
        65536,
        65537,
        0x7fff_ffff,
        0x8000_0000,
        0x8000_0001,
        0xffff_efff,
        0xffff_f000,
        0xffff_fffd,
        0xffff_fffe,
        0xffff_ffff,
    ];

    /// The same, those of 64 bits, and those between.
    pub(crate) fn u64() -> Vec<u64> {
        let large = [1 << 32, 1 << 52, 1 << 63, u64::MAX - 0xfff, u64::MAX].into_iter();
        let around = |edge: u64| [edge.wrapping_sub(1), edge, edge.wrapping_add(1)];
        U32.map(u64::from).into_iter().chain(large.flat_map(around)).collect()
    }
}
