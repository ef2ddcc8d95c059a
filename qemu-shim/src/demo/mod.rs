//! A guest to look at: draws moving pictures on a Bochs display, as a real guest's driver would.
//!
//! There are two, and they show the same pictures frame for frame: [`kvm`] is machine code on a real vCPU, whose every
//! register access leaves the guest and whose pixels go straight into shared VRAM; [`painter`] is a plain function for
//! machines without KVM. Neither knows the device model: both drive it through [`Bars`].

use std::fs::File;

use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};

#[cfg(target_arch = "x86_64")]
mod guest;
#[cfg(target_arch = "x86_64")]
pub mod kvm;
#[cfg(not(target_arch = "x86_64"))]
#[path = "no_kvm.rs"]
pub mod kvm;
mod kvm_error;
pub mod painter;
mod picture;
#[cfg(test)]
mod testing;

/// The device as the guest sees it: the registers in BAR2, little-endian, and a word when a picture is complete.
///
/// The pixels are not here: VRAM (BAR0) is a file both sides map.
pub trait Bars {
    /// The guest reads `data.len()` (1, 2, 4 or 8) bytes at `offset` of BAR2.
    fn read(&mut self, offset: u64, data: &mut [u8]);

    /// The guest writes `data.len()` (1, 2, 4 or 8) bytes at `offset` of BAR2.
    fn write(&mut self, offset: u64, data: &[u8]);

    /// Frame `number`, counted from 0, is on screen and complete. The guest waits meanwhile; return `false` to stop it.
    fn frame(&mut self, number: u32) -> bool;

    /// A signal interrupted the guest between two frames. Return `false` to stop it: the way out for a watchdog, or for
    /// Ctrl-C, should the guest ever hang.
    fn interrupted(&mut self) -> bool {
        true
    }
}

/// Why the guest's driver gave up on the display.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// Register 0 holds no Bochs display's id.
    #[error("guest found no display: expected id 0xb0c0 to 0xb0cf in DISPI register 0")]
    NoDisplay,
    /// The smallest mode does not fit twice.
    #[error("guest found too little video memory in DISPI register 10: two pages of 640x480 need 2400 KiB")]
    TooLittleMemory,
}

/// Why VRAM could not be mapped.
#[derive(Debug, thiserror::Error)]
pub enum VramError {
    /// The size is not one the guest's address map has room for.
    #[error("VRAM of {size} bytes: expected whole 4 KiB pages, at least one and at most {VRAM_MAX} bytes")]
    Size {
        /// Size given, in bytes.
        size: u64,
    },
    /// The file is shorter: beyond its end a mapping has no memory.
    #[error("VRAM file has {found} bytes, expected at least {size}")]
    Short {
        /// Size given, in bytes.
        size: u64,
        /// Length of the file in bytes.
        found: u64,
    },
    /// The file's length, or a second handle to it, could not be had.
    #[error("cannot use the VRAM file: {0}")]
    File(#[source] std::io::Error),
    /// The mapping failed.
    #[error("cannot map {size} bytes of the VRAM file: {source}")]
    Map {
        /// Size given, in bytes.
        size: u64,
        /// What vm-memory says.
        source: vm_memory::mmap::FromRangesError,
    },
}

/// Offsets into BAR2 (QEMU docs/specs/standard-vga.rst).
mod bar2 {
    /// VGA port 0x3c0, the attribute controller.
    pub(super) const ATTRIBUTE: u32 = 0x400;
    /// Written to [`ATTRIBUTE`]: palette address source, which lets the picture through.
    pub(super) const UNBLANK: u8 = 0x20;
    /// The DISPI registers, 16 bits each.
    pub(super) const DISPI: u32 = 0x500;
}

/// Indices of the DISPI registers (standard-vga.rst, and the Bochs documentation it refers to).
mod dispi {
    pub(super) const ID: u32 = 0;
    pub(super) const XRES: u32 = 1;
    pub(super) const YRES: u32 = 2;
    pub(super) const BPP: u32 = 3;
    pub(super) const ENABLE: u32 = 4;
    pub(super) const BANK: u32 = 5;
    pub(super) const VIRT_WIDTH: u32 = 6;
    pub(super) const VIRT_HEIGHT: u32 = 7;
    pub(super) const X_OFFSET: u32 = 8;
    pub(super) const Y_OFFSET: u32 = 9;
    pub(super) const VIDEO_MEMORY_64K: u32 = 10;

    /// Every id of the family has these bits, and any in the low four.
    pub(super) const ID_FAMILY: u16 = 0xb0c0;
    /// In ENABLE: on, and the linear framebuffer in use.
    pub(super) const ENABLED_LFB: u16 = 0x41;
}

/// Where the guest sees VRAM, in its physical address space.
const VRAM_BASE: u64 = 0xe000_0000;
/// Where it sees BAR2. VRAM ends here at the latest.
const BAR2_BASE: u64 = 0xf000_0000;
/// Most VRAM there is room for, in bytes.
const VRAM_MAX: u64 = BAR2_BASE - VRAM_BASE;

/// Maps the first `size` bytes of the VRAM file, shared, at [`VRAM_BASE`].
fn map_vram(file: &File, size: u64) -> Result<GuestMemoryMmap, VramError> {
    let bytes = usize::try_from(size)
        .ok()
        .filter(|_| (1..=VRAM_MAX).contains(&size) && size.is_multiple_of(4096))
        .ok_or(VramError::Size { size })?;
    let found = file.metadata().map_err(VramError::File)?.len();
    if found < size {
        return Err(VramError::Short { size, found });
    }
    let file = file.try_clone().map_err(VramError::File)?;
    let range = (GuestAddress(VRAM_BASE), bytes, Some(FileOffset::new(file, 0)));
    GuestMemoryMmap::from_ranges_with_files([range]).map_err(|source| VramError::Map { size, source })
}
