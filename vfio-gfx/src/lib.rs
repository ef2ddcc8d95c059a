//! VFIO's display interface in userspace: write a mediated display device, or read one.
//!
//! Linux hands a vGPU's screen to a VMM through one ioctl, `VFIO_DEVICE_QUERY_GFX_PLANE`: the device says which plane it
//! scans out, as a mappable region or as a dma-buf. This crate is both ends of it.
//!
//! | module | for |
//! |---|---|
//! | [`abi`] | the uapi byte for byte |
//! | [`format`](mod@format), [`plane`] | pixel formats; what a plane is |
//! | [`edid`] | what a display tells a guest about itself |
//! | [`device`] | writing a device |
//! | [`memory`] | memory that somebody else can write |
//! | [`display`] | reading a device |
//! | [`vfio_user`] | both over a socket |
//!
//! A device is a [`device::Model`] (registers in, planes out) in a [`device::Device`], which answers everything else; a
//! [`vfio_user::Server`] offers it to a VMM and to consoles. A console opens a [`display::Display`] and reads its planes.
//!
//! *Core* modules (abi, format, plane, edid, the vfio-user codec, configuration space, the EDID region) do no I/O, have no
//! `unsafe`, and give a value or a typed error for every input. The rest is a thin shell around system calls.
//!
//! The lints below hold what they can of that, for the whole crate; a module of the shell that is excused says so here or at its top.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

pub mod abi;
pub mod device;
#[expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "shell: counts of its own tables, fixed offsets in buffers of its own"
)]
pub mod display;
pub mod edid;
pub mod format;
#[expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "shell: numbers that were checked when the memory was mapped or granted"
)]
pub mod memory;
mod number;
pub mod plane;
pub mod vfio_user;
