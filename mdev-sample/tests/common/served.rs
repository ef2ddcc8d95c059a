//! A device on a socket, whose clock counts calls as a walk's own does.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mdev_sample::DeviceType;
use mdev_sample::abi_fuzz::{Dmabuf, MapRequest, RemoteTarget, Target};
use tempfile::TempDir;
use vfio_gfx::abi::Errno;
use vfio_gfx::device::SharedDevice;
use vfio_gfx::vfio_user::{Server, Stopper, Until};

pub(crate) struct Served {
    pub(crate) path: PathBuf,
    device_type: DeviceType,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
    calls: Arc<AtomicU64>,
    _dir: TempDir,
}

impl Served {
    pub(crate) fn new(device_type: DeviceType) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device.sock");
        let calls = Arc::new(AtomicU64::new(0));
        let clock = Arc::clone(&calls);
        let now = move || Duration::from_secs(10 * clock.load(Ordering::Relaxed));
        let device = device_type.create_with_clock(None, Box::new(now)).unwrap();
        let mut server = Server::bind(SharedDevice::new(device), &path).unwrap();
        let stopper = server.stopper().unwrap();
        let thread = Some(std::thread::spawn(move || server.run(Until::Stopped).unwrap()));
        Self { path, device_type, stopper, thread, calls, _dir: dir }
    }

    /// Attaches as its VMM, under the name of its type.
    pub(crate) fn attach(&self) -> Counted {
        let target = RemoteTarget::connect(&self.path).unwrap();
        Counted { target, name: self.device_type.name(), calls: Arc::clone(&self.calls) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stopper.stop();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(matches!(ended, Some(Ok(()))) || std::thread::panicking(), "the server panicked");
    }
}

/// A device behind a socket, whose server sees time pass at each call.
pub(crate) struct Counted {
    target: RemoteTarget,
    name: &'static str,
    calls: Arc<AtomicU64>,
}

impl Counted {
    fn call(&mut self) -> &mut RemoteTarget {
        self.calls.fetch_add(1, Ordering::Relaxed);
        &mut self.target
    }
}

impl Target for Counted {
    fn name(&self) -> &str {
        self.name
    }

    fn ioctl(&mut self, request: u32, arg: &mut [u8]) -> Result<(), Errno> {
        self.call().ioctl(request, arg)
    }

    fn ioctl_bad_pointer(&mut self, request: u32) -> Result<(), Errno> {
        self.call().ioctl_bad_pointer(request)
    }

    fn dmabuf(&mut self, id: u32) -> Result<Dmabuf, Errno> {
        self.call().dmabuf(id)
    }

    fn pread(&mut self, offset: u64, data: &mut [u8]) -> Result<usize, Errno> {
        self.call().pread(offset, data)
    }

    fn pwrite(&mut self, offset: u64, data: &[u8]) -> Result<usize, Errno> {
        self.call().pwrite(offset, data)
    }

    fn mmap(&mut self, request: MapRequest) -> Result<[u8; 16], Errno> {
        self.call().mmap(request)
    }

    fn check(&mut self) -> io::Result<()> {
        self.target.check()
    }

    fn finish(&mut self) -> io::Result<()> {
        self.target.finish()
    }
}
