//! A console that is told what was written: looking again must cost what was written, not what is on screen.
//!
//! Of a 1080p screen, 0, 1, 100 or all 2025 pages are written, in turn. What looking costs when nothing was written is the
//! base; above it, n pages may cost n times what each costs when all are.

use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use qemu_shim::console::DirtyLog;
use qemu_shim::{Console, Refresh};
use vfio_gfx::device::SharedDevice;
use vfio_gfx::display::{Display, Local};
use vfio_gfx::memory::PAGE_SIZE;
use vfio_gfx_benches::compare::{Clock, median};
use vfio_gfx_benches::device::{HD, showing};
use vfio_gfx_benches::figure::Figure;

use crate::Report;
use crate::kvm::Guest;

const ROUNDS: usize = 60;
/// Pages of the screen: 1920 × 1080 × 4 bytes.
const ALL: u64 = 2025;
const SOME: u64 = 100;
const _: () = assert!(ALL == (HD.0 as u64 * HD.1 as u64 * 4).div_ceil(PAGE_SIZE));
/// Accepted, above the line from nothing to everything. A page begins and ends in the middle of a row, and rows are looked at
/// whole: one page is two rows or almost four pages, and many pages in one piece are hardly more than their rows.
const ACCEPTED: f64 = 1.5;

type Log = Arc<Mutex<Vec<u64>>>;

pub(crate) fn measure(report: Report<'_>) -> Result<(), Box<dyn Error>> {
    // A log kept by hand, which costs nothing: the console's own share.
    let device = showing(HD)?;
    let size = device.lock().vram().size();
    let log = Log::new(Mutex::new(vec![0; usize::try_from(size / PAGE_SIZE / 64)?]));
    let fetched = Arc::clone(&log);
    let take = move || {
        let mut log = fetched.lock().unwrap_or_else(PoisonError::into_inner);
        let empty = vec![0; log.len()];
        Ok(std::mem::replace(&mut *log, empty))
    };
    let draw = |pages: u64, colour: u32| -> Result<(), Box<dyn Error>> {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        for page in 0..pages {
            device.lock().vram().write(page * PAGE_SIZE, &colour.to_le_bytes())?;
            if let Some(word) = log.get_mut(usize::try_from(page / 64)?) {
                *word |= 1 << (page % 64);
            }
        }
        Ok(())
    };
    let names = ["a log by hand, 1 page", "a log by hand, 100 pages", "a log by hand, all pages"];
    costs(names, &device, DirtyLog::new(size, take), draw, report)?;

    let device = showing(HD)?;
    let mut guest = match Guest::new(&device) {
        Ok(guest) => guest,
        Err(error) => {
            eprintln!("ratios: SKIPPED KVM's dirty log: {error}");
            return Ok(());
        }
    };
    let log = DirtyLog::new(size, guest.log());
    let names = ["KVM's dirty log, 1 page", "KVM's dirty log, 100 pages", "KVM's dirty log, all pages"];
    costs(names, &device, log, |pages, colour| guest.draw(pages, colour), report)
}

/// What a console costs that is told of so many pages.
fn costs(
    names: [&'static str; 3],
    device: &SharedDevice,
    log: DirtyLog<impl FnMut() -> io::Result<Vec<u64>> + Send + 'static>,
    mut draw: impl FnMut(u64, u32) -> Result<(), Box<dyn Error>>,
    report: Report<'_>,
) -> Result<(), Box<dyn Error>> {
    let mut console = Console::new(Display::open(Box::new(Local::new(device.clone())))?);
    console.set_damage_source(Box::new(log));
    let mut plain = Console::new(Display::open(Box::new(Local::new(device.clone())))?);
    console.refresh()?;
    console.refresh()?;
    plain.refresh()?;
    let mut times: [Vec<Duration>; 4] = Default::default();
    let mut without = Vec::new();
    let mut colour = 0;
    for _ in 0..ROUNDS {
        for (pages, times) in [0, 1, SOME, ALL].into_iter().zip(&mut times) {
            colour += 1;
            if pages > 0 {
                draw(pages, colour)?;
            }
            times.push(look(&mut console, pages > 0)?);
        }
        // It has not seen any of these.
        without.push(look(&mut plain, true)?);
    }
    let [nothing, one, some, all] = times.each_mut().map(|times| median(times));
    let line = |pages: u64| nothing + (all - nothing) * pages as f64 / ALL as f64;
    let base = "as many of all pages, and nothing written";
    report(Figure::new(names[0], one, "ns", line(4), base, ACCEPTED))?;
    report(Figure::new(names[1], some, "ns", line(SOME), base, ACCEPTED))?;
    report(Figure::new(names[2], all, "ns", median(&mut without), "a console without a log", ACCEPTED))
}

/// Looks again, which must find that something changed or that nothing did.
fn look(console: &mut Console, changed: bool) -> Result<Duration, Box<dyn Error>> {
    let (found, time) = Clock::Thread.time(|| console.refresh());
    let expected = if changed { Refresh::Changed } else { Refresh::Same };
    match found? {
        found if found == expected => Ok(time),
        found => Err(format!("expected {expected:?}, found {found:?}").into()),
    }
}
