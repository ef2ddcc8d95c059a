//! Flips that wait for consoles, and for no longer than they may.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use vfio_gfx::abi::pci_irq;
use vfio_gfx::abi::{IrqAction, IrqData, IrqRequest};
use vfio_gfx::device::{DisplayEvents, FLIP_TIMEOUT, Link};
use vfio_gfx::display::{Pace, Paced, Remote};
use vfio_gfx::vfio_user::{Server, Stopper, Until};

use super::*;

const COMPLETED: u64 = 0x80c;
const LAST: u64 = 0x810;
const LINK: u64 = 0x814;
const INTERRUPTS: u64 = 0x818;
const ENABLE: u64 = 0x81c;
const TIME_OUT: u64 = 0x820;
const TIMED_OUT: u64 = 0x824;

/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// COMMIT, COMPLETED, STATUS, LINK, TIMED_OUT.
fn registers(device: &SharedDevice) -> [u32; 5] {
    let mut device = device.lock();
    [COMMIT, COMPLETED, LAST, LINK, TIMED_OUT].map(|register| read32(&mut device, register))
}

/// As the guest's driver: interrupts enabled, and the eventfd that they come by.
fn arm(device: &SharedDevice) -> OwnedFd {
    let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
    let request = IrqRequest {
        index: pci_irq::MSI,
        start: 0,
        count: 1,
        data: IrqData::Eventfd,
        action: IrqAction::Trigger,
    };
    let mut device = device.lock();
    device.irqs().set(request, &[], vec![fd.try_clone().unwrap()]).unwrap();
    write32(&mut device, ENABLE, 7);
    fd
}

fn await_readable(fd: impl AsFd) {
    let patience = Timespec::try_from(PATIENCE).unwrap();
    assert_eq!(poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&patience)), Ok(1), "nothing came");
}

/// How often it was raised; what it was raised for, which is then cleared.
fn interrupts(device: &SharedDevice, fd: &OwnedFd) -> (u64, u32) {
    let mut count = [0; 8];
    let _ = rustix::io::read(fd, &mut count);
    let causes = read32(&mut device.lock(), INTERRUPTS);
    write32(&mut device.lock(), INTERRUPTS, causes);
    (u64::from_ne_bytes(count), causes)
}

fn commit(device: &SharedDevice) {
    write32(&mut device.lock(), COMMIT, 1);
}

fn display(device: &SharedDevice) -> Display {
    Display::open(Box::new(Local::new(device.clone()))).unwrap()
}

fn say(display: &mut Display, pace: Pace) -> Paced {
    display.backend().pace(pace).unwrap().unwrap()
}

#[test]
fn without_a_console_that_paces_a_flip_is_over_at_once() {
    let device = SharedDevice::new(device());
    let mut looks = display(&device);
    let _watch = looks.backend().watch().unwrap().unwrap();
    let msi = arm(&device);
    assert_eq!(registers(&device), [0, 0, 0, 1, 0]);
    commit(&device);
    assert_eq!(registers(&device), [1, 1, 1, 1, 0]);
    assert_eq!(interrupts(&device, &msi), (1, 1));
    assert_eq!(interrupts(&device, &msi), (0, 0), "cleared");
    assert_eq!(read32(&mut device.lock(), TIME_OUT), 100);
    assert_eq!(u128::from(read32(&mut device.lock(), TIME_OUT)), FLIP_TIMEOUT.as_millis());
}

#[test]
fn a_flip_waits_for_the_frame_to_be_taken() {
    let device = SharedDevice::new(device());
    let msi = arm(&device);
    let mut console = display(&device);
    let watch = console.backend().watch().unwrap().unwrap();
    assert_eq!(say(&mut console, Pace::Join).state.requested, 0);
    commit(&device);
    // Nothing changed on the screen, and yet somebody is waited for.
    assert_eq!(watch.wait(PATIENCE).unwrap(), DisplayEvents::FLIP);
    assert_eq!(say(&mut console, Pace::Look).state.requested, 1);
    let over = say(&mut console, Pace::Taken(1)).state;
    assert_eq!(over.completed, 1);
    let [commits, completed, ..] = registers(&device);
    assert_eq!((commits, completed), (1, 1));
    assert_eq!(interrupts(&device, &msi).1 & 1, 1);
    // The next is replaced by the one after it: each ends once.
    commit(&device);
    commit(&device);
    let [commits, completed, ..] = registers(&device);
    assert!(commits == 3 && completed >= 2);
    say(&mut console, Pace::Leave);
    assert_eq!(registers(&device)[..2], [3, 3]);
}

#[test]
fn a_console_that_goes_is_not_waited_for() {
    let device = SharedDevice::new(device());
    let mut console = display(&device);
    say(&mut console, Pace::Join);
    drop(console);
    commit(&device);
    assert_eq!(registers(&device), [1, 1, 1, 1, 0]);
}

/// Whoever drives the device has a descriptor that says when; the guest is told by interrupt and register, once.
#[test]
fn a_console_that_is_stuck_costs_one_time_out() {
    let device = SharedDevice::new(device());
    let msi = arm(&device);
    let mut stuck = display(&device);
    say(&mut stuck, Pace::Join);
    let timer = device.lock().change_timer().unwrap().try_clone_to_owned().unwrap();
    let start = Instant::now();
    commit(&device);
    await_readable(&timer);
    assert!(start.elapsed() >= FLIP_TIMEOUT, "{:?}", start.elapsed());
    device.lock().look_again();
    assert_eq!(registers(&device), [1, 1, 3, 3, 1]);
    assert_eq!(interrupts(&device, &msi).1, 7);
    device.lock().look_again();
    assert_eq!(interrupts(&device, &msi), (0, 0), "told once");
    // The next flip works, at once.
    commit(&device);
    assert_eq!(registers(&device), [2, 2, 1, 3, 1]);
    assert_eq!(interrupts(&device, &msi), (1, 1));
    // And the console is welcome again.
    assert!(say(&mut stuck, Pace::Look).late);
    let back = say(&mut stuck, Pace::Taken(2));
    assert_eq!((back.late, back.state.link), (false, Link::Up));
    assert_eq!(interrupts(&device, &msi).1, 4);
    assert_eq!(registers(&device), [2, 2, 1, 1, 1]);
}

/// With nobody to look at the timer, the guest's own access finds the flip over.
#[test]
fn a_guest_that_polls_needs_no_timer() {
    let device = SharedDevice::new(device());
    let mut stuck = display(&device);
    say(&mut stuck, Pace::Join);
    commit(&device);
    std::thread::sleep(FLIP_TIMEOUT + Duration::from_millis(5));
    assert_eq!(registers(&device), [1, 1, 3, 3, 1]);
}

/// A device whose time is the caller's: nobody sleeps.
#[test]
fn a_flip_times_out_by_the_clock_that_the_device_was_given() {
    let (mut timed, now) = (device(), Arc::new(AtomicU64::new(7)));
    let clock = Arc::clone(&now);
    timed.set_flip_clock(move || Duration::from_millis(clock.load(Ordering::Relaxed)));
    let device = SharedDevice::new(timed);
    let mut stuck = display(&device);
    say(&mut stuck, Pace::Join);
    commit(&device);
    for (time, expected) in [(0, [1, 0, 0, 1, 0]), (99, [1, 0, 0, 1, 0]), (100, [1, 1, 3, 3, 1])] {
        now.store(7 + time, Ordering::Relaxed);
        assert_eq!(registers(&device), expected, "after {time} ms");
    }
}

/// A test that fails stops its server, too.
struct Stop(Stopper);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// A server has the timer go off, whatever its clients do or do not do.
#[test]
fn a_server_ends_flips_without_anybody_asking() {
    let device = SharedDevice::new(device());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let mut server = Server::bind(device.clone(), &path).unwrap();
    let stop = Stop(server.stopper().unwrap());
    std::thread::scope(|scope| {
        let _stop = stop;
        scope.spawn(move || server.run(Until::Stopped).unwrap());
        let mut stuck = Display::open(Box::new(Remote::connect(&path).unwrap())).unwrap();
        say(&mut stuck, Pace::Join);
        let msi = arm(&device);
        commit(&device);
        await_readable(&msi);
        assert_eq!(registers(&device), [1, 1, 3, 3, 1]);
        assert!(say(&mut stuck, Pace::Look).late);
        // A connection that ends takes its place with it.
        drop(stuck);
        let start = Instant::now();
        while registers(&device)[3] != 1 && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(registers(&device)[3], 1, "nobody is late any more");
    });
}

#[test]
fn the_link_follows_the_monitor() {
    let device = SharedDevice::new(device());
    let msi = arm(&device);
    let link_state = 20;
    for (state, link) in [(2u32, 2), (1, 1)] {
        device.lock().write(crate::mbochs::EDID_REGION, link_state, &state.to_ne_bytes()).unwrap();
        assert_eq!(registers(&device)[3], link);
        assert_eq!(interrupts(&device, &msi), (1, 4));
        // A flip is no less a flip.
        commit(&device);
        let [commits, completed, last, ..] = registers(&device);
        assert_eq!((commits, last), (completed, 1));
        interrupts(&device, &msi);
    }
}

#[test]
fn a_reset_forgets_the_flip_and_the_counters() {
    let device = SharedDevice::new(device());
    let mut stuck = display(&device);
    say(&mut stuck, Pace::Join);
    commit(&device);
    device.lock().reset();
    assert_eq!(registers(&device), [0, 0, 0, 1, 0]);
    std::thread::sleep(FLIP_TIMEOUT + Duration::from_millis(5));
    assert_eq!(registers(&device)[1], 0, "no end of what is forgotten");
    // Numbers are never used twice: what was taken of the old flip says nothing of the new one.
    commit(&device);
    assert_eq!(say(&mut stuck, Pace::Taken(1)).state.requested, 2);
    assert_eq!(say(&mut stuck, Pace::Taken(2)).state.completed, 2);
    assert_eq!(registers(&device)[..2], [1, 1]);
}

#[test]
fn interrupts_wait_until_they_are_enabled() {
    let device = SharedDevice::new(device());
    let msi = arm(&device);
    write32(&mut device.lock(), ENABLE, 0);
    commit(&device);
    let mut count = [0; 8];
    assert!(rustix::io::read(&msi, &mut count).is_err());
    write32(&mut device.lock(), ENABLE, u32::MAX);
    assert_eq!(read32(&mut device.lock(), ENABLE), 7);
    assert_eq!(interrupts(&device, &msi), (1, 1));
    device.lock().reset();
    assert_eq!(read32(&mut device.lock(), ENABLE), 0);
}
