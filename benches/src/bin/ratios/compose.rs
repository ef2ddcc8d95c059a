//! Formats for others, and layers, against pixman; and a cursor on a large screen against one on a small.

use std::error::Error;
use std::hint::black_box;

use qemu_shim::compose::fast::{Layer, Pixels, blend};
use qemu_shim::convert::Outward;
use qemu_shim::{Frame, Rect};
use vfio_gfx::format::Fourcc;
use vfio_gfx_benches::compare::{Clock, Plan, compare};
use vfio_gfx_benches::desktop::desktop;
use vfio_gfx_benches::figure::Figure;

use crate::Report;
use crate::pixman::Pixman;

/// A row of tiles, which the second-level cache holds: of a whole frame, memory would be measured.
const ROWS: Plan = Plan { rounds: 200, batch: 20, clock: Clock::Thread };
const CURSORS: Plan = Plan { rounds: 400, batch: 20, clock: Clock::Thread };
/// Side of the cursor, in pixels.
const CURSOR: u32 = 64;

pub(crate) fn measure(report: Report<'_>) -> Result<(), Box<dyn Error>> {
    match Pixman::open() {
        Some(pixman) => {
            for (format, name) in [
                (Fourcc::RGB565, "1920x32 pixels to RGB565"),
                (Fourcc::RGB888, "1920x32 pixels to RGB888"),
                (Fourcc::XBGR8888, "1920x32 pixels to XBGR8888"),
            ] {
                convert(pixman, format, name, report)?;
            }
            over(pixman, report)?;
        }
        None => eprintln!("ratios: no pixman here: nothing is compared with it"),
    }
    cursor(report)
}

fn convert(
    pixman: Pixman,
    format: Fourcc,
    name: &'static str,
    report: Report<'_>,
) -> Result<(), Box<dyn Error>> {
    let frame = &desktop(1920, 32)?;
    let outward = Outward::new(format).ok_or("no such format")?;
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    let stride = width * outward.bytes_per_pixel();
    let no_image = || format!("pixman makes no image of {format}");
    let source =
        pixman.image(Fourcc::XRGB8888, width, height, frame.pixels().to_vec()).ok_or_else(no_image)?;
    let mut theirs =
        pixman.image(format, width, height, vec![0; stride * height / 4]).ok_or_else(no_image)?;
    let mut ours = vec![0; stride * height];
    let medians = compare(
        ROWS,
        || {
            for (row, out) in black_box(frame).rows().zip(ours.chunks_exact_mut(stride)) {
                outward.convert_row(row, out);
            }
            black_box(&mut ours);
            Ok(())
        },
        || {
            theirs.convert(black_box(&source));
            Ok(())
        },
    )?;
    if !theirs.pixels().iter().flat_map(|word| word.to_le_bytes()).eq(ours) {
        return Err(format!("pixman's {format} is another").into());
    }
    report(Figure::timed(name, medians, "pixman, the same", 1.0))
}

/// A disc that fades towards its edge: most of it neither transparent nor opaque.
fn faded_disc() -> Vec<u32> {
    let side = i64::from(CURSOR);
    let pixel = |n: i64| {
        let (x, y) = (n % side - side / 2, n / side - side / 2);
        let a = u32::try_from(255 - (x * x + y * y) / 4).unwrap_or(0);
        (a << 24) | (a << 16) | ((a / 2) << 8) | (a / 3)
    };
    (0..side * side).map(pixel).collect()
}

fn layer(pixels: &[u32], x: i32, y: i32) -> Layer<'_> {
    Layer { x, y, width: CURSOR, height: CURSOR, pixels: Pixels::Premultiplied(pixels) }
}

fn over(pixman: Pixman, report: Report<'_>) -> Result<(), Box<dyn Error>> {
    let mut frame = desktop(640, 480)?;
    let (width, height) = (640, 480);
    let disc = faded_disc();
    let side = CURSOR as usize;
    let source = pixman.image(Fourcc::ARGB8888, side, side, disc.clone()).ok_or("no image")?;
    let mut theirs =
        pixman.image(Fourcc::XRGB8888, width, height, frame.pixels().to_vec()).ok_or("no image")?;
    let medians = compare(
        CURSORS,
        || {
            blend(&mut frame, black_box(&[layer(&disc, 101, 57)]), &[Rect::new(96, 32, 96, 96)]);
            Ok(())
        },
        || {
            theirs.blend(black_box(&source), (101, 57));
            Ok(())
        },
    )?;
    report(Figure::timed("64x64 with alpha over a frame", medians, "pixman, the same", 3.0))
}

fn cursor(report: Report<'_>) -> Result<(), Box<dyn Error>> {
    let mut large = Frame::new(3840, 2160)?;
    let mut small = Frame::new(CURSOR, CURSOR)?;
    let disc = faded_disc();
    let medians = compare(
        CURSORS,
        || {
            let within = [Rect::new(1900, 1000, CURSOR, CURSOR)];
            blend(&mut large, black_box(&[layer(&disc, 1900, 1000)]), &within);
            Ok(())
        },
        || {
            blend(&mut small, black_box(&[layer(&disc, 0, 0)]), &[Rect::new(0, 0, CURSOR, CURSOR)]);
            Ok(())
        },
    )?;
    report(Figure::timed("64x64 cursor on a 4K frame", medians, "the same on a frame of 64x64", 1.2))
}
