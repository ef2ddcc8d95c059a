//! What a VNC server costs: at rest with a viewer, and with ten viewers who want the same.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use qemu_shim::console::LONGEST_PAUSE;
use vfio_gfx::abi::pci_region;
use vfio_gfx_benches::desktop::{desktop, xrgb8888};
use vfio_gfx_benches::device::{HD, TYPE, set_mode, write};
use vfio_gfx_benches::figure::Figure;

use crate::Report;
use crate::programs::{Running, Served, program};

/// How long nothing changes.
const IDLE: Duration = Duration::from_secs(5);
/// Until the console has gone to its slowest pace.
const SETTLE: Duration = Duration::from_secs(2);
/// Of one core, accepted at rest with a viewer at 1920x1080.
const SHARE: f64 = 0.01;
/// Pictures that every viewer is sent.
const PICTURES: u8 = 20;
/// Ten viewers with equal settings cost one encoding, and ten times the copying: accepted, in CPU time of one viewer.
const TEN_COST: f64 = 2.0;

pub(crate) fn measure(report: Report<'_>) -> Result<(), Box<dyn Error>> {
    let mut served = Served::start(TYPE)?;
    set_mode(&mut served.vmm, HD)?;
    let picture = xrgb8888(&desktop(HD.0.into(), HD.1.into())?);
    write(&mut served.vmm, pci_region::BAR0, 0, &picture)?;
    let path = served.dir().join("vnc.sock");
    let server = serve(served.socket(), &path)?;
    let pid = server.0.id();

    let mut first = Viewer::connect(&path)?;
    first.update(false)?;
    first.request(true)?;
    sleep(SETTLE + LONGEST_PAUSE);
    let (before, start) = (cpu_seconds(pid)?, Instant::now());
    sleep(IDLE);
    let share = (cpu_seconds(pid)? - before) / start.elapsed().as_secs_f64();
    report(Figure::counted(
        "VNC at rest with a viewer, 1080p: CPU",
        share * 1e3,
        "1/1000 of a core",
        SHARE * 1e3,
    ))?;

    // The request of before is answered by the first change.
    let mut redraw = |turn: u8| -> Result<(), Box<dyn Error>> {
        let inverted: Vec<u8> = picture.iter().map(|byte| byte ^ turn).collect();
        Ok(write(&mut served.vmm, pci_region::BAR0, 0, &inverted)?)
    };
    redraw(1)?;
    first.receive()?;
    let mut cost = |viewers: &mut [Viewer]| -> Result<f64, Box<dyn Error>> {
        let before = cpu_seconds(pid)?;
        for turn in 0..PICTURES {
            for viewer in &mut *viewers {
                viewer.request(true)?;
            }
            redraw(turn ^ 0x55)?;
            for viewer in &mut *viewers {
                viewer.receive()?;
            }
        }
        Ok(cpu_seconds(pid)? - before)
    };
    let one = cost(std::slice::from_mut(&mut first))?;
    let mut ten = vec![first];
    for _ in 1..10 {
        let mut viewer = Viewer::connect(&path)?;
        viewer.update(false)?;
        ten.push(viewer);
    }
    let ten = cost(&mut ten)?;
    report(Figure::counted("VNC to ten equal viewers: CPU of one", ten / one, "times", TEN_COST))
}

/// A VNC server of a served device.
fn serve(device: &Path, path: &Path) -> Result<Running, Box<dyn Error>> {
    let mut child = Command::new(program("qemu-shim")?)
        .arg("vnc")
        .arg(format!("vfio-user:{}", device.display()))
        .arg("--listen")
        .arg(format!("unix:{}", path.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .env("RUST_LOG", "error")
        .spawn()?;
    let stdout = child.stdout.take();
    let running = Running(child);
    let mut ready = String::new();
    BufReader::new(stdout.ok_or("stdout was piped")?).read_line(&mut ready)?;
    if ready.contains("ready") { Ok(running) } else { Err("qemu-shim vnc ended before it was ready".into()) }
}

/// CPU time that a process of one thread has used (/proc/PID/schedstat, first field).
fn cpu_seconds(pid: u32) -> Result<f64, Box<dyn Error>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    let nanoseconds: u64 = stat.split(' ').next().ok_or("schedstat is empty")?.parse()?;
    Ok(Duration::from_nanos(nanoseconds).as_secs_f64())
}

/// A viewer that takes ZRLE and does not look at it.
struct Viewer(UnixStream);

impl Viewer {
    fn connect(path: &Path) -> Result<Self, Box<dyn Error>> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut viewer = Self(stream);
        viewer.skip(12)?;
        viewer.0.write_all(b"RFB 003.008\n")?;
        viewer.skip(2)?;
        viewer.0.write_all(&[1])?;
        viewer.skip(4)?;
        viewer.0.write_all(&[1])?;
        viewer.skip(20)?;
        let name = viewer.read32()?;
        viewer.skip(name.into())?;
        // SetEncodings: ZRLE.
        viewer.0.write_all(&[2, 0, 0, 1, 0, 0, 0, 16])?;
        Ok(viewer)
    }

    fn request(&mut self, incremental: bool) -> std::io::Result<()> {
        self.0.write_all(&[3, incremental.into(), 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff])
    }

    fn update(&mut self, incremental: bool) -> Result<(), Box<dyn Error>> {
        self.request(incremental)?;
        self.receive()
    }

    fn receive(&mut self) -> Result<(), Box<dyn Error>> {
        let head = self.read32()?;
        for _ in 0..head & 0xffff {
            self.skip(8)?;
            let encoding = self.read32()?;
            if encoding != 16 {
                return Err(format!("expected ZRLE, found encoding {encoding}").into());
            }
            let length = self.read32()?;
            self.skip(length.into())?;
        }
        Ok(())
    }

    fn read32(&mut self) -> std::io::Result<u32> {
        let mut bytes = [0; 4];
        self.0.read_exact(&mut bytes)?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn skip(&mut self, count: u64) -> std::io::Result<()> {
        let taken = std::io::copy(&mut (&mut self.0).take(count), &mut std::io::sink())?;
        if taken == count { Ok(()) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
    }
}
