//! What a picture costs in VNC's encodings, in bytes and CPU time, against QEMU's own server with the same picture.
//!
//! The same viewer asks both servers for the same: a whole screen, on a connection of its own that was sent it once before. All
//! threads of a server count, from the request until the last byte is out.
//!
//! QEMU's server is as it is by default, which is lossless, except for the comparison of JPEG. If it may be lossy it also filters
//! lossless pictures by gradients, which ours does not do (see `qemu_shim::rfb::encode`): a third fewer bytes of a photograph,
//! twice the time, and nothing for viewers that cannot undo it, of which noVNC is one.

use std::error::Error;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use qemu_shim::console::LONGEST_PAUSE;
use vfio_gfx::abi::pci_region;
use vfio_gfx_benches::compare::median;
use vfio_gfx_benches::desktop::{desktop, photo, xrgb8888};
use vfio_gfx_benches::device::{HD, TYPE, set_mode, write};
use vfio_gfx_benches::figure::Figure;
use vfio_gfx_tests::lab::Lab;

use crate::Report;
use crate::cpu::during;
use crate::programs::Served;
use crate::qemu::Qemu;
use crate::rfb::{TIGHT, Viewer, Wish, ZRLE};
use crate::vnc::serve;

/// Pictures that are asked of each server.
const ROUNDS: usize = 5;
/// Accepted: bytes beside QEMU's.
const BYTES: f64 = 1.05;
/// Accepted: CPU time beside QEMU's.
const TIME: f64 = 1.0;
/// The same for JPEG: QEMU's is libjpeg-turbo, all of it vector instructions; ours has them for a part, and sends fewer bytes.
const JPEG_TIME: f64 = 1.3;

/// One comparison: the names of its figures, and what the viewers ask for.
type Case = (&'static str, &'static str, Wish);

const fn wish(encoding: u32, level: u8, quality: Option<u8>) -> Wish {
    Wish { encoding, level, quality }
}

// QEMU's ZRLE knows no levels: it compresses as for level 6, whatever a viewer asks for.
const DESKTOP: [Case; 5] = [
    ("desktop, ZRLE level 1: bytes", "desktop, ZRLE level 1: CPU", wish(ZRLE, 1, None)),
    ("desktop, ZRLE level 6: bytes", "desktop, ZRLE level 6: CPU", wish(ZRLE, 6, None)),
    ("desktop, Tight level 1: bytes", "desktop, Tight level 1: CPU", wish(TIGHT, 1, None)),
    ("desktop, Tight level 6: bytes", "desktop, Tight level 6: CPU", wish(TIGHT, 6, None)),
    ("desktop, Tight level 9: bytes", "desktop, Tight level 9: CPU", wish(TIGHT, 9, None)),
];
const PHOTO: [Case; 6] = [
    ("photo, ZRLE level 1: bytes", "photo, ZRLE level 1: CPU", wish(ZRLE, 1, None)),
    ("photo, ZRLE level 6: bytes", "photo, ZRLE level 6: CPU", wish(ZRLE, 6, None)),
    ("photo, Tight level 1: bytes", "photo, Tight level 1: CPU", wish(TIGHT, 1, None)),
    ("photo, Tight level 6: bytes", "photo, Tight level 6: CPU", wish(TIGHT, 6, None)),
    ("photo, Tight level 9: bytes", "photo, Tight level 9: CPU", wish(TIGHT, 9, None)),
    ("photo, Tight with JPEG: bytes", "photo, Tight with JPEG: CPU", wish(TIGHT, 6, Some(6))),
];

pub(crate) fn measure(report: Report<'_>) -> Result<(), Box<dyn Error>> {
    let lab = match Lab::open() {
        Ok(lab) => lab,
        Err(why) => {
            eprintln!("ratios: SKIPPED encodings beside QEMU's: {why}");
            return Ok(());
        }
    };
    let mut served = Served::start(TYPE)?;
    set_mode(&mut served.vmm, HD)?;
    let socket = |name: &str| served.dir().join(name);
    let [our_socket, lossless_socket, lossy_socket] = ["ours", "lossless", "lossy"].map(socket);
    let ours = serve(served.socket(), &our_socket)?;
    let mut lossless = Qemu::start(&lab, &lossless_socket, HD, false)?;
    let mut lossy = Qemu::start(&lab, &lossy_socket, HD, true)?;
    let size = (HD.0.into(), HD.1.into());
    for (frame, cases) in [(desktop(size.0, size.1)?, &DESKTOP[..]), (photo(size.0, size.1)?, &PHOTO[..])] {
        let picture = xrgb8888(&frame);
        write(&mut served.vmm, pci_region::BAR0, 0, &picture)?;
        lossless.draw(&picture)?;
        lossy.draw(&picture)?;
        for &(bytes, time, wish) in cases {
            let (theirs, their_socket, accepted) = match wish.quality {
                None => (&lossless, &lossless_socket, TIME),
                Some(_) => (&lossy, &lossy_socket, JPEG_TIME),
            };
            let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
            let (mut our_bytes, mut their_bytes) = (0, 0);
            for round in 0..ROUNDS {
                // In turn, and neither always first.
                for is_ours in [round % 2 == 0, round % 2 != 0] {
                    let (socket, pid, times, bytes) = if is_ours {
                        (&our_socket, ours.0.id(), &mut our_times, &mut our_bytes)
                    } else {
                        (their_socket, theirs.pid(), &mut their_times, &mut their_bytes)
                    };
                    let (used, sent) = picture_of(socket, pid, wish)?;
                    times.push(used);
                    *bytes = sent;
                }
            }
            let kib = |bytes: u64| bytes as f64 / 1024.0;
            report(Figure::new(bytes, kib(our_bytes), "KiB", kib(their_bytes), "QEMU's VNC server", BYTES))?;
            let (ours, theirs) = (median(&mut our_times), median(&mut their_times));
            report(Figure::new(time, ours / 1e6, "ms", theirs / 1e6, "QEMU's VNC server", accepted))?;
        }
    }
    Ok(())
}

/// CPU time and bytes of one picture.
fn picture_of(socket: &Path, pid: u32, wish: Wish) -> Result<(Duration, u64), Box<dyn Error>> {
    let mut viewer = Viewer::connect(socket, wish)?;
    if viewer.size() != HD {
        return Err(format!("expected a screen of {HD:?} pixels, found {:?}", viewer.size()).into());
    }
    viewer.picture()?;
    // Our server would take what it encoded a moment ago for still good.
    sleep(LONGEST_PAUSE);
    let mut bytes = 0;
    let used = during(pid, || {
        bytes = viewer.picture()?;
        Ok(())
    })?;
    Ok((used, bytes))
}
