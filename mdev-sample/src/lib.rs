//! Sample mediated vGPUs that stock guests have drivers for.
//!
//! The six types of the kernel's `mdpy` and `mbochs` sample drivers, as devices of `vfio-gfx`: same names, configuration
//! space, regions and registers, so that whoever knows those knows these; and what guests need beyond them.
//!
//! * [`mdpy`]: a fixed framebuffer. Linux's `mdpy-fb` drives it.
//! * [`mbochs`]: a Bochs display ([`dispi`]). Linux's `bochs-drm`, SeaBIOS and OVMF drive it.
//!
//! * [`vgfx`]: a display of our own, which a Bochs driver drives too: overlay and cursor planes, atomic flips, events.
//!
//! [`TYPES`] lists them; [`DeviceType::create`] makes one. [`replay`] holds them against recordings of the originals,
//! and [`abi_fuzz`] makes recordings of anybody's.

pub mod abi_fuzz;
pub mod cli;
pub mod dispi;
mod log;
pub mod mbochs;
pub mod mdpy;
mod pieces;
pub mod replay;
mod types;
pub mod vgfx;

pub use types::{CreateError, DeviceType, TYPES, UnknownType};
