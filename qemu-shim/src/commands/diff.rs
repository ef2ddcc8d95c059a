//! `qemu-shim diff`

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use super::looking::read_picture;
use super::screendump::Output;
use crate::compare::{Part, compare, picture};

#[derive(Debug, Args)]
pub(super) struct Diff {
    /// A picture.
    #[arg(value_name = "A.png")]
    a: PathBuf,
    /// The picture to compare it with.
    #[arg(value_name = "B.png")]
    b: PathBuf,
    /// Where a picture of the difference goes: A in dark grey, and what differs in bright magenta.
    #[arg(short, long, value_name = "D.png")]
    output: Option<Output>,
    /// How far each channel of a pixel may be off, 0 to 255.
    #[arg(long, value_name = "N", default_value_t = 0)]
    tolerance: u8,
}

impl Diff {
    pub(super) fn run(&self) -> Result<(), Box<dyn Error>> {
        let (a, b) = (read_picture(&self.a)?, read_picture(&self.b)?);
        let (whole_a, whole_b) = (Part::whole(&a), Part::whole(&b));
        let name = format!("{} and {}", self.a.display(), self.b.display());
        let difference =
            compare(whole_a, whole_b, self.tolerance).map_err(|error| format!("{name}: {error}"))?;
        if let Some(output) = &self.output {
            output.save(&mut &picture(whole_a, whole_b, self.tolerance)?)?;
        }
        match difference {
            Some(difference) => Err(format!("{name}: {difference}").into()),
            None if self.tolerance == 0 => Ok(writeln!(io::stdout(), "{name} are equal")?),
            None => Ok(writeln!(io::stdout(), "{name} differ by at most {}", self.tolerance)?),
        }
    }
}
