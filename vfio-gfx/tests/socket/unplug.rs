//! A device is taken away while a VMM and consoles use it.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use tempfile::TempDir;

use vfio_gfx::abi::{PlaneKind, pci_irq};
use vfio_gfx::device::{Device, SharedDevice};
use vfio_gfx::display::{Display, Remote};
use vfio_gfx::vfio_user::{BoundSocket, Server, ServerEvent, Stopper};

use crate::fixture::{
    CONFIG, EDID, ENABLE, GUEST, MARK_AT, REGISTERS, ROW, SCRATCH, Turn, VRAM, VRAM_SIZE, check_console,
    check_vmm, device,
};
use crate::peer::{
    CONSOLE, DMA_MAP, DMA_UNMAP, GET_GFX_DMABUF, GET_INFO, GET_IRQ_INFO, GET_REGION_INFO, Peer,
    QUERY_GFX_PLANE, REGION_READ, REGION_WRITE, RESET, SET_IRQS, VERSION, VMM, access, message, region_info,
    u32_at, version, words, write_payload,
};

const ENODEV: u32 = 19;
/// What takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the server's owner does when told.
#[derive(Clone, Copy)]
enum How {
    Remove,
    Ask(Duration),
}

/// A server whose thread takes its device away when it is told to, and says what happened.
struct Stage {
    device: SharedDevice,
    dir: TempDir,
    go: OwnedFd,
    stopper: Stopper,
    thread: Option<JoinHandle<Vec<String>>>,
    _turn: Turn,
}

impl Stage {
    fn new(how: How) -> Self {
        Self::with(how, || {
            let mut device = device();
            device.offer_release_request();
            device
        })
    }

    fn with(how: How, make: impl FnOnce() -> Device) -> Self {
        let turn = Turn::shared();
        let device = make();
        let dir = tempfile::tempdir().unwrap();
        let device = SharedDevice::new(device);
        let mut server = Server::new().unwrap();
        let socket = BoundSocket::new(&dir.path().join("s.sock")).unwrap();
        let id = server.add(device.clone(), socket, "").unwrap();
        let go = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let watch = server.watch(go.try_clone().unwrap()).unwrap();
        let stopper = server.stopper().unwrap();
        let thread = std::thread::spawn(move || {
            let mut log = Vec::new();
            loop {
                match server.next_event().unwrap() {
                    ServerEvent::Stopped => return log,
                    ServerEvent::Readable(_) => {
                        server.unwatch_fd(watch).unwrap();
                        let waits = match how {
                            How::Remove => false,
                            How::Ask(grace) => server.request_release(id, grace),
                        };
                        assert_eq!(waits, server.awaits_release());
                        log.push(if waits { "asked" } else { "at once" }.to_owned());
                        if !waits {
                            server.remove(id);
                        }
                    }
                    ServerEvent::VmmGone(gone) => {
                        assert_eq!(gone, id);
                        log.push("vmm gone".into());
                    }
                    ServerEvent::Removed(gone) => {
                        assert!(gone == id && server.is_empty() && !server.awaits_release());
                        log.push("removed".into());
                    }
                }
            }
        });
        Self { device, dir, go, stopper, thread: Some(thread), _turn: turn }
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("s.sock")
    }

    fn take_away(&self) {
        rustix::io::write(&self.go, &1u64.to_ne_bytes()).unwrap();
    }

    fn log(mut self) -> Vec<String> {
        self.stopper.stop();
        self.thread.take().unwrap().join().unwrap()
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "not so: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Every command there is, as a VMM or console with the extension would send it.
fn everything() -> Vec<(u16, Vec<u8>)> {
    let plane = words(&[[64, 5, 0].as_slice(), &[0; 13]].concat());
    vec![
        (GET_INFO, words(&[16, 0, 0, 0])),
        (GET_REGION_INFO, region_info(VRAM, 32)),
        (GET_REGION_INFO, region_info(EDID, 64)),
        (GET_IRQ_INFO, words(&[16, 0, pci_irq::MSI, 0])),
        (SET_IRQS, words(&[20, 0x21, pci_irq::MSI, 0, 0])),
        (REGION_READ, access(CONFIG, 0, 4)),
        (REGION_READ, access(CONFIG, 0x100, 4)),
        (REGION_READ, access(VRAM, 0, 4)),
        (REGION_READ, access(EDID, 0x800, 128)),
        (REGION_WRITE, write_payload(REGISTERS, GUEST, &[1, 0, 0, 0])),
        (REGION_WRITE, write_payload(EDID, 0x800, &[1])),
        (DMA_MAP, [words(&[32, 3]), [0; 16].to_vec(), 4096u64.to_ne_bytes().to_vec()].concat()),
        (DMA_UNMAP, [words(&[24, 2]), [0; 16].to_vec()].concat()),
        (RESET, vec![]),
        (QUERY_GFX_PLANE, plane),
        (GET_GFX_DMABUF, words(&[1, 0])),
        (0x7777, vec![]),
        (VERSION, version(VMM)),
    ]
}

fn armed(vmm: &mut Peer) -> OwnedFd {
    let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
    vmm.ask_with(SET_IRQS, &words(&[20, 0x24, pci_irq::REQ, 0, 1]), &[&fd]).ok();
    fd
}

fn is_signalled(fd: &OwnedFd) -> bool {
    let patience = Timespec { tv_sec: 20, tv_nsec: 0 };
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&patience)) == Ok(1)
}

fn is_served(path: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(path).is_ok()
}

#[test]
fn whoever_holds_a_device_that_is_taken_away_finds_nothing_behind_his_handles() {
    let stage = Stage::new(How::Remove);
    let (mut vmm, console) = (Peer::attach(&stage.path(), VMM), Peer::attach(&stage.path(), CONSOLE));
    vmm.write(REGISTERS, ENABLE, &[1, 0, 0, 0]);
    let mut display = Display::open(Box::new(Remote::connect(&stage.path()).unwrap())).unwrap();
    assert!(display.pixels(PlaneKind::Primary).unwrap().is_some());
    let memory = vmm.ask(GET_REGION_INFO, &region_info(VRAM, 32)).fds.pop().unwrap();
    let vram = stage.device.lock().vram().clone();
    vram.fill(0, VRAM_SIZE, 0x55);
    assert_eq!(vram.allocated().unwrap(), VRAM_SIZE);

    stage.take_away();
    // A console has an answer or the end of its connection, whichever of the two.
    console.wait_closed();
    assert_eq!(vram.allocated().unwrap(), 0, "given back while VMM and console hold it");
    assert!(stage.device.lock().is_revoked() && !stage.path().exists());
    let error = display.pixels(PlaneKind::Primary).unwrap_err();
    assert!(error.is_gone(), "{error}");
    for (command, payload) in everything() {
        assert_eq!(vmm.ask(command, &payload).refusal(), ENODEV, "command {command}");
    }
    let mut byte = [1];
    assert_eq!(rustix::io::pread(&memory, &mut byte, MARK_AT).unwrap(), 1);
    assert_eq!(byte, [0]);
    // The place is free for another device.
    drop(BoundSocket::new(&stage.path()).unwrap());
    drop(vmm);
    assert_eq!(stage.log(), ["at once"], "its end is no news");
}

#[test]
fn what_was_asked_before_is_answered() {
    let stage = Stage::new(How::Remove);
    let mut console = Peer::attach(&stage.path(), CONSOLE);
    // The lock keeps the server from answering until the device is taken away.
    let device = stage.device.clone();
    let held = device.lock();
    assert!(console.send(&message(1, REGION_READ, 0, &access(VRAM, 0, 4)), &[]));
    std::thread::sleep(Duration::from_millis(50));
    assert!(console.send(&message(2, REGION_READ, 0, &access(VRAM, 0, 4)), &[]));
    stage.take_away();
    std::thread::sleep(Duration::from_millis(50));
    drop(held);
    let first = console.reply().unwrap();
    assert_eq!((first.id, first.refusal()), (1, 0));
    let second = console.reply().unwrap();
    assert!(second.id == 2 && [0, ENODEV].contains(&second.refusal()), "{second:?}");
    console.wait_closed();
}

#[test]
fn a_vmm_that_can_be_asked_is_asked_and_has_time() {
    let stage = Stage::new(How::Ask(Duration::from_secs(3600)));
    let mut vmm = Peer::attach(&stage.path(), VMM);
    assert_eq!(u32_at(&vmm.ask(GET_IRQ_INFO, &words(&[16, 0, pci_irq::REQ, 0])).ok(), 12), 1);
    let request = armed(&mut vmm);
    let mut console = Peer::attach(&stage.path(), CONSOLE);
    stage.take_away();
    assert!(is_signalled(&request));
    until("nobody else can connect", || !is_served(&stage.path()));
    // Everybody else goes on: the guest still writes its disks, and somebody looks at it.
    check_vmm(&mut vmm);
    check_console(&mut console);
    // Another device can have its place meanwhile, and keeps it.
    let other = BoundSocket::new(&stage.path()).unwrap();
    assert!(!stage.device.lock().is_revoked());
    drop(vmm);
    console.wait_closed();
    assert!(stage.device.lock().is_revoked());
    assert!(other.path().exists());
    assert_eq!(stage.log(), ["asked", "vmm gone", "removed"]);
}

#[test]
fn a_vmm_that_does_not_let_go_in_time_is_not_waited_for() {
    let grace = Duration::from_millis(300);
    let stage = Stage::new(How::Ask(grace));
    let mut vmm = Peer::attach(&stage.path(), VMM);
    let request = armed(&mut vmm);
    let start = Instant::now();
    stage.take_away();
    assert!(is_signalled(&request));
    until("its time is over", || stage.device.lock().is_revoked());
    assert!(start.elapsed() >= grace, "{:?}", start.elapsed());
    assert_eq!(vmm.ask(REGION_READ, &access(REGISTERS, SCRATCH, 4)).refusal(), ENODEV);
    assert_eq!(vmm.ask(REGION_WRITE, &write_payload(REGISTERS, ROW, &[1; 4])).refusal(), ENODEV);
    assert_eq!(stage.log(), ["asked", "removed"]);
}

#[test]
fn who_cannot_be_asked_is_not_waited_for() {
    let hour = Duration::from_secs(3600);
    // No VMM, one that armed nothing, one that armed and took it back, no time.
    for case in 0..4 {
        let stage = Stage::new(How::Ask(if case == 3 { Duration::ZERO } else { hour }));
        let mut vmm = (case > 0).then(|| Peer::attach(&stage.path(), VMM));
        let request = vmm.as_mut().filter(|_| case > 1).map(armed);
        if let (2, Some(vmm)) = (case, &mut vmm) {
            vmm.ask(SET_IRQS, &words(&[20, 0x21, pci_irq::REQ, 0, 0])).ok();
        }
        stage.take_away();
        until("it is taken away", || stage.device.lock().is_revoked());
        assert!(request.is_none_or(|fd| rustix::io::read(fd, &mut [0; 8]).is_err()), "case {case}");
        assert_eq!(stage.log(), ["at once"], "case {case}");
    }
}

#[test]
fn a_server_that_ends_gives_the_memory_back() {
    let _turn = Turn::shared();
    let dir = tempfile::tempdir().unwrap();
    let device = SharedDevice::new(device());
    let server = Server::bind(device.clone(), &dir.path().join("s.sock")).unwrap();
    let vram = device.lock().vram().clone();
    assert!(vram.allocated().unwrap() > 0);
    server.drain(Duration::ZERO).unwrap();
    assert_eq!(vram.allocated().unwrap(), 0);
    assert!(device.lock().is_revoked());
}
