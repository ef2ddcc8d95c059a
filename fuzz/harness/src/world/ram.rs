//! What a VMM has granted of its guest's memory, as a list: what the device must agree with.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, memfd_create};
use vfio_gfx::device::Device;
use vfio_gfx::memory::{DmaAccess, GuestBufferId, GuestMemoryError, PAGE_SIZE};

/// Pages of each memory at first.
const PAGES: u64 = 16;

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
    /// Buffers that have lost a part.
    revoked: Vec<GuestBufferId>,
}

impl Ram {
    pub(super) fn new() -> Self {
        let file = |_| {
            let file = File::from(memfd_create("guest", MemfdFlags::CLOEXEC).unwrap());
            file.set_len(PAGES * PAGE_SIZE).unwrap();
            file
        };
        Self { files: [0, 1, 2].map(file), grants: Vec::new(), buffers: Vec::new(), revoked: Vec::new() }
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
    }

    /// Takes all back; returns how many bytes those were.
    pub(super) fn clear(&mut self) -> u64 {
        self.revoke(|_, _| false);
        self.grants.drain(..).map(|grant| grant.size).sum()
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
        let mut grants = Vec::new();
        let mut at = address;
        while let Some(grant) = self.overlapping(at, at).next().filter(|_| at < address.saturating_add(size))
        {
            grants.push(*grant);
            let Some(next) = grant.last().checked_add(1) else { break };
            at = next;
        }
        let is_granted = range(address, size).is_some()
            && grants.last().is_some_and(|grant| grant.last() >= address + (size - 1))
            && grants.iter().all(|grant| grant.access == DmaAccess::all() && grant.memory.is_some());
        match device.guest_memory().buffer(&[(address, size)]) {
            Ok(id) => {
                assert!(is_granted, "a buffer of what was not granted: {address:#x}+{size:#x}");
                let known = self.buffers.iter().map(|(other, _)| other).chain(&self.revoked);
                assert!(known.into_iter().all(|other| *other < id), "an id came back");
                self.buffers.push((id, vec![(address, size)]));
            }
            Err(GuestMemoryError::TooManyBuffers) => assert!(self.buffers.len() >= 64),
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
