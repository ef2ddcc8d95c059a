//! A device of a type, behind a socket until it is dropped.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use mdev_sample::DeviceType;
use tempfile::TempDir;
use vfio_gfx::abi::PlaneKind;
use vfio_gfx::device::SharedDevice;
use vfio_gfx::display::{Display, Remote};
use vfio_gfx::vfio_user::{Server, Stopper, Until};

pub(crate) struct Served {
    path: PathBuf,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
    _dir: TempDir,
}

impl Served {
    pub(crate) fn new(device_type: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let device = DeviceType::find(device_type).unwrap().create(None).unwrap();
        let mut server = Server::bind(SharedDevice::new(device), &path).unwrap();
        let stopper = server.stopper().unwrap();
        let thread = Some(std::thread::spawn(move || server.run(Until::Stopped).unwrap()));
        Self { path, stopper, thread, _dir: dir }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A row of what a console sees; `None` while the display is off.
    pub(crate) fn row(&self, y: u32) -> Option<Vec<u8>> {
        let mut display = Display::open(Box::new(Remote::connect(&self.path).unwrap())).unwrap();
        let pixels = display.pixels(PlaneKind::Primary).unwrap()?;
        let mut row = vec![0; pixels.plane().geometry.width() as usize * 4];
        pixels.read_row(y, &mut row).unwrap();
        Some(row)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stopper.stop();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(matches!(ended, Some(Ok(()))) || std::thread::panicking(), "the server panicked");
    }
}
