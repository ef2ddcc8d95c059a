//! vfio-gfx: the VFIO display ABI in userspace.

pub mod abi;
pub mod device;
pub mod display;
pub mod edid;
pub mod format;
pub mod memory;
pub mod plane;
pub mod vfio_user;
