//! Memory that somebody else can write.
//!
//! VRAM is written by a guest while a console reads it; a buffer that a device hands out may shrink or vanish. Such
//! memory is never a `&[u8]`. Two rules hold everywhere:
//!
//! 1. Bytes are *copied* out (or in) through `vm-memory`'s volatile slices, and judged after copying, never before.
//! 2. Only memory that cannot be cut short is mapped: a memfd sealed against shrinking, a dma-buf, or the display region
//!    of a mediated device. Anything else is read with `pread(2)`, where a file that shrank is an error and not a
//!    `SIGBUS`.
//!
//! * [`Vram`]: a device's video memory, in a sealed memfd.
//! * [`SharedBuffer`]: what a device exports of it: a dma-buf through `/dev/udmabuf` where the host has it, else the
//!   memfd itself, and the caller can tell which.
//! * [`GuestMemory`]: what a VMM lets a device reach of its guest's RAM, and buffers of it.
//! * [`Mapping`]: the reading side. [`compare`] brings a copy of its pixels up to date.
//! * [`WriteTracker`]: which pages were written, where the mapping is ours.

pub mod compare;
mod export;
pub(crate) mod fdinfo;
mod guest;
mod mapping;
mod sync;
mod udmabuf;
mod vram;
mod written;

pub use export::{BufferKind, SharedBuffer};
pub use guest::{
    DmaAccess, DmaError, GuestBufferId, GuestExportError, GuestMemory, GuestMemoryError, GuestPiece,
    GuestPieces, MAX_GUEST_BUFFERS, MAX_GUEST_FILES, MAX_GUEST_RANGES, MAX_PIECES,
};
pub use mapping::{Mapping, MappingError};
pub use sync::CpuAccess;
pub use udmabuf::{Udmabuf, UdmabufError, UdmabufRange};
pub use vram::{Vram, VramError};
pub use written::{TrackError, WriteTracker};

/// Bytes in a page on every machine this project runs on; memfds, udmabuf ranges and VFIO mappings are multiples.
pub const PAGE_SIZE: u64 = 4096;

/// `value` rounded up to a page; `None` on overflow.
#[must_use]
pub fn page_align(value: u64) -> Option<u64> {
    value.checked_next_multiple_of(PAGE_SIZE)
}
