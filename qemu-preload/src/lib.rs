//! Preloaded into an unmodified QEMU, this library makes a display behind a vfio-user socket look like a device of the
//! kernel: QEMU's own `vfio-pci,display=on` drives it, and QEMU's own VNC, GTK and `screendump` show it.
//!
//! QEMU opens `/dev/vfio/GROUP` and `/dev/vfio/vfio`, and from there on talks in ioctls, `pread`, `pwrite` and `mmap`. The
//! library answers these calls for the descriptors that it handed out, by asking the device over its socket, and passes all
//! others on. `qemu-shim qemu` sets it up; `config` is what it is told.
//!
//! Data flows one way: `hooks` are the C functions that QEMU finds instead of libc's, `files` knows which descriptors
//! are ours, `argument` copies a call's bytes in and out, `shim` answers them with a `device` (registers, memory,
//! interrupts) and a `screen` (pixels). Only the first, third and `next` touch C; the rest is safe and is tested with
//! QEMU's call sequence.
//!
//! # What QEMU is spared
//!
//! - It is offered the region interface only: one that has no GL refuses to start with a device that offers dma-bufs.
//! - It is shown a region of the library's own, not the device's. Its index never changes (QEMU 10.1 and later free memory in
//!   use when it does), it is larger than any plane, the plane starts at its first byte (the ioctl cannot say where else) and
//!   has always the same format, which every QEMU knows.
//! - A query never fails: QEMU would log an error 33 times a second. What cannot be shown is a picture that says why.
//! - When the device is gone, memory can still be mapped and unmapped: QEMU aborts when it cannot.
//!
//! The price is that changed tiles are copied once more, and that an unchanged picture is compared, at each query.

mod argument;
mod bytes;
mod config;
mod device;
mod files;
mod hooks;
mod memory;
mod next;
mod report;
mod screen;
mod shim;
#[cfg(test)]
mod tests;
