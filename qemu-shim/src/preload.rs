//! What the preload library is told by `qemu-shim qemu`: names that both must agree on.

/// The file name of the preload library.
pub const LIBRARY: &str = "libvfio_gfx_preload.so";
/// Environment variable: the vfio-user socket of the device.
pub const SOCKET: &str = "VFIO_GFX_PRELOAD_SOCKET";
/// Environment variable: the number of the group that the device is in, as QEMU reads it from the device's directory.
pub const GROUP: &str = "VFIO_GFX_PRELOAD_GROUP";
/// Environment variable: `region` or `dmabuf`, what QEMU is offered; `region` if it is not set.
pub const INTERFACE: &str = "VFIO_GFX_PRELOAD_INTERFACE";
