//! Scattered guest memory as one buffer.

use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{SealFlags, fcntl_get_seals};
use thiserror::Error;
use vm_memory::FileOffset;

use super::table::Table;
use super::{DmaAccess, GuestMemoryError};
use crate::memory::udmabuf::{Udmabuf, UdmabufError, UdmabufRange};
use crate::memory::{BufferKind, PAGE_SIZE, SharedBuffer, Vram, VramError};

/// Most pieces of a buffer; udmabuf's `list_limit`.
pub const MAX_PIECES: usize = 1024;

/// Bytes that are copied at a time.
const COPY_CHUNK: usize = 1 << 16;

/// Guest memory that is contiguous both for the device and in its descriptor.
#[derive(Clone, Debug)]
pub struct GuestPiece {
    /// Device address.
    pub address: u64,
    /// Descriptor, and where in it the memory starts.
    pub place: FileOffset,
    /// Bytes.
    pub len: u64,
}

impl GuestPiece {
    /// Whether `next` follows in the same file.
    fn adjoins(&self, next: &Self) -> bool {
        std::ptr::eq(self.place.file(), next.place.file())
            && self.place.start().checked_add(self.len) == Some(next.place.start())
            && self.address.checked_add(self.len) == Some(next.address)
    }
}

/// Why pieces cannot be handed out as one buffer.
#[derive(Debug, Error)]
pub enum GuestExportError {
    /// Only udmabuf joins pieces.
    #[error("{0} pieces of guest memory need /dev/udmabuf to become one buffer; this host has none to open")]
    Scattered(usize),
    /// udmabuf wants memory that nobody can shrink, and that can be written.
    #[error(
        "guest memory at {address:#x} has seals {found:?}: a dma-buf needs F_SEAL_SHRINK and no write seal (in QEMU: memory-backend-memfd)"
    )]
    Seals {
        /// Device address.
        address: u64,
        /// What there is; nothing where the file cannot be sealed.
        found: SealFlags,
    },
    /// udmabuf refused.
    #[error(transparent)]
    Udmabuf(#[from] UdmabufError),
    /// A descriptor could not be duplicated.
    #[error("cannot duplicate a descriptor")]
    Descriptor(#[from] std::io::Error),
    /// pread failed; end of file where the VMM has cut its memory short.
    #[error("cannot copy guest memory")]
    Copy(#[source] std::io::Error),
    /// No memory for a copy.
    #[error("no memory for a copy of guest memory")]
    Vram(#[from] VramError),
}

/// Whole pages of guest memory, in order. Holds their descriptors, and so the memory itself.
#[derive(Clone, Debug, Default)]
pub struct GuestPieces {
    /// None that adjoin.
    pieces: Vec<GuestPiece>,
    size: u64,
}

impl GuestPieces {
    pub(super) fn gather(table: &Table, ranges: &[(u64, u64)]) -> Result<Self, GuestMemoryError> {
        let mut gathered = Self::default();
        for (address, len) in ranges {
            let (mut address, mut len) = (*address, *len);
            let not_pages = GuestMemoryError::NotPages { address, len };
            let aligned = address.is_multiple_of(PAGE_SIZE) && len.is_multiple_of(PAGE_SIZE) && len > 0;
            if !aligned || address.checked_add(len - 1).is_none() {
                return Err(not_pages);
            }
            while len > 0 {
                let piece = table.piece(address, len, DmaAccess::READ | DmaAccess::WRITE)?;
                if !piece.place.start().is_multiple_of(PAGE_SIZE) {
                    return Err(not_pages);
                }
                len -= piece.len;
                address = address.wrapping_add(piece.len);
                gathered.push(piece)?;
            }
        }
        if gathered.pieces.is_empty() {
            return Err(GuestMemoryError::NotPages { address: 0, len: 0 });
        }
        Ok(gathered)
    }

    fn push(&mut self, piece: GuestPiece) -> Result<(), GuestMemoryError> {
        self.size = self.size.checked_add(piece.len).ok_or(GuestMemoryError::TooManyPieces)?;
        let is_full = self.pieces.len() >= MAX_PIECES;
        match self.pieces.last_mut() {
            Some(last) if last.adjoins(&piece) => last.len = last.len.saturating_add(piece.len),
            _ if is_full => return Err(GuestMemoryError::TooManyPieces),
            _ => self.pieces.push(piece),
        }
        Ok(())
    }

    /// Bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The pieces, in order; as few as there can be.
    #[must_use]
    pub fn as_slice(&self) -> &[GuestPiece] {
        &self.pieces
    }

    /// Whether any byte lies in this range of device addresses, both ends included.
    pub(super) fn overlaps(&self, first: u64, last: u64) -> bool {
        self.pieces.iter().any(|piece| {
            piece.address <= last && piece.address.saturating_add(piece.len.saturating_sub(1)) >= first
        })
    }

    /// A part of whole pages; `None` when it is not within.
    #[must_use]
    pub fn part(&self, offset: u64, size: u64) -> Option<Self> {
        let end = offset.checked_add(size).filter(|end| *end <= self.size && size > 0)?;
        if !offset.is_multiple_of(PAGE_SIZE) || !size.is_multiple_of(PAGE_SIZE) {
            return None;
        }
        let mut part = Self { pieces: Vec::new(), size };
        let mut at = 0u64;
        for piece in &self.pieces {
            let (from, to) = (offset.max(at), end.min(at.saturating_add(piece.len)));
            if from < to {
                let skip = from - at;
                part.pieces.push(GuestPiece {
                    address: piece.address.saturating_add(skip),
                    place: FileOffset::from_arc(
                        piece.place.arc().clone(),
                        piece.place.start().saturating_add(skip),
                    ),
                    len: to - from,
                });
            }
            at = at.saturating_add(piece.len);
        }
        Some(part)
    }

    /// A copy of all pieces, in memory of its own.
    ///
    /// # Errors
    /// [`GuestExportError::Copy`] where the VMM has cut its memory short, or [`GuestExportError::Vram`] where there is no memory
    /// for the copy.
    pub fn copy(&self) -> Result<Vram, GuestExportError> {
        let copy = Vram::new("vfio-gfx copy of guest memory", self.size)?;
        let (mut at, mut chunk) = (0, vec![0; COPY_CHUNK]);
        for GuestPiece { place, len, .. } in &self.pieces {
            let mut done = 0;
            while done < *len {
                let count = usize::try_from(len - done).map_or(COPY_CHUNK, |left| left.min(COPY_CHUNK));
                let bytes = chunk.get_mut(..count).unwrap_or_default();
                let from = place.start().saturating_add(done);
                place.file().read_exact_at(bytes, from).map_err(GuestExportError::Copy)?;
                copy.write(at, bytes)?;
                done += count as u64;
                at += count as u64;
            }
        }
        Ok(copy)
    }

    /// A descriptor of all pieces as one buffer, live.
    ///
    /// With udmabuf it is a dma-buf of exactly these pages, which stay valid whatever the VMM does. Without, it is the guest's
    /// own memfd and an offset in it, which only one piece can be; whoever holds it reaches *all* of that memfd, so
    /// it is for parties that have it anyway. The same pages under [`GuestMemory::read`](super::GuestMemory::read)
    /// need neither.
    ///
    /// # Errors
    /// [`GuestExportError`].
    pub fn export(&self, udmabuf: Option<&Udmabuf>) -> Result<SharedBuffer, GuestExportError> {
        let Some(udmabuf) = udmabuf else {
            let [piece] = self.pieces.as_slice() else {
                return Err(GuestExportError::Scattered(self.pieces.len()));
            };
            let (fd, offset) = (piece.place.file().try_clone()?.into(), piece.place.start());
            let size = offset.saturating_add(piece.len);
            return Ok(SharedBuffer { kind: BufferKind::Memfd, fd, offset, size });
        };
        let mut ranges = Vec::with_capacity(self.pieces.len());
        for GuestPiece { address, place, len } in &self.pieces {
            let found = fcntl_get_seals(place.file()).unwrap_or(SealFlags::empty());
            if !found.contains(SealFlags::SHRINK)
                || found.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE)
            {
                return Err(GuestExportError::Seals { address: *address, found });
            }
            ranges.push(UdmabufRange { memfd: place.file().as_fd(), offset: place.start(), size: *len });
        }
        let fd = udmabuf.create_list(&ranges)?;
        Ok(SharedBuffer { kind: BufferKind::Dmabuf, fd, offset: 0, size: self.size })
    }
}
