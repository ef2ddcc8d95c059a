//! The VFIO display ABI, byte for byte.
//!
//! Everything here mirrors `include/uapi/linux/vfio.h`: ioctl numbers, argument structs, flag words and
//! capability chains. The structs are plain memory (every field public, every bit pattern valid) because they
//! come from someone else; the types built *from* them ([`PlaneRequest`], [`PlaneKind`], the flag sets) cannot
//! hold a value that the ABI does not define. Sizes and offsets are compared with `vfio-bindings` when this
//! crate is compiled.
//!
//! This is core tier: no I/O, no panic, no allocation that follows an unchecked length.

pub mod caps;
mod errno;
mod feature;
mod gfx;
mod info;
mod ioctl;
mod irq;
mod layout;

pub use errno::Errno;
pub use feature::{FEATURE_HEADER, FeatureError, feature_number};
pub use gfx::{
    EdidRegisters, GfxFlags, HOTSPOT_NONE, Interface, LinkState, PLANE_INFO_MIN, PlaneInfo, PlaneKind,
    PlaneRequest, RequestError,
};
pub use info::{
    DEVICE_INFO_MIN, DeviceFlags, DeviceInfo, IRQ_INFO_MIN, IrqFlags, IrqInfo, REGION_INFO_MIN, RegionFlags,
    RegionInfo,
};
pub use ioctl::{ContainerIoctl, DeviceIoctl, FdKind, GroupIoctl, Ioctl};
pub use irq::{IRQ_SET_HEADER, IrqAction, IrqData, IrqRequest, IrqSet, IrqSetError};

/// PCI region indices (`VFIO_PCI_*_REGION_INDEX`, vfio.h): fixed positions in a PCI device's region table.
pub mod pci_region {
    /// First base address register; BAR n is region n.
    pub const BAR0: u32 = 0;
    /// Third base address register.
    pub const BAR2: u32 = 2;
    /// Last base address register.
    pub const BAR5: u32 = 5;
    /// Expansion ROM.
    pub const ROM: u32 = 6;
    /// Configuration space.
    pub const CONFIG: u32 = 7;
    /// Legacy VGA ranges.
    pub const VGA: u32 = 8;
    /// First index that is not fixed: device-specific regions start here.
    pub const COUNT: u32 = 9;
}

/// PCI interrupt indices (`VFIO_PCI_*_IRQ_INDEX`, vfio.h).
pub mod pci_irq {
    /// Legacy interrupt pin.
    pub const INTX: u32 = 0;
    /// Message signalled interrupts.
    pub const MSI: u32 = 1;
    /// Message signalled interrupts, extended.
    pub const MSIX: u32 = 2;
    /// Error notification.
    pub const ERR: u32 = 3;
    /// The host asks for the device back.
    pub const REQ: u32 = 4;
    /// First index that is not fixed.
    pub const COUNT: u32 = 5;
}
