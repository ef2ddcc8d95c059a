//! The demo guest without a machine: the same registers, the same pictures, drawn by the calling thread.

use std::fs::File;

use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::picture::{self, FRAMES_PER_MODE, MODES, Rect};
use super::{Bars, DriverError, VRAM_BASE, VramError, bar2, dispi, map_vram};

/// Why the painter stopped, other than being told to.
#[derive(Debug, thiserror::Error)]
pub enum PainterError {
    /// The driver found no usable display.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// VRAM could not be mapped.
    #[error(transparent)]
    Vram(#[from] VramError),
    /// The display has less VRAM than its register says.
    #[error("cannot write to VRAM: {0}")]
    Write(#[from] GuestMemoryError),
}

/// Drives the display until [`Bars::frame`] says to stop.
///
/// `vram` must stay at least `vram_size` bytes long meanwhile (seal it): to write to a mapping beyond the end of its file
/// kills the process.
///
/// # Errors
/// See [`PainterError`].
pub fn run(vram: &File, vram_size: u64, bars: &mut dyn Bars) -> Result<(), PainterError> {
    let memory = map_vram(vram, vram_size)?;
    if read(bars, dispi::ID) & 0xfff0 != dispi::ID_FAMILY {
        return Err(DriverError::NoDisplay.into());
    }
    let reported = u64::from(read(bars, dispi::VIDEO_MEMORY_64K)) << 16;
    let modes: Vec<_> = MODES.into_iter().filter(|&mode| picture::fits(mode, reported)).collect();
    if modes.is_empty() {
        return Err(DriverError::TooLittleMemory.into());
    }
    let mut number = 0u32;
    for &mode in modes.iter().cycle() {
        set_mode(bars, mode);
        for _ in 0..FRAMES_PER_MODE {
            // A mode starts with its upper page on screen, so even frames go to the lower one.
            let y_offset = if number.is_multiple_of(2) { mode.1 } else { 0 };
            for rect in picture::picture(number, mode) {
                fill(&memory, mode.0, y_offset, rect)?;
            }
            write(bars, dispi::VIRT_WIDTH, mode.0);
            write(bars, dispi::X_OFFSET, 0);
            write(bars, dispi::Y_OFFSET, y_offset);
            if !bars.frame(number) {
                return Ok(());
            }
            number = number.wrapping_add(1);
        }
    }
    Ok(())
}

/// The order of writes is that of the Linux driver (bochs-drm), but the picture is let through last.
fn set_mode(bars: &mut dyn Bars, (width, height): (u32, u32)) {
    write(bars, dispi::ENABLE, 0);
    write(bars, dispi::BPP, 32);
    write(bars, dispi::XRES, width);
    write(bars, dispi::YRES, height);
    write(bars, dispi::BANK, 0);
    write(bars, dispi::VIRT_WIDTH, width);
    write(bars, dispi::VIRT_HEIGHT, 2 * height);
    write(bars, dispi::X_OFFSET, 0);
    write(bars, dispi::Y_OFFSET, 0);
    write(bars, dispi::ENABLE, dispi::ENABLED_LFB.into());
    bars.write(bar2::ATTRIBUTE.into(), &[bar2::UNBLANK]);
}

fn read(bars: &mut dyn Bars, register: u32) -> u16 {
    let mut value = [0; 2];
    bars.read(u64::from(bar2::DISPI + 2 * register), &mut value);
    u16::from_le_bytes(value)
}

fn write(bars: &mut dyn Bars, register: u32, value: u32) {
    let [low, high, ..] = value.to_le_bytes();
    bars.write(u64::from(bar2::DISPI + 2 * register), &[low, high]);
}

/// Fills a rectangle of the page that starts at line `y_offset`.
fn fill(memory: &GuestMemoryMmap, stride: u32, y_offset: u32, rect: Rect) -> Result<(), GuestMemoryError> {
    let row = rect.colour.to_le_bytes().repeat(rect.width as usize);
    for y in y_offset + rect.y..y_offset + rect.y + rect.height {
        let pixel = u64::from(y) * u64::from(stride) + u64::from(rect.x);
        memory.write_slice(&row, GuestAddress(VRAM_BASE + 4 * pixel))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::testing::{self, Display};
    use super::*;

    #[test]
    fn shows_every_mode_in_turn() {
        let mut display = Display::new(8 << 20, 40);
        run(&display.vram(), 8 << 20, &mut display).unwrap();
        let shots = &display.shots;
        assert!(shots.iter().map(|shot| shot.number).eq(0..40));
        for (shots, mode) in shots.chunks(12).zip(MODES.into_iter().cycle()) {
            assert!(shots.iter().all(|shot| shot.mode == mode));
        }
        assert_eq!([shots[0].y_offset, shots[1].y_offset, shots[12].y_offset], [480, 0, 600]);
        let distinct: HashSet<u32> = shots.iter().map(|shot| shot.crc).collect();
        assert_eq!(distinct.len(), 40, "no two frames are alike");
    }

    #[test]
    fn a_screen_tells_its_number() {
        let mut display = Display::new(4 << 20, 30);
        run(&display.vram(), 4 << 20, &mut display).unwrap();
        let screen = display.screen();
        let pixel = |x: u32, y: u32| screen.row(y).unwrap()[x as usize];
        let (width, height) = (screen.width(), screen.height());
        assert_eq!((width, height), (640, 480), "4 MiB are too few for 1024x768");
        let digits = (0..16).map(|i| u32::from(pixel(10 + 20 * i + 6, height - 32 + 10 + 6) == 0xff_c000));
        assert_eq!(digits.fold(0, |number, digit| number << 1 | digit), 29);
        // Third run: the bars have moved by two. The box has bounced off the right wall: 29 × 23 = 667 of 576.
        assert_eq!([pixel(0, 0), pixel(639, 0)], [0x00_bfbf, 0xbf_bf00]);
        let box_at = (2 * 576 - 667, 2 * 384 - 29 * 14);
        assert_eq!(pixel(box_at.0, box_at.1), 0xff_ffff);
        assert_eq!(pixel(box_at.0 + 63, box_at.1 + 63), 0xff_ffff);
        assert_ne!(pixel(box_at.0 - 1, box_at.1), 0xff_ffff);
        assert_ne!(pixel(box_at.0 + 64, box_at.1 + 63), 0xff_ffff);
    }

    #[test]
    fn the_drivers_complaints_arrive() {
        let cases = [
            (testing::alien(), DriverError::NoDisplay),
            (Display::new(2 << 20, 1), DriverError::TooLittleMemory),
        ];
        for (mut display, expected) in cases {
            let error = run(&display.vram(), 2 << 20, &mut display).unwrap_err();
            assert!(matches!(error, PainterError::Driver(found) if found == expected), "{error}");
        }
    }

    #[test]
    fn a_display_that_lies_about_its_memory_is_an_error() {
        let mut display = Display::new(4 << 20, 30);
        let error = run(&display.vram(), 2 << 20, &mut display).unwrap_err();
        assert!(matches!(error, PainterError::Write(_)), "{error}");
    }
}
