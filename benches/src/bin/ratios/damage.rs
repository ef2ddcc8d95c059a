//! What it costs to learn what changed on a 4K screen, against what the C library needs to compare and to copy as much.
//!
//! Either side works on 33 MB of video memory and 33 MB of what was seen, which are more than a cache holds, in pages of 4 KiB.
//! They are the very same: where two buffers happen to be in physical memory makes more of a difference (a tenth, measured
//! with `memcmp` alone) than what is done with them.
#![expect(unsafe_code, reason = "memcmp and memcpy need slices")]

use std::cell::RefCell;
use std::error::Error;
use std::hint::black_box;
use std::slice;

use vfio_gfx::memory::compare::{Fingerprints, TILE, words};
use vfio_gfx::memory::{BufferKind, Mapping, Vram, WriteTracker};
use vfio_gfx_benches::compare::{Clock, Plan, compare};
use vfio_gfx_benches::figure::Figure;
use zerocopy::IntoBytes;

use crate::Report;

const WIDTH: usize = 3840;
const HEIGHT: usize = 2160;
const STRIDE: usize = WIDTH * 4;
const SIZE: usize = STRIDE * HEIGHT;
/// Tiles of the screen.
const TILES: u32 = 120 * 68;
const PLAN: Plan = Plan { rounds: 300, batch: 1, clock: Clock::Thread };
const SCANS: Plan = Plan { rounds: 200, batch: 10, clock: Clock::Thread };

/// Two pages of video memory that differ in every pixel, and what was last seen.
struct Screen {
    vram: Vram,
    mapping: Mapping,
    shown: Vec<u32>,
    /// The page that `shown` is of.
    page: usize,
    changed: Vec<u64>,
    seen: Fingerprints,
}

impl Screen {
    fn new() -> Result<Self, Box<dyn Error>> {
        let size = 2 * SIZE as u64;
        let vram = Vram::new("ratios", size)?;
        for (page, colour) in [(0, 1), (1, 2)] {
            // The byte that means nothing is 0, as in what is shown: `memcmp` does not leave it out.
            let row = [colour, colour, colour, 0].repeat(WIDTH);
            for y in 0..HEIGHT {
                vram.write((page * SIZE + y * STRIDE) as u64, &row)?;
            }
        }
        let mapping = Mapping::new(vram.reopen_read_only()?, BufferKind::Memfd, size)?;
        let (shown, changed) = (vec![0; WIDTH * HEIGHT], vec![0; words(WIDTH) * HEIGHT.div_ceil(TILE)]);
        let mut seen = Fingerprints::default();
        seen.resize(WIDTH, HEIGHT);
        let mut screen = Self { vram, mapping, shown, page: 0, changed, seen };
        screen.update(TILES)?;
        Ok(screen)
    }

    /// Brings what was seen up to date with the page, as a console does; so many tiles must turn out to have changed.
    fn update(&mut self, expected: u32) -> Result<(), Box<dyn Error>> {
        let Self { mapping, shown, page, changed, seen, .. } = self;
        changed.fill(0);
        seen.start_look();
        mapping.update_rows((*page * SIZE) as u64, STRIDE as u64, 0..HEIGHT, shown, changed, seen)?;
        let found: u32 = changed.iter().map(|word| word.count_ones()).sum();
        if expected == found { Ok(()) } else { Err(format!("{found} tiles changed, not {expected}").into()) }
    }

    /// The page as the C library takes it, and what was seen.
    fn slices(&mut self) -> (&[u8], &mut [u8]) {
        let guard = self.vram.memory().ptr_guard();
        // SAFETY: the video memory has two pages of this size.
        let page = unsafe { guard.as_ptr().add(self.page * SIZE) };
        // SAFETY: memory that stays mapped as long as `self.vram`, which is borrowed; it is written in `new` and `draw` alone, and
        // nobody else has it.
        let page = unsafe { slice::from_raw_parts(page, SIZE) };
        (page, self.shown.as_mut_bytes())
    }

    /// Draws four tiles of the page in one colour.
    fn draw(&self, colour: u8) -> Result<(), Box<dyn Error>> {
        let row = [colour, colour, colour, 0].repeat(64);
        for y in 1024..1024 + 64 {
            self.vram.write((self.page * SIZE + y * STRIDE + 2048 * 4) as u64, &row)?;
        }
        Ok(())
    }
}

pub(crate) fn measure(report: Report<'_>) -> Result<(), Box<dyn Error>> {
    let screen = RefCell::new(Screen::new()?);
    let medians = compare(
        PLAN,
        || screen.borrow_mut().update(0),
        || {
            let mut screen = screen.borrow_mut();
            let (page, shown) = black_box(screen.slices());
            if page == shown { Ok(()) } else { Err("what is shown is not what is there".into()) }
        },
    )?;
    report(Figure::timed("4K frame, unchanged", medians, "memcmp of the two", 1.1))?;

    let flipped = || {
        let mut screen = screen.borrow_mut();
        screen.page ^= 1;
        screen
    };
    let medians = compare(
        PLAN,
        || flipped().update(TILES),
        || {
            let mut screen = flipped();
            let (page, shown) = black_box(screen.slices());
            shown.copy_from_slice(page);
            Ok(())
        },
    )?;
    report(Figure::timed("4K frame, fully changed", medians, "memcpy of the one to the other", 1.3))?;

    let mut colours = (3..=255).cycle();
    let medians = compare(
        PLAN,
        || {
            let mut screen = screen.borrow_mut();
            screen.draw(colours.next().unwrap_or(0))?;
            screen.update(4)
        },
        || screen.borrow_mut().update(0),
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
