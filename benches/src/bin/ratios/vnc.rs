//! What a VNC server costs: at rest with a viewer, and with ten viewers who want the same.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use qemu_shim::console::LONGEST_PAUSE;
use vfio_gfx::abi::pci_region;
use vfio_gfx_benches::desktop::{desktop, xrgb8888};
use vfio_gfx_benches::device::{HD, TYPE, flip_through, set_mode, write};
use vfio_gfx_benches::figure::Figure;

use crate::Report;
use crate::cpu::during;
use crate::programs::{Running, Served, program};
use crate::rfb::{Viewer, Wish, ZRLE};

/// How long nothing changes.
const IDLE: Duration = Duration::from_secs(5);
/// Until the console has gone to its slowest pace.
const SETTLE: Duration = Duration::from_secs(2);
/// Of one core, accepted at rest with a viewer at 1920x1080.
const SHARE: f64 = 0.01;
/// As most viewers ask for unless told.
const WISH: Wish = Wish { encoding: ZRLE, level: 2, quality: None };
/// Pictures that every viewer is sent.
const PICTURES: u8 = 20;
/// Ten viewers with equal settings cost one encoding, and ten times the copying: accepted, in CPU time of one viewer.
const TEN_COST: f64 = 1.5;

pub(crate) fn measure(report: Report<'_>) -> Result<(), Box<dyn Error>> {
    let mut served = Served::start(TYPE)?;
    set_mode(&mut served.vmm, HD)?;
    let picture = xrgb8888(&desktop(HD.0.into(), HD.1.into())?);
    write(&mut served.vmm, pci_region::BAR0, 0, &picture)?;
    let path = served.dir().join("vnc.sock");
    let server = serve(served.socket(), &path)?;
    let pid = server.0.id();

    let mut first = Viewer::connect(&path, WISH)?;
    first.picture()?;
    first.request(true)?;
    sleep(SETTLE + LONGEST_PAUSE);
    let mut slept = IDLE;
    let used = during(pid, || {
        let start = Instant::now();
        sleep(IDLE);
        slept = start.elapsed();
        Ok(())
    })?;
    let share = used.as_secs_f64() / slept.as_secs_f64();
    report(Figure::counted(
        "VNC at rest with a viewer, 1080p: CPU",
        share * 1e3,
        "1/1000 of a core",
        SHARE * 1e3,
    ))?;

    // Pictures change at once, so that no look finds half of one: every viewer is sent the same, however busy the machine.
    let inverted: Vec<u8> = picture.iter().map(|byte| !byte).collect();
    write(&mut served.vmm, pci_region::BAR0, picture.len() as u64, &inverted)?;
    let mut other = false;
    let mut flip = || {
        other = !other;
        flip_through(&mut served.vmm, if other { HD.1 } else { 0 })
    };
    // The request of before is answered by the first change.
    flip()?;
    first.receive()?;
    let mut cost = |viewers: &mut [Viewer]| -> Result<f64, Box<dyn Error>> {
        let used = during(pid, || {
            for _ in 0..PICTURES {
                for viewer in &mut *viewers {
                    viewer.request(true)?;
                }
                flip()?;
                for viewer in &mut *viewers {
                    viewer.receive()?;
                }
            }
            Ok(())
        })?;
        Ok(used.as_secs_f64())
    };
    let one = cost(std::slice::from_mut(&mut first))?;
    let mut ten = vec![first];
    for _ in 1..10 {
        let mut viewer = Viewer::connect(&path, WISH)?;
        viewer.picture()?;
        ten.push(viewer);
    }
    let ten = cost(&mut ten)?;
    report(Figure::counted("VNC to ten equal viewers: CPU of one", ten / one, "times", TEN_COST))
}

/// A VNC server of a served device.
pub(crate) fn serve(device: &Path, path: &Path) -> Result<Running, Box<dyn Error>> {
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
