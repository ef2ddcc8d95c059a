//! Guests that wait for their flips, and consoles that take them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mdev_sample::DeviceType;
use vfio_gfx::device::{Link, SharedDevice};
use vfio_gfx::display::{Display, Local};
use vfio_gfx::format::Fourcc;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

fn write(device: &SharedDevice, register: u64, value: u32) {
    device.lock().guest_write(2, register, &value.to_le_bytes()).unwrap();
}

fn read(device: &SharedDevice, register: u64) -> u32 {
    let mut data = [0; 4];
    device.lock().guest_read(2, register, &mut data).unwrap();
    u32::from_le_bytes(data)
}

/// COMMIT and COMPLETED.
fn flips(device: &SharedDevice) -> (u32, u32) {
    (read(device, 0x808), read(device, 0x80c))
}

/// Flips to a frame of this page of video memory.
fn flip(device: &SharedDevice, page: u32) {
    let registers = [(0, 1), (1, Fourcc::XRGB8888.bits()), (2, page << 14), (4, 256), (5, 64), (6, 64)];
    for (register, value) in registers {
        write(device, 0x840 + 4 * register, value);
    }
    write(device, 0x808, 1);
}

fn device() -> SharedDevice {
    SharedDevice::new(DeviceType::find("vgfx-hd").unwrap().create(None).unwrap())
}

fn console(device: &SharedDevice) -> Console {
    Console::new(Display::open(Box::new(Local::new(device.clone()))).unwrap())
}

#[test]
fn a_flip_is_over_when_the_console_has_the_frame_and_not_before() {
    let device = device();
    let mut console = console(&device);
    console.pace_flips();
    assert_eq!(console.refresh().unwrap(), Refresh::Off);
    assert!(console.is_pacing());
    for n in 1..5 {
        device.lock().vram().write(u64::from(n) << 14, &[n.try_into().unwrap(); 16384]).unwrap();
        flip(&device, n);
        assert_eq!(console.refresh().unwrap(), Refresh::Changed);
        assert_eq!(console.frame().pixels()[0], n * 0x0001_0101);
        assert_eq!(flips(&device), (n, n));
        assert_eq!(console.link(), Some(Link::Up));
    }
    // The same frame again: waited for, and taken.
    write(&device, 0x808, 1);
    assert_eq!(console.refresh().unwrap(), Refresh::Same);
    assert_eq!(flips(&device), (5, 5));
    console.stop_pacing().unwrap();
    write(&device, 0x808, 1);
    assert_eq!(flips(&device), (6, 6), "nobody is waited for");
}

#[test]
fn a_plane_that_cannot_be_shown_holds_nobody_up() {
    let device = device();
    let mut console = console(&device);
    console.pace_flips();
    console.refresh().unwrap();
    // No format of ours: off, and nothing is refused.
    write(&device, 0x844, u32::from_le_bytes(*b"NV12"));
    write(&device, 0x840, 1);
    write(&device, 0x808, 1);
    assert_eq!(read(&device, 0x840 + 0x38), 2, "not possible");
    assert_eq!(console.refresh().unwrap(), Refresh::Off);
    assert_eq!(flips(&device), (1, 1));
    flip(&device, 0);
    assert_eq!(read(&device, 0x840 + 0x38), 1);
    assert_eq!(console.refresh().unwrap(), Refresh::Changed);
    assert_eq!(flips(&device), (2, 2));
}

#[test]
fn whoever_does_not_ask_to_is_not_waited_for() {
    let device = device();
    let mut console = console(&device);
    console.refresh().unwrap();
    flip(&device, 0);
    assert!(!console.is_pacing());
    assert_eq!((flips(&device), console.link()), ((1, 1), None));
}

/// A listener that keeps every frame, and a guest that waits for its flips: not one is missed.
#[test]
fn a_guest_that_waits_has_every_frame_seen() {
    const FLIPS: u32 = 200;
    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<u32>>>);
    impl Listener for Seen {
        fn update(&mut self, update: &Update<'_>) {
            if update.live {
                self.0.lock().unwrap().push(update.frame.pixels()[0] & 0xff);
            }
        }
    }
    let device = device();
    for page in 0..3 {
        device.lock().vram().write(page << 14, &[u8::try_from(page).unwrap() + 1; 16384]).unwrap();
    }
    let (seen, stop) = (Seen::default(), Arc::new(AtomicBool::new(false)));
    let mut console = console(&device);
    console.add_listener(Box::new(seen.clone()));
    console.pace_flips();
    console.tick().unwrap();
    let is_over = stop.clone();
    let thread = std::thread::spawn(move || console.run(&is_over).unwrap());
    let mut not_waited_for = 0;
    for n in 0..FLIPS {
        flip(&device, n % 3);
        let asked = Instant::now();
        while flips(&device).1 != n + 1 && asked.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
        // Else this machine did not run the console for a tenth of a second.
        not_waited_for += usize::from((read(&device, 0x810), read(&device, 0x814)) != (1, 1));
    }
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    assert_eq!((flips(&device), read(&device, 0x814)), ((FLIPS, FLIPS), 1), "nobody is late who is gone");
    let seen = seen.0.lock().unwrap();
    assert!(seen.len() + not_waited_for >= FLIPS as usize, "{} seen, {not_waited_for} late", seen.len());
    if not_waited_for == 0 {
        assert!(seen.iter().zip(0..FLIPS).all(|(seen, n)| *seen == n % 3 + 1), "{seen:?}");
    }
}

#[test]
fn the_next_device_is_paced_like_the_last() {
    let (first, next) = (device(), device());
    let mut console = console(&first);
    console.pace_flips();
    console.refresh().unwrap();
    assert!(console.is_pacing());
    first.lock().revoke().unwrap();
    console.refresh().unwrap_err();
    console.replug(Display::open(Box::new(Local::new(next.clone()))).unwrap());
    assert!(!console.is_pacing(), "it has not looked yet");
    console.refresh().unwrap();
    assert!(console.is_pacing());
    flip(&next, 1);
    assert_eq!(flips(&next), (1, 0), "the console is waited for");
    console.refresh().unwrap();
    assert_eq!(flips(&next), (1, 1));
}
