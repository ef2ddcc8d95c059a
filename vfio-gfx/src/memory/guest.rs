//! Guest memory: what a VMM lets a device reach of its guest's RAM.
//!
//! A VMM announces ranges of device addresses (IOVAs), each with what the device may do there and, where the memory can be
//! shared, with a descriptor of it. [`GuestMemory`] keeps them: a device model reads and writes guest memory through it,
//! and makes buffers of it that a plane can show.
//!
//! * **Nothing is mapped.** Bytes are copied with `pread(2)` and `pwrite(2)`: a VMM that cuts its memory short is an error,
//!   and the size of a guest costs nothing. Only memory of tmpfs and hugetlbfs is accepted (memfds are of the two), as by
//!   udmabuf: a file system in user space could answer a read never, or years later. (hugetlbfs can be read
//!   and exported so, but has no `write(2)`.)
//! * **Nothing outside of a grant is reached**: an access must lie in announced ranges, all of which allow it.
//! * **Buffers end with their memory.** A [`GuestBufferId`] is revoked when any of its ranges is unmapped, and never comes
//!   back. A dma-buf that somebody holds then keeps its pages, which udmabuf pins; a VMM that punches holes into
//!   the memory leaves the dma-buf with the old ones.

mod files;
mod pieces;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bitflags::bitflags;
use thiserror::Error;

use files::Files;
use table::{Range, Table};

pub use files::MAX_GUEST_FILES;
pub use pieces::{GuestExportError, GuestPiece, GuestPieces, MAX_PIECES};
pub use table::{DmaError, MAX_GUEST_RANGES};

/// Most buffers that a device may have of guest memory at a time; as many as its table of buffer ids holds.
pub const MAX_GUEST_BUFFERS: usize = 64;

bitflags! {
    /// What a device may do to guest memory; the bits are those of `VFIO_DMA_MAP_FLAG_READ` and `_WRITE`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct DmaAccess: u32 {
        /// Read it.
        const READ = 1;
        /// Write it.
        const WRITE = 2;
    }
}

/// A buffer of guest memory. Never used twice in a device's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestBufferId(u64);

/// Why guest memory cannot be reached, or made a buffer of.
#[derive(Debug, Error)]
pub enum GuestMemoryError {
    /// The VMM announced nothing there.
    #[error("guest address {0:#x} is not mapped")]
    NotMapped(u64),
    /// It did, but not for this.
    #[error("guest address {address:#x} was granted for {granted:?}, not for {wanted:?}")]
    NotGranted {
        /// Device address.
        address: u64,
        /// What the access needs.
        wanted: DmaAccess,
        /// What there is.
        granted: DmaAccess,
    },
    /// The range came without a descriptor, or with one that is no shared memory or does not reach as far.
    #[error(
        "guest address {0:#x} was announced without memory that can be shared (a memfd, tmpfs or hugetlbfs file)"
    )]
    NotShared(u64),
    /// pread or pwrite failed; end of file where the VMM has cut its memory short.
    #[error("cannot reach guest address {address:#x}")]
    Io {
        /// Device address.
        address: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A part of a buffer that is not whole pages, or nothing at all.
    #[error("{len:#x} bytes at guest address {address:#x} are not whole pages")]
    NotPages {
        /// Device address.
        address: u64,
        /// Bytes.
        len: u64,
    },
    /// More pieces than one dma-buf takes.
    #[error("a buffer of more than {MAX_PIECES} pieces of guest memory")]
    TooManyPieces,
    /// All places are taken.
    #[error("more than {MAX_GUEST_BUFFERS} buffers of guest memory")]
    TooManyBuffers,
}

/// What a VMM has announced of its guest's memory, and the buffers made of it.
///
/// Belongs to a [`Device`](crate::device::Device); models get it with every access. Its own lock makes each method whole.
#[derive(Debug, Default)]
pub struct GuestMemory(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    ranges: Table,
    files: Files,
    buffers: BTreeMap<GuestBufferId, GuestPieces>,
    last_buffer: u64,
    /// How many buffers are no more.
    ended: u64,
}

impl State {
    /// Buffers that have lost a part are gone.
    fn revoke(&mut self, first: u64, last: u64) {
        self.end_buffers(|buffer| buffer.overlaps(first, last));
    }

    fn end_buffers(&mut self, is_over: impl Fn(&GuestPieces) -> bool) {
        let before = self.buffers.len();
        self.buffers.retain(|_, buffer| !is_over(buffer));
        self.ended = self.ended.saturating_add((before - self.buffers.len()) as u64);
    }
}

impl GuestMemory {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces a range of whole pages, with the descriptor of its memory and where in it the range starts. A descriptor that
    /// cannot serve (no shared memory, shorter than the range, beyond [`MAX_GUEST_FILES`] different ones) is closed; the
    /// range is then known, but its bytes cannot be reached.
    ///
    /// # Errors
    /// [`DmaError`]; nothing has changed then.
    pub fn map(
        &self,
        address: u64,
        size: u64,
        access: DmaAccess,
        memory: Option<(OwnedFd, u64)>,
    ) -> Result<(), DmaError> {
        let mut state = self.lock();
        let last = state.ranges.free(address, size)?;
        let memory = memory.and_then(|(fd, start)| state.files.keep(fd, start, size));
        state.ranges.insert(address, Range { last, access, memory });
        Ok(())
    }

    /// Takes ranges back and returns how many bytes they had. A range goes as a whole or not at all; several go at
    /// once when they lie inside. Buffers with a part in them are revoked.
    ///
    /// # Errors
    /// [`DmaError`]; nothing has changed then.
    pub fn unmap(&self, address: u64, size: u64) -> Result<u64, DmaError> {
        let mut state = self.lock();
        let unmapped = state.ranges.remove(address, size)?;
        state.revoke(address, address.saturating_add(size.saturating_sub(1)));
        Ok(unmapped)
    }

    /// Takes everything back and returns how many bytes that were.
    pub fn unmap_all(&self) -> u64 {
        let mut state = self.lock();
        state.end_buffers(|_| true);
        state.ranges.clear()
    }

    /// Copies bytes out of guest memory, across ranges where they adjoin.
    ///
    /// # Errors
    /// [`GuestMemoryError`]; nothing was read if it is not [`GuestMemoryError::Io`], else `data` is unspecified.
    pub fn read(&self, address: u64, data: &mut [u8]) -> Result<(), GuestMemoryError> {
        self.each_piece(address, data.len(), DmaAccess::READ, |piece, start, end| {
            data.get_mut(start..end)
                .map_or(Ok(()), |data| piece.place.file().read_exact_at(data, piece.place.start()))
        })
    }

    /// Copies bytes into guest memory, across ranges where they adjoin.
    ///
    /// # Errors
    /// [`GuestMemoryError`]; nothing was written if it is not [`GuestMemoryError::Io`], else possibly a part.
    pub fn write(&self, address: u64, data: &[u8]) -> Result<(), GuestMemoryError> {
        self.each_piece(address, data.len(), DmaAccess::WRITE, |piece, start, end| {
            data.get(start..end)
                .map_or(Ok(()), |data| write_within(piece.place.file(), data, piece.place.start()))
        })
    }

    /// Calls `copy` with each piece of a range and the bytes of the range that it is; after all were found to be granted.
    fn each_piece(
        &self,
        address: u64,
        len: usize,
        access: DmaAccess,
        mut copy: impl FnMut(GuestPiece, usize, usize) -> io::Result<()>,
    ) -> Result<(), GuestMemoryError> {
        let state = self.lock();
        for do_copy in [false, true] {
            let mut done = 0;
            while done < len {
                let rest = (len - done) as u64;
                let at = address.checked_add(done as u64).ok_or(GuestMemoryError::NotMapped(address))?;
                let piece = state.ranges.piece(at, rest, access)?;
                // At most `rest`, and so within usize.
                let end = done.saturating_add(usize::try_from(piece.len).unwrap_or(usize::MAX));
                if do_copy {
                    copy(piece, done, end).map_err(|source| GuestMemoryError::Io { address: at, source })?;
                }
                done = end;
            }
        }
        Ok(())
    }

    /// Where ranges of guest memory are, one after another: descriptor, offset and length of each piece. Each range must be
    /// whole pages that the device may read *and* write: no dma-buf can be limited to reading.
    ///
    /// # Errors
    /// [`GuestMemoryError`].
    pub fn pieces(&self, ranges: &[(u64, u64)]) -> Result<GuestPieces, GuestMemoryError> {
        GuestPieces::gather(&self.lock().ranges, ranges)
    }

    /// Makes a buffer of ranges of guest memory, one after another, that a [`Scanout`](crate::device::Scanout) can name.
    ///
    /// # Errors
    /// As [`GuestMemory::pieces`], or [`GuestMemoryError::TooManyBuffers`].
    pub fn buffer(&self, ranges: &[(u64, u64)]) -> Result<GuestBufferId, GuestMemoryError> {
        let mut state = self.lock();
        let pieces = GuestPieces::gather(&state.ranges, ranges)?;
        if state.buffers.len() >= MAX_GUEST_BUFFERS {
            return Err(GuestMemoryError::TooManyBuffers);
        }
        // 2^64 buffers are more than a device makes in its life.
        state.last_buffer = state.last_buffer.saturating_add(1);
        let id = GuestBufferId(state.last_buffer);
        state.buffers.insert(id, pieces);
        Ok(id)
    }

    /// Gives a buffer up.
    pub fn release(&self, id: GuestBufferId) {
        let mut state = self.lock();
        if state.buffers.remove(&id).is_some() {
            state.ended = state.ended.saturating_add(1);
        }
    }

    /// How many buffers are no more: given up, or revoked. Whoever keeps something of buffers looks again when this has
    /// changed.
    #[must_use]
    pub fn ended_buffers(&self) -> u64 {
        self.lock().ended
    }

    /// Bytes of a buffer; `None` when it is revoked. Allocates nothing.
    #[must_use]
    pub fn buffer_size(&self, id: GuestBufferId) -> Option<u64> {
        self.lock().buffers.get(&id).map(GuestPieces::size)
    }

    /// A page-aligned part of a buffer; `None` when it is revoked or not as large.
    #[must_use]
    pub fn buffer_part(&self, id: GuestBufferId, offset: u64, size: u64) -> Option<GuestPieces> {
        self.lock().buffers.get(&id)?.part(offset, size)
    }
}

/// Writes where the file is. A VMM that has cut its memory short must not find it longer again: `pwrite(2)` behind the end
/// would do that. (One that cuts it between the two calls does.)
fn write_within(file: &File, data: &[u8], at: u64) -> io::Result<()> {
    let end = u64::try_from(data.len()).ok().and_then(|len| at.checked_add(len));
    if end.is_none_or(|end| end > file.metadata().map_or(0, |metadata| metadata.len())) {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the memory was cut short"));
    }
    file.write_all_at(data, at)
}
