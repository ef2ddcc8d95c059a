//! `qemu-shim demo`: a device, something that draws on it through its registers and video memory, and a console that
//! looks, in one process that needs nothing of the machine.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Args;
use mdev_sample::DeviceType;
use vfio_gfx::abi::pci_region;
use vfio_gfx::device::SharedDevice;
use vfio_gfx::display::{Display, Local};

use super::screendump::Output;
use crate::console::{Console, Refresh};
use crate::crc;
use crate::demo::{Bars, kvm, painter};

/// Time between two frames: slow enough for the eye, and for a PNG of each.
const FRAME: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// How long to draw.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Where the pictures and checksums.txt go; made if it is not there.
    #[arg(long, value_name = "DIR", default_value = "vfio-gfx-demo")]
    out: PathBuf,
}

/// The guest's view of the device, with a console looking on.
struct Watched {
    device: SharedDevice,
    console: Console,
    out: PathBuf,
    sums: BufWriter<File>,
    start: Instant,
    end: Duration,
    frames: u32,
    distinct: u32,
    modes: BTreeSet<(u32, u32)>,
    failure: Option<Box<dyn Error>>,
}

impl Demo {
    pub(super) fn run(&self) -> Result<(), Box<dyn Error>> {
        std::fs::create_dir_all(&self.out).map_err(|error| format!("{}: {error}", self.out.display()))?;
        let device_type = DeviceType::find("mbochs-medium")?;
        let device = SharedDevice::new(device_type.create(None)?);
        let vram = device.lock().vram().clone();
        let display = Display::open(Box::new(Local::new(device.clone())))?;
        let interface = display.interface().name();
        let buffers = device.lock().buffer_kind().name();
        let sums = self.out.join("checksums.txt");
        let mut watched = Watched {
            device,
            console: Console::new(display),
            out: self.out.clone(),
            sums: BufWriter::new(
                File::create(&sums).map_err(|error| format!("{}: {error}", sums.display()))?,
            ),
            start: Instant::now(),
            end: Duration::from_secs(self.seconds),
            frames: 0,
            distinct: 0,
            modes: BTreeSet::new(),
            failure: None,
        };
        let drawn_by = match kvm::available() {
            Ok(()) => {
                kvm::run(vram.file(), vram.size(), &mut watched)?;
                "a guest program on a real vCPU (KVM)".to_owned()
            }
            Err(reason) => {
                painter::run(vram.file(), vram.size(), &mut watched)?;
                format!("a thread (no vCPU: {reason})")
            }
        };
        if let Some(failure) = watched.failure {
            return Err(failure);
        }
        watched.sums.flush()?;
        let modes: Vec<String> = watched.modes.iter().map(|(w, h)| format!("{w}x{h}")).collect();
        writeln!(
            io::stdout(),
            "demo: {} frames, {} distinct, in {:.1} s on {} by {drawn_by}; seen through {interface} ({buffers}) at {}; \
             PNGs and checksums.txt in {}",
            watched.frames,
            watched.distinct,
            watched.start.elapsed().as_secs_f64(),
            device_type.name(),
            modes.join(", "),
            self.out.display(),
        )?;
        Ok(())
    }
}

impl Watched {
    /// Refreshes the console; a picture that is another than the last is saved.
    fn look(&mut self) -> Result<(), Box<dyn Error>> {
        if self.console.refresh()? != Refresh::Changed {
            return Ok(());
        }
        self.distinct += 1;
        let frame = self.console.frame();
        self.modes.insert((frame.width(), frame.height()));
        let name = format!("frame-{:04}.png", self.distinct);
        let path = self.out.join(&name);
        path.display().to_string().parse::<Output>()?.save(&mut &*frame)?;
        writeln!(self.sums, "{name} {}x{} {:08x}", frame.width(), frame.height(), crc::vkms(frame))?;
        Ok(())
    }
}

impl Bars for Watched {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        // Outside the window nothing answers, and a read floats high.
        if self.device.lock().guest_read(pci_region::BAR2, offset, data).is_err() {
            data.fill(0xff);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        // Outside the window nothing listens.
        let _ = self.device.lock().guest_write(pci_region::BAR2, offset, data);
    }

    fn frame(&mut self, number: u32) -> bool {
        self.frames = number.saturating_add(1);
        if let Err(error) = self.look() {
            self.failure = Some(error);
            return false;
        }
        sleep((FRAME * self.frames).saturating_sub(self.start.elapsed()));
        self.start.elapsed() < self.end
    }
}
