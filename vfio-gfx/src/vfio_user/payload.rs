//! What follows the header of the messages that are not VFIO structs.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `VFIO_USER_DMA_MAP`, 32 bytes; a descriptor beside it where the memory can be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DmaMap {
    /// Bytes of this struct.
    pub argsz: u32,
    /// 1 readable, 2 writable.
    pub flags: u32,
    /// Where in the descriptor the memory starts.
    pub offset: u64,
    /// Device address.
    pub address: u64,
    /// Bytes.
    pub size: u64,
}

/// `VFIO_USER_DMA_UNMAP`, 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DmaUnmap {
    /// Bytes of this struct.
    pub argsz: u32,
    /// 2 = everything (`VFIO_DMA_UNMAP_FLAG_ALL`).
    pub flags: u32,
    /// Device address.
    pub address: u64,
    /// Bytes.
    pub size: u64,
}

/// `VFIO_USER_REGION_READ` and `_WRITE`, 16 bytes; data follows in the write and in the read's reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RegionAccess {
    /// Bytes from the start of the region.
    pub offset: u64,
    /// Region index.
    pub region: u32,
    /// Bytes of data.
    pub count: u32,
}
