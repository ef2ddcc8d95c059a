//! A guest of three ranges in two memfds, and what a device may do there.

use super::*;
use crate::memory::{BufferKind, PAGE_SIZE, Udmabuf, Vram};
use proptest::prelude::*;
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;

const RW: DmaAccess = DmaAccess::READ.union(DmaAccess::WRITE);

/// Pages 0-3 and 8-11 are one memfd, each half of it, the second half first; pages 4-7 are another, read-only; pages 12-15
/// came without memory.
fn guest() -> (GuestMemory, Vram, Vram) {
    let (ram, rom) = (Vram::new("ram", 8 * PAGE_SIZE).unwrap(), Vram::new("rom", 4 * PAGE_SIZE).unwrap());
    let memory = GuestMemory::default();
    let of = |vram: &Vram, page| Some((vram.file().try_clone().unwrap().into(), page * PAGE_SIZE));
    let size = 4 * PAGE_SIZE;
    memory.map(0, size, RW, of(&ram, 4)).unwrap();
    memory.map(4 * PAGE_SIZE, size, DmaAccess::READ, of(&rom, 0)).unwrap();
    memory.map(8 * PAGE_SIZE, size, RW, of(&ram, 0)).unwrap();
    memory.map(12 * PAGE_SIZE, size, RW, None).unwrap();
    (memory, ram, rom)
}

/// A memfd that anybody can shrink.
fn unsealed() -> File {
    memfd_create("unsealed", MemfdFlags::CLOEXEC).unwrap().into()
}

#[test]
fn an_access_crosses_ranges_and_is_live() {
    let (memory, ram, rom) = guest();
    ram.write(8 * PAGE_SIZE - 3, b"end").unwrap();
    rom.write(0, b"start").unwrap();
    let mut data = [0; 8];
    memory.read(4 * PAGE_SIZE - 3, &mut data).unwrap();
    assert_eq!(&data, b"endstart");
    memory.write(8 * PAGE_SIZE + 1, b"ours").unwrap();
    let mut back = [0; 4];
    ram.read(1, &mut back).unwrap();
    assert_eq!(&back, b"ours");
    memory.read(100 * PAGE_SIZE, &mut []).unwrap();
}

#[test]
fn what_was_not_granted_is_not_touched() {
    let (memory, ram, _rom) = guest();
    let at = 4 * PAGE_SIZE - 2;
    let refused = memory.write(at, b"across").unwrap_err();
    assert!(
        matches!(refused, GuestMemoryError::NotGranted { address, .. } if address == 4 * PAGE_SIZE),
        "{refused}"
    );
    let mut back = [0; 2];
    ram.read(8 * PAGE_SIZE - 2, &mut back).unwrap();
    assert_eq!(back, [0; 2], "not the first part either");
    assert!(matches!(memory.read(12 * PAGE_SIZE, &mut [0]), Err(GuestMemoryError::NotShared(_))));
    for address in [16 * PAGE_SIZE, u64::MAX] {
        assert!(matches!(memory.read(address, &mut [0; 2]), Err(GuestMemoryError::NotMapped(_))));
    }
    assert!(matches!(memory.read(16 * PAGE_SIZE - 1, &mut [0; 2]), Err(GuestMemoryError::NotShared(_))));
}

#[test]
fn memory_that_was_cut_short_is_an_error() {
    let file = unsealed();
    file.set_len(2 * PAGE_SIZE).unwrap();
    let memory = GuestMemory::default();
    memory.map(0, 2 * PAGE_SIZE, RW, Some((file.try_clone().unwrap().into(), 0))).unwrap();
    memory.read(PAGE_SIZE, &mut [0; 16]).unwrap();
    file.set_len(PAGE_SIZE).unwrap();
    let cut = memory.read(PAGE_SIZE - 1, &mut [0; 16]).unwrap_err();
    assert!(matches!(cut, GuestMemoryError::Io { .. }), "{cut}");
    for (address, len) in [(PAGE_SIZE, 1), (PAGE_SIZE - 1, 16), (2 * PAGE_SIZE - 1, 1)] {
        let cut = memory.write(address, &vec![1; len]).unwrap_err();
        assert!(matches!(cut, GuestMemoryError::Io { .. }), "{cut}");
        assert_eq!(file.metadata().unwrap().len(), PAGE_SIZE, "a write made it longer again");
    }
    memory.write(PAGE_SIZE - 1, &[1]).unwrap();
}

#[test]
fn a_buffer_is_whole_pages_that_may_be_written() {
    let (memory, ..) = guest();
    let buffer = |ranges: &[(u64, u64)]| memory.buffer(ranges);
    for ranges in [&[][..], &[(0, 0)], &[(1, PAGE_SIZE)], &[(0, 100)], &[(u64::MAX - 4095, 8192)]] {
        assert!(matches!(buffer(ranges), Err(GuestMemoryError::NotPages { .. })), "{ranges:x?}");
    }
    assert!(matches!(buffer(&[(4 * PAGE_SIZE, PAGE_SIZE)]), Err(GuestMemoryError::NotGranted { .. })));
    assert!(matches!(buffer(&[(16 * PAGE_SIZE, PAGE_SIZE)]), Err(GuestMemoryError::NotMapped(_))));
    // Every page twice, backwards: none adjoin.
    let many: Vec<_> = (0..).map(|n| ((3 - n % 4) * PAGE_SIZE, PAGE_SIZE)).take(MAX_PIECES + 1).collect();
    assert_eq!(memory.pieces(&many[1..]).unwrap().as_slice().len(), MAX_PIECES);
    assert!(matches!(buffer(&many), Err(GuestMemoryError::TooManyPieces)));
    for _ in 0..MAX_GUEST_BUFFERS {
        buffer(&[(0, PAGE_SIZE)]).unwrap();
    }
    assert!(matches!(buffer(&[(0, PAGE_SIZE)]), Err(GuestMemoryError::TooManyBuffers)));
}

#[test]
fn a_buffer_ends_with_any_part_of_its_memory_and_does_not_come_back() {
    let (memory, ram, _rom) = guest();
    let whole = memory.buffer(&[(0, 4 * PAGE_SIZE), (8 * PAGE_SIZE, PAGE_SIZE)]).unwrap();
    let low = memory.buffer(&[(0, 4 * PAGE_SIZE)]).unwrap();
    assert_eq!(memory.buffer_size(whole), Some(5 * PAGE_SIZE));
    let part = memory.buffer_part(whole, 3 * PAGE_SIZE, 2 * PAGE_SIZE).unwrap();
    let places: Vec<_> = part.as_slice().iter().map(|piece| (piece.address, piece.place.start())).collect();
    assert_eq!(places, [(3 * PAGE_SIZE, 7 * PAGE_SIZE), (8 * PAGE_SIZE, 0)]);
    assert!(memory.buffer_part(whole, 4 * PAGE_SIZE, 2 * PAGE_SIZE).is_none(), "more than there is");
    memory.unmap(8 * PAGE_SIZE, 4 * PAGE_SIZE).unwrap();
    assert_eq!((memory.buffer_size(whole), memory.buffer_size(low)), (None, Some(4 * PAGE_SIZE)));
    let again = Some((ram.file().try_clone().unwrap().into(), 0));
    memory.map(8 * PAGE_SIZE, 4 * PAGE_SIZE, RW, again).unwrap();
    assert_eq!(memory.buffer_size(whole), None);
    memory.unmap_all();
    assert_eq!(memory.buffer_size(low), None);
    assert!(memory.buffer(&[(0, PAGE_SIZE)]).is_err());
    let mut held = [0; 3];
    ram.write(0, b"yes").unwrap();
    let place = &part.as_slice()[1].place;
    place.file().read_exact_at(&mut held, place.start()).unwrap();
    assert_eq!(&held, b"yes", "who holds the pieces holds the memory");
}

/// Without udmabuf, whether or not this host has it.
#[test]
fn every_buffer_that_ends_is_counted_once() {
    let (memory, _ram, _rom) = guest();
    let buffer = || memory.buffer(&[(PAGE_SIZE, PAGE_SIZE)]).unwrap();
    let (first, second, _third) = (buffer(), buffer(), buffer());
    assert_eq!(memory.ended_buffers(), 0);
    for _ in 0..2 {
        memory.release(first);
        assert_eq!((memory.ended_buffers(), memory.buffer_size(first)), (1, None));
    }
    assert_eq!(memory.buffer_size(second), Some(PAGE_SIZE));
    memory.unmap(0, 4 * PAGE_SIZE).unwrap();
    assert_eq!((memory.ended_buffers(), memory.buffer_size(second)), (3, None));
}

#[test]
fn a_part_of_a_buffer_is_whole_pages_of_its_pieces() {
    let (memory, _ram, _rom) = guest();
    let pieces = memory.pieces(&[(0, 3 * PAGE_SIZE), (8 * PAGE_SIZE, 2 * PAGE_SIZE)]).unwrap();
    let places = |part: &GuestPieces| {
        let place =
            |piece: &GuestPiece| [piece.address, piece.place.start(), piece.len].map(|n| n / PAGE_SIZE);
        part.as_slice().iter().map(place).collect::<Vec<_>>()
    };
    let part = |from: u64, len: u64| pieces.part(from * PAGE_SIZE, len * PAGE_SIZE).map(|part| places(&part));
    assert_eq!(part(0, 5), Some(vec![[0, 4, 3], [8, 0, 2]]));
    assert_eq!(part(1, 2), Some(vec![[1, 5, 2]]));
    assert_eq!(part(2, 2), Some(vec![[2, 6, 1], [8, 0, 1]]));
    assert_eq!(part(4, 1), Some(vec![[9, 1, 1]]));
    assert_eq!([part(0, 0), part(5, 1), part(4, 2)], [None, None, None]);
    for (offset, size) in [(1, PAGE_SIZE), (0, PAGE_SIZE + 1), (u64::MAX, PAGE_SIZE)] {
        assert!(pieces.part(offset, size).is_none(), "{offset}+{size}");
    }
}

#[test]
fn pieces_are_joined_only_where_addresses_and_places_follow() {
    let (memory, _ram, _rom) = guest();
    let count = |ranges: [(u64, u64); 2]| {
        memory
            .pieces(&ranges.map(|(page, len)| (page * PAGE_SIZE, len * PAGE_SIZE)))
            .unwrap()
            .as_slice()
            .len()
    };
    assert_eq!(count([(0, 2), (2, 2)]), 1);
    assert_eq!(count([(0, 2), (3, 1)]), 2, "neither follows");
    assert_eq!(count([(11, 1), (0, 1)]), 2, "the place follows, the address does not");
    let other = Vram::new("other", 4 * PAGE_SIZE).unwrap();
    memory.map(16 * PAGE_SIZE, PAGE_SIZE, RW, Some((other.file().try_clone().unwrap().into(), 0))).unwrap();
    let file = Some((other.file().try_clone().unwrap().into(), 2 * PAGE_SIZE));
    memory.map(17 * PAGE_SIZE, PAGE_SIZE, RW, file).unwrap();
    assert_eq!(count([(16, 1), (17, 1)]), 2, "the address follows, the place does not");
}

#[test]
fn the_last_page_of_all_addresses_is_one_like_others() {
    let last = u64::MAX - PAGE_SIZE + 1;
    let (memory, ram, _rom) = guest();
    memory.map(last, PAGE_SIZE, RW, Some((ram.file().try_clone().unwrap().into(), 0))).unwrap();
    assert_eq!(memory.pieces(&[(last, PAGE_SIZE)]).unwrap().size(), PAGE_SIZE);
    assert!(matches!(memory.pieces(&[(last, 2 * PAGE_SIZE)]), Err(GuestMemoryError::NotPages { .. })));
}

/// Each piece longer than what is copied at a time, and no multiple of it.
#[test]
fn a_copy_has_every_byte_in_its_place() {
    let len = 17 * PAGE_SIZE;
    let ram = Vram::new("ram", 2 * len).unwrap();
    for page in 0..34 {
        ram.fill(page * PAGE_SIZE, PAGE_SIZE, u8::try_from(page + 1).unwrap());
    }
    let memory = GuestMemory::default();
    for (address, start) in [(0, len), (len, 0)] {
        memory.map(address, len, RW, Some((ram.file().try_clone().unwrap().into(), start))).unwrap();
    }
    let copy = memory.pieces(&[(0, 2 * len)]).unwrap().copy().unwrap();
    assert_eq!(copy.size(), 2 * len);
    for page in 0..34 {
        let mut bytes = [0; 2];
        copy.read(page * PAGE_SIZE + PAGE_SIZE / 2, &mut bytes).unwrap();
        let expected = u8::try_from((page + 17) % 34 + 1).unwrap();
        assert_eq!(bytes, [expected; 2], "page {page}");
    }
}

#[test]
fn one_piece_is_its_memfd_and_several_need_udmabuf() {
    let (memory, ..) = guest();
    // Two ranges of the buffer, one of the memory.
    let one = memory.pieces(&[(PAGE_SIZE, PAGE_SIZE), (2 * PAGE_SIZE, PAGE_SIZE)]).unwrap();
    let buffer = one.export(None).unwrap();
    assert_eq!((buffer.kind, buffer.offset, buffer.size), (BufferKind::Memfd, 5 * PAGE_SIZE, 7 * PAGE_SIZE));
    memory.write(2 * PAGE_SIZE, b"live").unwrap();
    let mut data = [0; 4];
    File::from(buffer.fd).read_exact_at(&mut data, buffer.offset + PAGE_SIZE).unwrap();
    assert_eq!(&data, b"live");
    let two = memory.pieces(&[(2 * PAGE_SIZE, PAGE_SIZE), (PAGE_SIZE, PAGE_SIZE)]).unwrap();
    assert!(matches!(two.export(None), Err(GuestExportError::Scattered(2))));
}

/// The real driver refuses such memory with a bare `EINVAL`; we say why, before it is asked.
#[test]
fn memory_that_can_shrink_is_no_dma_buf() {
    let Ok(udmabuf) = Udmabuf::open() else { return };
    let file = unsealed();
    file.set_len(PAGE_SIZE).unwrap();
    let memory = GuestMemory::default();
    memory.map(0, PAGE_SIZE, RW, Some((file.into(), 0))).unwrap();
    let refused = memory.pieces(&[(0, PAGE_SIZE)]).unwrap().export(Some(&udmabuf)).unwrap_err();
    assert!(matches!(refused, GuestExportError::Seals { .. }), "{refused}");
}

proptest! {
    /// Whatever is read of whatever ranges is what a flat copy of the guest has there, or refused.
    #[test]
    fn agrees_with_a_flat_guest(at in 0..13 * PAGE_SIZE, len in 0..9 * PAGE_SIZE) {
        let (memory, ram, rom) = guest();
        let byte = |n: u64| u8::try_from(n * 7 % 251).unwrap();
        let pattern: Vec<u8> = (0..8 * PAGE_SIZE).map(byte).collect();
        ram.write(0, &pattern).unwrap();
        rom.write(0, &pattern[100..100 + 4 * 4096]).unwrap();
        let (low, high) = pattern.split_at(4 * 4096);
        let flat = [high, &pattern[100..100 + 4 * 4096], low].concat();
        let (start, len) = (usize::try_from(at).unwrap(), usize::try_from(len).unwrap());
        let mut data = vec![0; len];
        match flat.get(start..start + len) {
            Some(expected) => {
                memory.read(at, &mut data).unwrap();
                prop_assert!(data == expected);
            }
            None => prop_assert_eq!(len > 0, memory.read(at, &mut data).is_err()),
        }
    }
}
