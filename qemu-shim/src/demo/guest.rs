//! The program of the demo guest: bare 32-bit x86 code that drives a Bochs display.
//!
//! It draws the pictures of [`picture`], but as a guest would: the background once per page, and then only
//! what moves. It uses no interrupts, no paging and no instructions beyond plain integer ones, so it also runs where the
//! host emulates much of what a guest does. Numbers it shares with the painter come from there, as operands.

#![expect(
    unsafe_code,
    reason = "assembly, and the extern block that names its bytes; nothing here is executed by the host"
)]

use std::arch::global_asm;

use super::{BAR2_BASE, VRAM_BASE, bar2, dispi, picture};

/// Guest-physical address the image must be copied to, and where it is entered.
pub(super) const LOAD_ADDRESS: u64 = 0x8000;
/// The stack grows down from here. 32-bit variables live at [`VARIABLES`], below.
const STACK: u64 = 0x7000;
const VARIABLES: u64 = 0x1000;
/// Size of the image in bytes. The assembler pads to it, and refuses a program that is longer.
const SIZE: usize = 1024;

/// Port the number of a complete frame is written to, as 32 bits (the PC's POST code port).
pub(super) const FRAME_PORT: u16 = 0x80;
/// Port a [`DriverError`](super::DriverError) is written to, as one byte (QEMU's isa-debug-exit has it here by custom).
pub(super) const FAILURE_PORT: u16 = 0xf4;

/// Written to [`FAILURE_PORT`]: [`NoDisplay`](super::DriverError::NoDisplay).
pub(super) const NO_DISPLAY: u8 = 1;
/// Written to [`FAILURE_PORT`]: [`TooLittleMemory`](super::DriverError::TooLittleMemory).
pub(super) const TOO_LITTLE_MEMORY: u8 = 2;

/// The program.
pub(super) fn image() -> &'static [u8] {
    &QEMU_SHIM_DEMO_GUEST
}

// SAFETY: the assembly below defines the symbol, `SIZE` bytes long (`.org`) in read-only data, and nothing writes there.
unsafe extern "C" {
    safe static QEMU_SHIM_DEMO_GUEST: [u8; SIZE];
}

/// Guest-physical address of a DISPI register.
const fn register(index: u32) -> u64 {
    BAR2_BASE + bar2::DISPI as u64 + 2 * index as u64
}

global_asm!(
    include_str!("guest.s"),
    size = const SIZE,
    load_address = const LOAD_ADDRESS,
    variables = const VARIABLES,
    stack = const STACK,
    frame_port = const FRAME_PORT,
    failure_port = const FAILURE_PORT,
    no_display = const NO_DISPLAY,
    too_little_memory = const TOO_LITTLE_MEMORY,
    vram = const VRAM_BASE,
    attribute = const BAR2_BASE + bar2::ATTRIBUTE as u64,
    unblank = const bar2::UNBLANK,
    id = const register(dispi::ID),
    id_family = const dispi::ID_FAMILY,
    xres = const register(dispi::XRES),
    yres = const register(dispi::YRES),
    bpp = const register(dispi::BPP),
    enable = const register(dispi::ENABLE),
    enabled_lfb = const dispi::ENABLED_LFB,
    bank = const register(dispi::BANK),
    virt_width = const register(dispi::VIRT_WIDTH),
    virt_height = const register(dispi::VIRT_HEIGHT),
    x_offset = const register(dispi::X_OFFSET),
    y_offset = const register(dispi::Y_OFFSET),
    video_memory = const register(dispi::VIDEO_MEMORY_64K),
    frames_per_mode = const picture::FRAMES_PER_MODE,
    width0 = const picture::MODES[0].0,
    height0 = const picture::MODES[0].1,
    width1 = const picture::MODES[1].0,
    height1 = const picture::MODES[1].1,
    width2 = const picture::MODES[2].0,
    height2 = const picture::MODES[2].1,
    bar0 = const picture::BARS[0],
    bar1 = const picture::BARS[1],
    bar2 = const picture::BARS[2],
    bar3 = const picture::BARS[3],
    bar4 = const picture::BARS[4],
    bar5 = const picture::BARS[5],
    bar6 = const picture::BARS[6],
    bar7 = const picture::BARS[7],
    strip_height = const picture::STRIP_HEIGHT,
    strip_colour = const picture::STRIP_COLOUR,
    box_side = const picture::BOX_SIDE,
    box_step_x = const picture::BOX_STEP_X,
    box_step_y = const picture::BOX_STEP_Y,
    box_colour = const picture::BOX_COLOUR,
    digits = const picture::DIGITS,
    digit_side = const picture::DIGIT_SIDE,
    digit_pitch = const picture::DIGIT_PITCH,
    digit_margin = const picture::DIGIT_MARGIN,
    digit0 = const picture::DIGIT_COLOURS[0],
    digit1 = const picture::DIGIT_COLOURS[1],
);
