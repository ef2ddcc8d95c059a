//! What a VMM has granted of its guest's memory, as a list: what the device must agree with.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, memfd_create};
use vfio_gfx::device::Device;
use vfio_gfx::memory::{DmaAccess, GuestBufferId, GuestMemoryError, PAGE_SIZE};

/// Pages of each memory at first.
const PAGES: u64 = 16;
/// Buffers that are kept; the device may have 64, and a model needs some.
const MAX_BUFFERS: usize = 40;

/// One range.
#[derive(Clone, Copy, Debug)]
struct Grant {
    address: u64,
    size: u64,
    access: DmaAccess,
    /// Which memory, and where in it; `None` where it cannot be reached.
    memory: Option<(usize, u64)>,
}

impl Grant {
    fn last(&self) -> u64 {
        self.address + (self.size - 1)
    }
}

/// How an access must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Fine,
    NotMapped,
    NotGranted,
    NotShared,
    /// The memory was cut short.
    Gone,
}

impl Fate {
    pub(super) fn of(result: &Result<(), GuestMemoryError>) -> Self {
        match result {
            Ok(()) => Self::Fine,
            Err(GuestMemoryError::NotMapped(_)) => Self::NotMapped,
            Err(GuestMemoryError::NotGranted { .. }) => Self::NotGranted,
            Err(GuestMemoryError::NotShared(_)) => Self::NotShared,
            Err(GuestMemoryError::Io { .. }) => Self::Gone,
            Err(other) => panic!("an access ended with {other}"),
        }
    }
}

/// A buffer and its ranges.
type Buffer = (GuestBufferId, Vec<(u64, u64)>);

/// The memories of a VMM and what it told of them.
pub(super) struct Ram {
    files: [File; 3],
    grants: Vec<Grant>,
    buffers: Vec<Buffer>,
    /// Buffers that have lost a part, or were given up.
    revoked: Vec<GuestBufferId>,
    /// What planes show, while it is there: pages that were granted when the guest flipped to them, and since.
    shown: [Option<(u64, u64)>; 3],
}

impl Ram {
    pub(super) fn new() -> Self {
        let file = |_| {
            let file = File::from(memfd_create("guest", MemfdFlags::CLOEXEC).unwrap());
            file.set_len(PAGES * PAGE_SIZE).unwrap();
            file
        };
        Self {
            files: [0, 1, 2].map(file),
            grants: Vec::new(),
            buffers: Vec::new(),
            revoked: Vec::new(),
            shown: [None; 3],
        }
    }

    pub(super) fn descriptor(&self, which: usize) -> OwnedFd {
        self.files[which].try_clone().unwrap().into()
    }

    /// The owner cuts a memory, or makes it longer again.
    pub(super) fn resize(&self, which: usize, pages: u64) {
        self.files[which].set_len(pages * PAGE_SIZE).unwrap();
    }

    fn size_of(&self, which: usize) -> u64 {
        self.files[which].metadata().unwrap().len()
    }

    fn overlapping(&self, address: u64, last: u64) -> impl Iterator<Item = &Grant> {
        self.grants.iter().filter(move |grant| grant.address <= last && grant.last() >= address)
    }

    /// Whether a range may be granted, and if so notes it.
    pub(super) fn map(
        &mut self,
        (address, size): (u64, u64),
        flags: u32,
        memory: Option<(usize, u64)>,
        start: u64,
    ) -> bool {
        let Some(last) = range(address, size) else { return false };
        let access = DmaAccess::from_bits(flags).filter(|access| !access.is_empty());
        let Some(access) = access.filter(|_| start.checked_add(size).is_some()) else { return false };
        if self.overlapping(address, last).next().is_some() {
            return false;
        }
        let memory = memory.filter(|(which, start)| start + size <= self.size_of(*which));
        self.grants.push(Grant { address, size, access, memory });
        true
    }

    /// How many bytes go, `None` if the request must be refused.
    pub(super) fn unmap(&mut self, address: u64, size: u64) -> Option<u64> {
        let last = range(address, size)?;
        let (mut count, mut bytes) = (0, 0);
        for grant in self.overlapping(address, last) {
            if grant.address < address || grant.last() > last {
                return None;
            }
            (count, bytes) = (count + 1, bytes + grant.size);
        }
        self.grants.retain(|grant| grant.last() < address || grant.address > last);
        self.revoke(|at, end| end < address || at > last);
        (count > 0).then_some(bytes)
    }

    /// Keeps the buffers whose ranges, from the first to the last byte, are all `kept`.
    fn revoke(&mut self, kept: impl Fn(u64, u64) -> bool) {
        let is_whole = |ranges: &[(u64, u64)]| ranges.iter().all(|(at, size)| kept(*at, at + (size - 1)));
        let (whole, gone): (Vec<Buffer>, Vec<Buffer>) =
            self.buffers.drain(..).partition(|(_, ranges)| is_whole(ranges));
        self.buffers = whole;
        self.revoked.extend(gone.into_iter().map(|(id, _)| id));
        for shown in &mut self.shown {
            *shown = shown.filter(|range| is_whole(&[*range]));
        }
    }

    /// The guest flips: a plane shows these pages from now on if all of them are granted.
    pub(super) fn show(&mut self, plane: usize, pages: Option<(u64, u64)>) {
        self.shown[plane] = pages.filter(|(address, size)| self.is_granted(*address, *size));
    }

    pub(super) fn is_shown(&self, plane: usize) -> bool {
        self.shown[plane].is_some()
    }

    /// The guest draws, as far as there is memory.
    pub(super) fn draw(&self, which: usize, offset: u64, bytes: &[u8]) {
        let len = self.size_of(which).saturating_sub(offset).min(bytes.len() as u64);
        self.files[which].write_all_at(&bytes[..usize::try_from(len).unwrap()], offset).unwrap();
    }

    /// What the guest has there; `None` where it is not granted, or was cut short.
    pub(super) fn bytes(&self, address: u64, len: u64) -> Option<Vec<u8>> {
        let (fate, bytes) = self.look(address, usize::try_from(len).unwrap(), DmaAccess::all());
        (fate == Fate::Fine).then_some(bytes)
    }

    /// Nobody in this process has a descriptor of a memory of which nothing is granted, but us.
    pub(super) fn check_descriptors(&self) {
        let is_granted =
            |which| self.grants.iter().any(|grant| grant.memory.is_some_and(|(of, _)| of == which));
        let free: Vec<usize> = (0..3).filter(|which| !is_granted(*which)).collect();
        if free.is_empty() {
            return;
        }
        let identity = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
        let ours = [0, 1, 2].map(|which| identity(rustix::fs::fstat(&self.files[which]).unwrap()));
        // Of other threads, some are gone when we look; none is of our memory.
        let open: Vec<_> = std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|entry| rustix::fs::stat(entry.ok()?.path()).ok().map(identity))
            .collect();
        for which in free {
            let count = open.iter().filter(|file| **file == ours[which]).count();
            assert_eq!(count, 1, "descriptors of memory that is not granted any more");
        }
    }

    /// Whether it is one of these memories.
    pub(super) fn is_ours(&self, fd: &OwnedFd) -> bool {
        let identity = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
        let fd = identity(rustix::fs::fstat(fd).unwrap());
        self.files.iter().any(|file| identity(rustix::fs::fstat(file).unwrap()) == fd)
    }

    /// Whether the device may make a buffer of these pages: granted for both, without a gap, and whole pages of memory.
    fn is_granted(&self, address: u64, size: u64) -> bool {
        let Some(last) = range(address, size) else { return false };
        let mut at = address;
        loop {
            let Some(grant) = self.overlapping(at, at).next() else { return false };
            let is_whole_pages = grant.memory.is_some_and(|(_, start)| start.is_multiple_of(PAGE_SIZE));
            if grant.access != DmaAccess::all() || !is_whole_pages {
                return false;
            }
            if grant.last() >= last {
                return true;
            }
            at = grant.last() + 1;
        }
    }

    /// Takes all back; returns how many bytes those were.
    pub(super) fn clear(&mut self) -> u64 {
        self.revoke(|_, _| false);
        self.grants.drain(..).map(|grant| grant.size).sum()
    }

    /// Another device, which knows nothing of all this.
    pub(super) fn replug(&mut self) {
        self.clear();
        self.buffers.clear();
        self.revoked.clear();
        self.shown = [None; 3];
    }

    /// What must become of an access, and the bytes that are there.
    fn look(&self, address: u64, len: usize, access: DmaAccess) -> (Fate, Vec<u8>) {
        let (mut fate, mut bytes, mut at) = (Fate::Fine, vec![0; len], 0);
        while at < len {
            let now = address.checked_add(at as u64);
            let grant = now.and_then(|now| self.overlapping(now, now).next().map(|grant| (now, grant)));
            let Some((now, grant)) = grant else { return (Fate::NotMapped, bytes) };
            if !grant.access.contains(access) {
                return (Fate::NotGranted, bytes);
            }
            let Some((which, start)) = grant.memory else { return (Fate::NotShared, bytes) };
            let until =
                len.min(at.saturating_add(usize::try_from(grant.last() - now).unwrap()).saturating_add(1));
            let place = start + (now - grant.address);
            if self.files[which].read_exact_at(&mut bytes[at..until], place).is_err() {
                fate = Fate::Gone;
            }
            at = until;
        }
        (fate, bytes)
    }

    /// The device reads, as a model would.
    pub(super) fn check_read(&self, device: &Device, address: u64, len: usize) {
        let (fate, expected) = self.look(address, len, DmaAccess::READ);
        let mut data = vec![0; len];
        let result = device.guest_memory().read(address, &mut data);
        assert_eq!(Fate::of(&result), fate, "reading {len} bytes at {address:#x}");
        assert!(fate != Fate::Fine || data == expected, "other bytes at {address:#x}");
    }

    /// The device writes.
    pub(super) fn check_write(&self, device: &Device, address: u64, data: &[u8]) {
        let (fate, _) = self.look(address, data.len(), DmaAccess::WRITE);
        let sizes = [0, 1, 2].map(|which| self.size_of(which));
        let result = device.guest_memory().write(address, data);
        assert_eq!(Fate::of(&result), fate, "writing {} bytes at {address:#x}", data.len());
        let now = self.look(address, data.len(), DmaAccess::WRITE);
        assert!(fate != Fate::Fine || now.1 == data, "what was written at {address:#x} is not there");
        assert_eq!(sizes, [0, 1, 2].map(|which| self.size_of(which)), "a write made a memory longer");
    }

    /// The device makes a buffer of one range, whole pages that it may read and write.
    pub(super) fn check_buffer(&mut self, device: &Device, address: u64, size: u64) {
        let is_granted = self.is_granted(address, size);
        match device.guest_memory().buffer(&[(address, size)]) {
            Ok(id) => {
                assert!(is_granted, "a buffer of what was not granted: {address:#x}+{size:#x}");
                let known = self.buffers.iter().map(|(other, _)| other).chain(&self.revoked);
                assert!(known.into_iter().all(|other| *other < id), "an id came back");
                self.buffers.push((id, vec![(address, size)]));
                // There is room for planes.
                if self.buffers.len() > MAX_BUFFERS {
                    let (old, _) = self.buffers.remove(0);
                    device.guest_memory().release(old);
                    self.revoked.push(old);
                }
            }
            Err(error) => assert!(!is_granted, "{address:#x}+{size:#x}: {error}"),
        }
    }

    /// Exactly the buffers that were not revoked are there.
    pub(super) fn check(&self, device: &Device) {
        for (id, ranges) in &self.buffers {
            let size = ranges.iter().map(|(_, size)| size).sum();
            assert_eq!(device.guest_memory().buffer_size(*id), Some(size));
        }
        for id in &self.revoked {
            assert_eq!(device.guest_memory().buffer_size(*id), None, "a buffer outlived its grant");
        }
    }

    /// What is granted, or was: addresses worth trying.
    pub(super) fn an_address(&self, choice: u8) -> u64 {
        self.grants.get(usize::from(choice) % self.grants.len().max(1)).map_or(0, |grant| grant.address)
    }
}

/// The last byte of a range of whole pages.
fn range(address: u64, size: u64) -> Option<u64> {
    let aligned = address.is_multiple_of(PAGE_SIZE) && size.is_multiple_of(PAGE_SIZE) && size > 0;
    aligned.then(|| address.checked_add(size - 1)).flatten()
}
