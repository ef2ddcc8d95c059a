//! A device to draw on, and a server of what it shows.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use mdev_sample::DeviceType;
use qemu_shim::Console;
use qemu_shim::input::InputSink;
use qemu_shim::net::{Address, Listener};
use qemu_shim::rfb::handshake::Policy;
use qemu_shim::vnc::{Door, Server, Settings};
use tempfile::TempDir;
use vfio_gfx::abi::{Interface, PlaneKind};
use vfio_gfx::device::SharedDevice;
use vfio_gfx::display::{
    Backend, BufferMapping, DeviceSummary, Display, DisplayError, Local, RegionSummary, Watch,
};
use vfio_gfx::memory::Mapping;
use vfio_gfx::plane::Plane;

/// A device in this process that counts how often it is looked at.
struct Counted(Local, Arc<AtomicU64>);

impl Backend for Counted {
    fn device(&mut self) -> Result<DeviceSummary, DisplayError> {
        self.0.device()
    }
    fn region(&mut self, index: u32) -> Result<RegionSummary, DisplayError> {
        self.0.region(index)
    }
    fn irq_count(&mut self, index: u32) -> Result<u32, DisplayError> {
        self.0.irq_count(index)
    }
    fn probe(&mut self, interface: Interface) -> Result<bool, DisplayError> {
        self.0.probe(interface)
    }
    fn query(&mut self, interface: Interface, kind: PlaneKind) -> Result<Option<Plane>, DisplayError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.query(interface, kind)
    }
    fn watch(&mut self) -> Result<Option<Watch>, DisplayError> {
        self.0.watch()
    }
    fn map_region(&mut self, index: u32) -> Result<Mapping, DisplayError> {
        self.0.map_region(index)
    }
    fn map_buffer(&mut self, id: u32) -> Result<BufferMapping, DisplayError> {
        self.0.map_buffer(id)
    }
    fn read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), DisplayError> {
        self.0.read(region, offset, data)
    }
    fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), DisplayError> {
        self.0.write(region, offset, data)
    }
}

/// A served device. The server stops when this is dropped, and must then have lived.
pub(crate) struct Stage {
    pub(crate) device: SharedDevice,
    pub(crate) looks: Arc<AtomicU64>,
    pub(crate) path: PathBuf,
    /// The server's thread.
    tid: u32,
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
    _dir: TempDir,
}

impl Stage {
    /// Nobody is asked for a password.
    pub(crate) fn new(device_type: &str) -> Self {
        Self::with(device_type, Policy::default())
    }

    pub(crate) fn with(device_type: &str, policy: Policy) -> Self {
        Self::make(device_type, policy, None)
    }

    /// For browsers.
    pub(crate) fn web(policy: Policy) -> Self {
        let device = SharedDevice::new(DeviceType::find("mbochs-small").unwrap().create(None).unwrap());
        let console = Console::new(Display::open(Box::new(Local::new(device.clone()))).unwrap());
        let door = |listener| Door::Web(listener, Arc::default());
        Self::serve(console, (device, Arc::default()), policy, None, door)
    }

    /// What viewers type goes there.
    pub(crate) fn with_input(sink: Box<dyn InputSink>) -> Self {
        Self::make("mbochs-small", Policy::default(), Some(sink))
    }

    fn make(device_type: &str, policy: Policy, sink: Option<Box<dyn InputSink>>) -> Self {
        let device = SharedDevice::new(DeviceType::find(device_type).unwrap().create(None).unwrap());
        let looks = Arc::new(AtomicU64::new(0));
        let backend = Counted(Local::new(device.clone()), Arc::clone(&looks));
        let console = Console::new(Display::open(Box::new(backend)).unwrap());
        Self::serve(console, (device, looks), policy, sink, Door::Plain)
    }

    /// A console of the caller's.
    pub(crate) fn of(console: Console, device: SharedDevice) -> Self {
        Self::serve(console, (device, Arc::default()), Policy::default(), None, Door::Plain)
    }

    fn serve(
        console: Console,
        (device, looks): (SharedDevice, Arc<AtomicU64>),
        policy: Policy,
        sink: Option<Box<dyn InputSink>>,
        door: impl FnOnce(Listener) -> Door,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vnc.sock");
        let listener = Listener::bind(&Address::Unix(path.clone())).unwrap();
        let settings = Settings { name: "test".into(), policy, tls: None, may_resize: true };
        let mut server = Server::new(console, vec![door(listener)], sink, settings);
        let (stop, stopped) = UnixStream::pair().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            tell.send(rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned()).unwrap();
            server.run(stopped.as_fd()).unwrap();
        });
        let tid = told.recv().unwrap();
        Self { device, looks, path, tid, stop: Some(stop), thread: Some(thread), _dir: dir }
    }

    /// Sets a mode of 32 bits per pixel, through the Bochs registers.
    pub(crate) fn mode(&self, width: u16, height: u16) {
        for (register, value) in [(4, 0), (3, 32), (1, width), (2, height), (6, width), (4, 0x41)] {
            self.write16(register, value);
        }
    }

    pub(crate) fn write16(&self, register: u64, value: u16) {
        self.device.lock().guest_write(2, 0x500 + 2 * register, &value.to_le_bytes()).unwrap();
    }

    /// How long the server's thread has been running on some CPU.
    pub(crate) fn cpu_time(&self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/self/task/{}/schedstat", self.tid)).unwrap();
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    }

    /// Turns the screen off (0) or on (0x20).
    pub(crate) fn blank(&self, value: u8) {
        self.device.lock().guest_write(2, 0x400, &[value]).unwrap();
    }

    pub(crate) fn draw(&self, offset: u64, bytes: &[u8]) {
        self.device.lock().vram().write(offset, bytes).unwrap();
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.stop.take());
        let result = self.thread.take().map_or(Ok(()), JoinHandle::join);
        if !std::thread::panicking() {
            result.unwrap();
        }
    }
}
