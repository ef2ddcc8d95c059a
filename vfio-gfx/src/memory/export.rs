//! What a device hands out for `GET_GFX_DMABUF`.

use std::os::fd::OwnedFd;

/// What kind of descriptor a [`SharedBuffer`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BufferKind {
    /// A dma-buf: any driver can import it.
    Dmabuf,
    /// A memfd: it can be mapped and read, but not imported. What a host without `/dev/udmabuf` offers.
    Memfd,
}

impl BufferKind {
    /// `dma-buf` or `memfd`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dmabuf => "dma-buf",
            Self::Memfd => "memfd",
        }
    }
}

/// A plane's memory as a descriptor of its own.
#[derive(Debug)]
pub struct SharedBuffer {
    /// Dma-buf or memfd.
    pub kind: BufferKind,
    /// The descriptor, close-on-exec.
    pub fd: OwnedFd,
    /// Where in the descriptor the plane's first pixel is, in bytes. 0 for a page-aligned plane in a dma-buf; the place
    /// in the video memory (or in the guest's) for a memfd.
    pub offset: u64,
    /// Bytes of the descriptor that may be mapped, from its start.
    pub size: u64,
}
