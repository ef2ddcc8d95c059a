//! The three info ioctls: device, region, interrupt.

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct vfio_device_info`, 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DeviceInfo {
    /// Size of this struct as the caller knows it, in bytes.
    pub argsz: u32,
    /// [`DeviceFlags`].
    pub flags: u32,
    /// Highest fixed region index plus one.
    pub num_regions: u32,
    /// Highest interrupt index plus one.
    pub num_irqs: u32,
    /// Where the capability chain starts, from the start of this struct; 0 = none.
    pub cap_offset: u32,
    /// Padding.
    pub pad: u32,
}

/// The smallest `argsz` of `VFIO_DEVICE_GET_INFO`: through `num_irqs`.
pub const DEVICE_INFO_MIN: u32 = 16;

bitflags! {
    /// `VFIO_DEVICE_FLAGS_*`: what a device is. Only the flags this project uses.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct DeviceFlags: u32 {
        /// `VFIO_DEVICE_RESET` works.
        const RESET = 1;
        /// A PCI device: the region and interrupt indices are the PCI ones.
        const PCI = 2;
        /// The info has capabilities.
        const CAPS = 128;
    }
}

/// `struct vfio_region_info`, 32 bytes, followed by its capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RegionInfo {
    /// In: size of the caller's buffer. Out: what the capabilities would have needed, if more.
    pub argsz: u32,
    /// Out: [`RegionFlags`].
    pub flags: u32,
    /// In: which region.
    pub index: u32,
    /// Out: where the capability chain starts, from the start of this struct; 0 = none.
    pub cap_offset: u32,
    /// Out: size in bytes; 0 = the device does not have this region.
    pub size: u64,
    /// Out: where in the descriptor the region starts.
    pub offset: u64,
}

/// The smallest `argsz` of `VFIO_DEVICE_GET_REGION_INFO`: the whole struct.
pub const REGION_INFO_MIN: u32 = 32;

bitflags! {
    /// `VFIO_REGION_INFO_FLAG_*`: what may be done with a region.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RegionFlags: u32 {
        /// It can be read.
        const READ = 1;
        /// It can be written.
        const WRITE = 2;
        /// It, or its sparse areas, can be mapped.
        const MMAP = 4;
        /// The info has capabilities.
        const CAPS = 8;
    }
}

/// `struct vfio_irq_info`, 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IrqInfo {
    /// Size of this struct as the caller knows it, in bytes.
    pub argsz: u32,
    /// Out: [`IrqFlags`].
    pub flags: u32,
    /// In: which interrupt index.
    pub index: u32,
    /// Out: how many interrupts this index has.
    pub count: u32,
}

/// The smallest `argsz` of `VFIO_DEVICE_GET_IRQ_INFO`: the whole struct.
pub const IRQ_INFO_MIN: u32 = 16;

bitflags! {
    /// `VFIO_IRQ_INFO_*`: what an interrupt index can do.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct IrqFlags: u32 {
        /// It can be delivered through an eventfd.
        const EVENTFD = 1;
        /// It can be masked and unmasked.
        const MASKABLE = 2;
        /// It masks itself when it fires (level triggered).
        const AUTOMASKED = 4;
        /// Its vectors cannot be changed while some are enabled.
        const NORESIZE = 8;
        /// The info has capabilities: proposed upstream, not in the uapi (see the book's "The display extension").
        const CAPS = 16;
    }
}
