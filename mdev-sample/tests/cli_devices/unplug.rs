//! A device is taken away from those who use it.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::process::Signal;
use vfio_gfx::abi::{Errno, IrqSet, PlaneKind, RegionInfo, pci_irq};
use vfio_gfx::display::{Display, Remote};
use vfio_gfx::vfio_user::{Client, ClientError, Command as Message, RegionAccess, Role};
use zerocopy::{FromZeros, IntoBytes};

use crate::program::{A, PATIENCE, Serving, attach, define, output, program, socket, until, width};

const MDPY: &str = r#"{"mdev_type": "mdpy-vga", "start": "auto"}"#;

fn serve(dir: &tempfile::TempDir, grace: &str) -> Serving {
    let mut serving = Serving::start(
        program(dir.path()).args(["serve", "--grace", grace, "--definitions"]).arg(dir.path()),
    );
    serving.ready();
    serving
}

/// A VMM that asks to be asked.
fn armed(path: &Path) -> (Client, OwnedFd) {
    let mut vmm = attach(path, Role::Vmm);
    let request = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
    let set = IrqSet { argsz: 20, flags: 0x24, index: pci_irq::REQ, start: 0, count: 1 };
    let fds = [request.try_clone().unwrap()];
    vmm.call_with_fds(Message::SetIrqs, &[set.as_bytes()], &fds, |_, _| Ok(())).unwrap();
    (vmm, request)
}

fn is_signalled(fd: &OwnedFd) -> bool {
    let patience = Timespec::try_from(PATIENCE).unwrap();
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&patience)) == Ok(1)
}

/// The first bytes of configuration space.
fn identity(vmm: &mut Client) -> Result<Vec<u8>, ClientError> {
    let access = RegionAccess { offset: 0, region: 7, count: 4 };
    vmm.call(Message::RegionRead, &[access.as_bytes()], |payload, _| Ok(payload[16..].to_vec()))
}

fn is_refused<T>(answer: &Result<T, ClientError>) -> bool {
    matches!(answer, Err(ClientError::Refused { errno: Errno::ENODEV, .. }))
}

fn display(path: &Path) -> Display {
    Display::open(Box::new(Remote::connect(path).unwrap())).unwrap()
}

/// Bytes that the system holds for the video memory: `stat` of the VMM's descriptor.
fn allocated(memory: &OwnedFd) -> i64 {
    rustix::fs::fstat(memory).unwrap().st_blocks
}

#[test]
fn a_device_is_asked_back_then_taken_away_then_replaced() {
    let dir = tempfile::tempdir().unwrap();
    define(&dir, "mdpy", A, MDPY);
    let mut serving = serve(&dir, "2");
    let path = socket(&dir, A);
    let (mut vmm, request) = armed(&path);
    let info = RegionInfo { argsz: 32, index: 16, ..FromZeros::new_zeroed() };
    let memory =
        vmm.call(Message::GetRegionInfo, &[info.as_bytes()], |_, mut fds| Ok(fds.pop().unwrap())).unwrap();
    let mut console = display(&path);
    assert!(console.pixels(PlaneKind::Primary).unwrap().is_some());
    assert!(allocated(&memory) > 0);

    let start = Instant::now();
    output(dir.path(), &["remove", A]);
    assert!(is_signalled(&request));
    until("nobody else can connect", || !path.exists());
    // It has two seconds, in which all is as it was. (On a slow machine they may be over already.)
    let answer = identity(&mut vmm);
    assert!(answer.is_ok() || start.elapsed() >= Duration::from_secs(2), "{answer:?}");
    until("its time is over", || is_refused(&identity(&mut vmm)));
    assert!(start.elapsed() >= Duration::from_secs(2));
    assert_eq!(allocated(&memory), 0, "given back, though we hold it");
    assert!(console.pixels(PlaneKind::Primary).unwrap_err().is_gone());

    // Another device of the same name is another device.
    output(dir.path(), &["create", "--type", "mdpy-xga", "--uuid", A]);
    assert!(serving.ready().contains("mdpy-xga"));
    assert_eq!(width(&path), 1024);
    let other = attach(&path, Role::Vmm);
    assert!(is_refused(&identity(&mut vmm)), "the old one's VMM has the old one");
    drop((vmm, other));
    serving.signal(Signal::TERM);
    let (status, logs) = serving.end();
    assert_eq!(status, Some(0));
    assert!(logs.contains("has not let the device go in time"), "{logs}");
}

#[test]
fn a_vmm_that_lets_go_is_not_waited_for_any_longer() {
    let dir = tempfile::tempdir().unwrap();
    define(&dir, "mdpy", A, MDPY);
    let serving = serve(&dir, "3600");
    let path = socket(&dir, A);
    let (vmm, request) = armed(&path);
    let mut console = display(&path);
    output(dir.path(), &["remove", A]);
    assert!(is_signalled(&request));
    assert!(console.pixels(PlaneKind::Primary).unwrap().is_some());
    drop(vmm);
    until("the device is gone", || console.pixels(PlaneKind::Primary).is_err_and(|error| error.is_gone()));
    serving.signal(Signal::TERM);
    assert_eq!(serving.end().0, Some(0));
}

#[test]
fn without_a_grace_nobody_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    define(&dir, "mdpy", A, MDPY);
    let serving = serve(&dir, "0");
    let (mut vmm, request) = armed(&socket(&dir, A));
    output(dir.path(), &["remove", A]);
    until("it is taken away", || is_refused(&identity(&mut vmm)));
    assert!(rustix::io::read(&request, &mut [0; 8]).is_err(), "there was nothing to ask for");
    serving.signal(Signal::TERM);
    assert_eq!(serving.end().0, Some(0));
}

#[test]
fn the_end_of_the_server_is_asked_for_too() {
    for lets_go in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        define(&dir, "mdpy", A, MDPY);
        let mut serving = serve(&dir, "3600");
        let (vmm, request) = armed(&socket(&dir, A));
        let mut vmm = Some(vmm);
        serving.signal(Signal::TERM);
        assert!(is_signalled(&request));
        assert!(identity(vmm.as_mut().unwrap()).is_ok(), "it goes on meanwhile");
        let switches = serving.status("voluntary_ctxt_switches:");
        std::thread::sleep(Duration::from_millis(300));
        assert!(serving.status("voluntary_ctxt_switches:") - switches < 20, "it does not spin");
        assert!(serving.child.try_wait().unwrap().is_none());
        if lets_go {
            vmm = None;
        } else {
            serving.signal(Signal::TERM);
        }
        assert_eq!(serving.end().0, Some(if lets_go { 0 } else { 1 }));
        drop(vmm);
    }
}

#[test]
fn who_is_killed_leaves_his_clients_the_end_of_their_connections() {
    let dir = tempfile::tempdir().unwrap();
    define(&dir, "mdpy", A, MDPY);
    let mut serving = serve(&dir, "3600");
    let path = socket(&dir, A);
    let (mut vmm, _request) = armed(&path);
    let mut console = display(&path);
    let mut row = [0; 4];
    console.pixels(PlaneKind::Primary).unwrap().unwrap().read_row(0, &mut row).unwrap();
    serving.signal(Signal::KILL);
    serving.child.wait().unwrap();
    assert!(matches!(identity(&mut vmm), Err(ClientError::Closed)));
    assert!(console.pixels(PlaneKind::Primary).unwrap_err().is_gone());
    // Whoever is started next serves at the same place.
    let serving = serve(&dir, "0");
    assert_eq!(width(&path), 640);
    serving.signal(Signal::TERM);
    assert_eq!(serving.end().0, Some(0));
}
