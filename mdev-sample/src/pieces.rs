//! How an access of any length is carried out: in pieces that registers understand.

use std::ops::Range;

/// The pieces of an access to `len` bytes at `at`: four bytes or two where the place and the rest of the length allow it,
/// else one. So the kernel's mdpy and mbochs cut what comes to their descriptors (`mdpy_read`, `mbochs_read` and their
/// writes), and a register is reached by an access of its width at its place, alone or within a longer one. Each piece is
/// its place and which of the bytes it has.
pub(crate) fn pieces(at: u64, len: usize) -> impl Iterator<Item = (u64, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let (place, left) = (at.checked_add(u64::try_from(done).ok()?)?, len.checked_sub(done)?);
        let width = match left {
            0 => return None,
            4.. if place.is_multiple_of(4) => 4,
            2.. if place.is_multiple_of(2) => 2,
            _ => 1,
        };
        let start = done;
        done = start.checked_add(width)?;
        Some((place, start..done))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pieces_are_as_wide_as_place_and_length_allow() {
        let widths = |at, len| pieces(at, len).map(|(_, range)| range.len()).collect::<Vec<_>>();
        assert_eq!(widths(0x1000, 8), [4, 4]);
        assert_eq!(widths(0x1001, 8), [1, 2, 4, 1]);
        assert_eq!(widths(0x1002, 4), [2, 2]);
        assert_eq!(widths(0x1000, 7), [4, 2, 1]);
        assert_eq!(widths(0x1000, 0), [0; 0]);
    }

    proptest! {
        #[test]
        fn pieces_cover_an_access_in_order(at in 0..u64::MAX - 100, len in 0..100usize) {
            let mut end = 0;
            for (place, range) in pieces(at, len) {
                prop_assert_eq!((place, range.start), (at + end as u64, end));
                prop_assert!(place.is_multiple_of(range.len() as u64));
                end = range.end;
            }
            prop_assert_eq!(end, len);
        }
    }
}
