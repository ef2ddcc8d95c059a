//! What it costs to learn what changed on a 4K screen, against what the C library needs to compare and to copy as much.
//!
//! Either side works on buffers of 33 MB, which are more than a cache holds, in pages of 4 KiB.

use std::cell::RefCell;
use std::error::Error;
use std::hint::black_box;

use vfio_gfx::memory::compare::{TILE, words};
use vfio_gfx::memory::{BufferKind, Mapping, Vram, WriteTracker};
use vfio_gfx_benches::compare::{Plan, compare};
use vfio_gfx_benches::figure::Figure;

use crate::Report;

const WIDTH: usize = 3840;
const HEIGHT: usize = 2160;
const STRIDE: usize = WIDTH * 4;
const SIZE: usize = STRIDE * HEIGHT;
/// Tiles of the screen.
const TILES: u32 = 120 * 68;
const PLAN: Plan = Plan { rounds: 100, batch: 1 };
const SCANS: Plan = Plan { rounds: 200, batch: 10 };

/// Two pages of video memory that differ in every pixel, and what was last seen.
struct Screen {
    vram: Vram,
    mapping: Mapping,
    shown: Vec<u32>,
    /// One row of tiles.
    changed: Vec<u64>,
}

impl Screen {
    fn new() -> Result<Self, Box<dyn Error>> {
        let size = 2 * SIZE as u64;
        let vram = Vram::new("ratios", size)?;
        vram.fill(0, size / 2, 1);
        vram.fill(size / 2, size / 2, 2);
        let mapping = Mapping::new(vram.reopen_read_only()?, BufferKind::Memfd, size)?;
        Ok(Self { vram, mapping, shown: vec![0; WIDTH * HEIGHT], changed: vec![0; words(WIDTH)] })
    }

    /// Brings what was seen up to date with a page, in which this many tiles must turn out to have changed.
    fn update(&mut self, page: usize, expected: u32) -> Result<(), Box<dyn Error>> {
        let mut found = 0;
        let mut offset = (page * SIZE) as u64;
        for rows in self.shown.chunks_mut(WIDTH * TILE) {
            self.changed.fill(0);
            for row in rows.chunks_mut(WIDTH) {
                self.mapping.update_row(offset, row, &mut self.changed)?;
                offset += STRIDE as u64;
            }
            found += self.changed.iter().map(|word| word.count_ones()).sum::<u32>();
        }
        if found == expected { Ok(()) } else { Err(format!("{found} tiles changed, not {expected}").into()) }
    }

    /// Draws four tiles of the first page in one colour.
    fn draw(&self, colour: u8) -> Result<(), Box<dyn Error>> {
        let row = [colour; 64 * 4];
        for y in 1024..1024 + 64 {
            self.vram.write((y * STRIDE + 2048 * 4) as u64, &row)?;
        }
        Ok(())
    }
}

pub(crate) fn measure(report: Report<'_>) -> Result<(), Box<dyn Error>> {
    let mut screen = Screen::new()?;
    screen.update(0, TILES)?;
    let buffers = [vec![1u8; SIZE], vec![1u8; SIZE]];
    let medians = compare(
        PLAN,
        || screen.update(0, 0),
        || {
            let [a, b] = black_box(&buffers);
            if a == b { Ok(()) } else { Err("equal buffers differ".into()) }
        },
    )?;
    report(Figure::timed("4K frame, unchanged", medians, "memcmp of two equal buffers", 1.1))?;

    let mut copy = vec![0u8; SIZE];
    let mut flips = (1..).map(|n| n % 2);
    let mut copies = buffers.iter().cycle();
    let medians = compare(
        PLAN,
        || screen.update(flips.next().unwrap_or(0), TILES),
        || {
            copy.copy_from_slice(black_box(copies.next().unwrap_or(&buffers[0])));
            black_box(&mut copy);
            Ok(())
        },
    )?;
    report(Figure::timed("4K frame, fully changed", medians, "memcpy of as much", 1.3))?;

    let screen = RefCell::new(screen);
    let _ = screen.borrow_mut().update(0, TILES); // which page was last depends on the plan
    let mut colours = (3..=255).cycle();
    let medians = compare(
        PLAN,
        || {
            let mut screen = screen.borrow_mut();
            screen.draw(colours.next().unwrap_or(0))?;
            screen.update(0, 4)
        },
        || screen.borrow_mut().update(0, 0),
    )?;
    report(Figure::timed("4K frame, 64x64 changed and drawn", medians, "an unchanged frame", 1.1))?;
    tracked(report)
}

/// The kernel is asked what was written to a screen in our own memory: nothing.
fn tracked(report: Report<'_>) -> Result<(), Box<dyn Error>> {
    let vram = Vram::new("ratios", SIZE as u64)?;
    vram.fill(0, SIZE as u64, 1);
    let mut tracker = match WriteTracker::new(&vram.memory()) {
        Ok(tracker) => tracker,
        Err(error) => {
            eprintln!("ratios: writes are not tracked here: {error}");
            return Ok(());
        }
    };
    tracker.take(0..SIZE as u64, &mut |_| {})?;
    let mut written = 0;
    let mut ask = || Ok(tracker.take(0..SIZE as u64, &mut |part| written += part.end - part.start)?);
    let medians = compare(SCANS, &mut ask, || Ok(()))?;
    if written > 0 {
        return Err(format!("{written} bytes were written to memory that nobody wrote to").into());
    }
    report(Figure::counted("4K frame in tracked memory, unchanged", medians.ours / 1000.0, "us", 50.0))
}
