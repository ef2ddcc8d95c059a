//! Reading from the front of what arrived.

/// The next `N` bytes, once they are all there; else nothing is read.
pub(super) fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(*head)
}
