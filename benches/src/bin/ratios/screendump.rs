//! A screenshot, from the start of the program to its end, against the compression alone: what a user waits for should
//! be mostly that.

use std::error::Error;
use std::process::{Command, Stdio};

use qemu_shim::image::{read_png, write_png};
use vfio_gfx::abi::pci_region;
use vfio_gfx_benches::compare::{Clock, Plan, compare};
use vfio_gfx_benches::desktop::{desktop, xrgb8888};
use vfio_gfx_benches::figure::Figure;

use crate::Report;
use crate::programs::{Served, program};

const PLAN: Plan = Plan { rounds: 40, batch: 1, clock: Clock::Wall };

pub(crate) fn measure(report: Report<'_>) -> Result<(), Box<dyn Error>> {
    let mut served = Served::start("mdpy-hd")?;
    let frame = desktop(1920, 1080)?;
    write_to_screen(&mut served, &xrgb8888(&frame))?;
    let path = served.dir().join("screen.png");
    let mut command = Command::new(program("qemu-shim")?);
    command
        .args(["screendump", &format!("vfio-user:{}", served.socket().display()), "-o"])
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let mut file = Vec::new();
    let medians = compare(
        PLAN,
        || {
            let status = command.status()?;
            if status.success() { Ok(()) } else { Err(format!("qemu-shim ended with {status}").into()) }
        },
        || {
            file.clear();
            Ok(write_png(&frame, &mut file)?)
        },
    )?;
    if read_png(std::io::BufReader::new(std::fs::File::open(&path)?))? != frame {
        return Err("the screenshot is not what is on screen".into());
    }
    report(Figure::timed("1080p screendump, whole process", medians, "PNG encoding of the same frame", 2.0))
}

fn write_to_screen(served: &mut Served, picture: &[u8]) -> Result<(), Box<dyn Error>> {
    Ok(vfio_gfx_benches::device::write(&mut served.vmm, pci_region::BAR0, 0, picture)?)
}
