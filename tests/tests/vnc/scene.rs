//! What every test begins with: a device, a guest that drives it, and a VNC server that shows it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use vfio_gfx_tests::{
    eventually,
    guest::{Config, Guest},
    lab::{Kernel, Lab},
    picture,
    process::Running,
    programs::Server,
    screen::Screen,
};

/// The mode of the guest until it is given another one.
pub(crate) const SIZE: (u32, u32) = (1024, 768);
/// How long the VNC server may take to begin.
const START: Duration = Duration::from_secs(20);
/// How long keys may take from a viewer through the guest's shell to its serial line.
pub(crate) const TYPED: Duration = Duration::from_secs(30);

/// What is typed: small and large letters, digits, and signs of both shifts. The shell must have understood all of it.
pub(crate) const LINE: &str = "echo Typed $((6*7)) '~!@#%^+_-=[]{}:,.?/' > /dev/ttyS0";
/// What the guest's serial line says then.
pub(crate) const ANSWER: &str = "Typed 42 ~!@#%^+_-=[]{}:,.?/";

/// A device and its guest.
pub(crate) struct Scene {
    // Dropped in this order: the guest before the device it uses.
    pub(crate) guest: Guest,
    pub(crate) server: Server,
    picture: Vec<u8>,
}

impl Scene {
    #[track_caller]
    pub(crate) fn boot(lab: &Lab) -> Self {
        let picture = picture::xrgb8888(SIZE.0, SIZE.1);
        let server = Server::start("mbochs-medium");
        let device = server.qemu_device("");
        let config = Config { kernel: Kernel::Linux612, driver: "bochs", device: &device, picture: &picture };
        let guest = Guest::boot(lab, config);
        assert_eq!(guest.display.size, SIZE, "framebuffer of the guest");
        Self { guest, server, picture }
    }

    /// A VNC server that types into the guest.
    #[track_caller]
    pub(crate) fn vnc(&self, arguments: &[&str]) -> Vnc {
        let input = format!("qmp:{}", self.guest.monitor().display());
        Vnc::start(&self.server, &[&["--input", &input], arguments].concat())
    }

    /// Waits until a viewer shows the guest's picture, in every pixel.
    #[track_caller]
    pub(crate) fn expect_picture(&self, viewer: &str, mut screen: impl FnMut() -> Result<Screen, String>) {
        eventually(&format!("{viewer} does not show the picture"), || {
            screen()?.expect_xrgb8888(SIZE.0, SIZE.1, &self.picture)
        });
    }

    /// Waits until a viewer shows what the console reads from the device, `size` being its mode, in every pixel.
    #[track_caller]
    pub(crate) fn expect_same(
        &self,
        viewer: &str,
        size: (u32, u32),
        mut screen: impl FnMut() -> Result<Screen, String>,
    ) {
        eventually(&format!("{viewer} does not show what is there"), || {
            let (shown, there) = (screen()?, self.server.screenshot(&format!("vnc-{viewer}"))?);
            let found = [(shown.width, shown.height), (there.width, there.height)];
            if found != [size; 2] {
                return Err(format!("expected {size:?} in both, found {found:?}"));
            }
            if shown.rgb == there.rgb { Ok(()) } else { Err("pixels differ".into()) }
        });
    }

    /// How far a viewer's picture is from the guest's, in steps of a channel.
    pub(crate) fn distance(&self, screen: &Screen) -> Result<u8, String> {
        if (screen.width, screen.height) != SIZE {
            return Err(format!("expected {SIZE:?}, found {}x{}", screen.width, screen.height));
        }
        let drawn = self.picture.chunks_exact(4).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]);
        let distances = screen.rgb.iter().zip(drawn).map(|(shown, drawn)| shown.abs_diff(drawn));
        distances.max().ok_or_else(|| "no pixels".into())
    }
}

/// A running `qemu-shim vnc`.
pub(crate) struct Vnc {
    pub(crate) process: Running,
    pub(crate) port: u16,
    /// Where browsers go, as `http://127.0.0.1:PORT/`.
    pub(crate) link: Option<String>,
}

impl Vnc {
    /// Serves a device to viewers, on a port that is free.
    #[track_caller]
    pub(crate) fn start(server: &Server, arguments: &[&str]) -> Self {
        let fixed = ["--listen", "127.0.0.1:0", "--name", "peer"];
        let command = server.console("vnc", &[&fixed, arguments].concat());
        let mut process = Running::start("qemu-shim vnc", &command);
        let line = process.expect_line(" ready on ", START);
        let (_, places) = line.rsplit_once(" ready on ").expect("that is what was waited for");
        let (plain, link) = places.split_once(" and ").map_or((places, None), |(a, b)| (a, Some(b)));
        let port = plain.rsplit(':').next().and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("expected 127.0.0.1:PORT, found {line}"));
        Self { process, port, link: link.map(str::to_owned) }
    }
}

/// Files that a test makes and gives away.
pub(crate) fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    path
}
