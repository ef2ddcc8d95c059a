//! `qemu-shim wait`

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use super::looking::{Look, Looking, read_picture, seconds};
use super::screendump::Output;
use crate::compare::{Difference, Part, compare, picture};
use crate::console::Console;
use crate::damage::Rect;
use crate::frame::Frame;
use crate::target::Target;

#[derive(Debug, Args)]
pub(super) struct Wait {
    /// The device.
    pub(super) device: Target,
    /// The picture to wait for: of the whole screen, or of the region.
    #[arg(long, value_name = "GOLDEN.png")]
    image: PathBuf,
    /// The part of the screen that counts, in pixels; the rest may show anything.
    #[arg(long, value_name = "X,Y,W,H")]
    region: Option<Rect>,
    /// How far each channel of a pixel may be off, 0 to 255.
    #[arg(long, value_name = "N", default_value_t = 0)]
    tolerance: u8,
    /// Give up after this many seconds; 0 looks once.
    #[arg(long, value_name = "S", default_value_t = 30)]
    timeout: u64,
    /// Where a picture of the difference goes on failure: the closest look in dark grey, and what differs in bright magenta.
    #[arg(long, value_name = "OUT.png")]
    diff: Option<Output>,
}

/// The look that was closest to what is waited for.
#[derive(Debug)]
struct Closest {
    difference: Difference,
    after: Duration,
    /// Kept only for a picture of the difference.
    frame: Option<Frame>,
}

/// What has been seen.
#[derive(Debug, Default)]
struct Seen {
    closest: Option<Closest>,
    /// Of a picture that could not be compared.
    size: Option<(u32, u32)>,
}

impl Wait {
    pub(super) fn run(&self) -> Result<(), Box<dyn Error>> {
        let golden = read_picture(&self.image)?;
        if let Some(region) = self.region
            && (region.width, region.height) != (golden.width(), golden.height())
            && Part::new(&golden, region).is_none()
        {
            let (width, height) = (golden.width(), golden.height());
            let image = self.image.display();
            return Err(
                format!("{image}: {width}x{height} has no such region, and is not of its size").into()
            );
        }
        let mut looking = Looking::new(Console::new(self.device.open()?));
        let start = Instant::now();
        let timeout = Duration::from_secs(self.timeout);
        let mut seen = Seen::default();
        loop {
            let look = looking.look()?;
            let after = start.elapsed();
            if look == Look::Changed && self.is_it(looking.console.frame(), &golden, after, &mut seen) {
                let (device, image) = (&self.device, self.image.display());
                return Ok(writeln!(io::stdout(), "{device} shows {image} after {}", seconds(after))?);
            }
            if after >= timeout {
                return Err(self.failure(&golden, &seen, looking.complaint())?.into());
            }
            looking.rest()?;
        }
    }

    /// The two that are compared; `None` when the picture is too small.
    fn parts<'a>(&self, frame: &'a Frame, golden: &'a Frame) -> Option<(Part<'a>, Part<'a>)> {
        let Some(region) = self.region else {
            return Some((Part::whole(frame), Part::whole(golden)));
        };
        let expected = if (golden.width(), golden.height()) == (region.width, region.height) {
            Part::whole(golden)
        } else {
            Part::new(golden, region)?
        };
        Some((Part::new(frame, region)?, expected))
    }

    fn is_it(&self, frame: &Frame, golden: &Frame, after: Duration, seen: &mut Seen) -> bool {
        let compared =
            self.parts(frame, golden).map(|(shown, golden)| compare(shown, golden, self.tolerance));
        let Some(Ok(difference)) = compared else {
            seen.size = Some((frame.width(), frame.height()));
            return false;
        };
        let Some(difference) = difference else { return true };
        if seen.closest.as_ref().is_none_or(|closest| difference.pixels < closest.difference.pixels) {
            let frame = self.diff.as_ref().map(|_| frame.clone());
            seen.closest = Some(Closest { difference, after, frame });
        }
        false
    }

    /// What to say at the time-out; leaves the picture of the difference.
    fn failure(
        &self,
        golden: &Frame,
        seen: &Seen,
        complaint: Option<&str>,
    ) -> Result<String, Box<dyn Error>> {
        let found = match (&seen.closest, seen.size) {
            (Some(Closest { difference, after, .. }), _) => {
                format!("{difference} (the closest look, after {})", seconds(*after))
            }
            (None, Some((width, height))) => {
                let (golden_width, golden_height) = (golden.width(), golden.height());
                let expected = match self.region {
                    Some(Rect { x, y, width, height }) => {
                        format!("one with {width}x{height} pixels at {x},{y}")
                    }
                    None => format!("{golden_width}x{golden_height}"),
                };
                format!("the picture was {width}x{height}, expected {expected}")
            }
            (None, None) => {
                let why = complaint.map(|complaint| format!(": {complaint}")).unwrap_or_default();
                format!("there was no picture at any time{why}")
            }
        };
        if let (Some(output), Some(frame)) =
            (&self.diff, seen.closest.as_ref().and_then(|it| it.frame.as_ref()))
            && let Some((shown, expected)) = self.parts(frame, golden)
        {
            output.save(&mut &picture(shown, expected, self.tolerance)?)?;
        }
        let (device, image) = (&self.device, self.image.display());
        Ok(format!("{device} did not show {image} within {} s: {found}", self.timeout))
    }
}
