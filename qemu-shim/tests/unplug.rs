//! A VMM with device and console in its process, whose control thread takes the device away while the others use it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mdev_sample::DeviceType;
use qemu_shim::image::write_png;
use qemu_shim::{Console, Refresh, State};
use vfio_gfx::device::{DeviceError, Interfaces, SharedDevice};
use vfio_gfx::display::{Display, Local};

const PIXEL: u32 = 0x12_3456;
const SIZE: (u16, u16) = (640, 480);
/// Devices that are taken away, each at another moment.
const ROUNDS: u64 = 40;

fn device(interfaces: Interfaces) -> SharedDevice {
    let device = DeviceType::find("vgfx-hd").unwrap().create(Some(interfaces)).unwrap();
    let device = SharedDevice::new(device);
    let (width, height) = SIZE;
    for (register, value) in [(3u64, 32u16), (1, width), (2, height), (4, 0x41)] {
        device.lock().guest_write(2, 0x500 + 2 * register, &value.to_le_bytes()).unwrap();
    }
    let page = PIXEL.to_le_bytes().repeat(usize::from(width) * usize::from(height));
    for number in 0..2 {
        device.lock().vram().write(number * page.len() as u64, &page).unwrap();
    }
    device
}

fn console(device: &SharedDevice) -> Console {
    Console::new(Display::open(Box::new(Local::new(device.clone()))).unwrap())
}

/// A CPU that pans to where the screen is, and reads what it wrote. Ends when the device does; returns what it read last.
fn vcpu(device: &SharedDevice) -> u16 {
    loop {
        let mut back = [0; 2];
        // X_OFFSET, Y_OFFSET.
        for register in [8, 9] {
            let _ = device.lock().guest_write(2, 0x500 + 2 * register, &[0; 2]);
        }
        match device.lock().guest_read(2, 0x512, &mut back) {
            Ok(()) => assert_eq!(back, [0; 2]),
            Err(DeviceError::Revoked) => return u16::from_le_bytes(back),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_device_is_taken_away_at_any_moment() {
    for round in 0..ROUNDS {
        let device = device(if round % 2 == 0 { Interfaces::REGION } else { Interfaces::DMABUF });
        let is_looking = Arc::new(AtomicBool::new(false));
        let cpu = std::thread::spawn({
            let device = device.clone();
            move || vcpu(&device)
        });
        let viewer = std::thread::spawn({
            let (mut console, is_looking) = (console(&device), Arc::clone(&is_looking));
            move || {
                let mut pictures = 0;
                loop {
                    let mut looked = console.refresh();
                    while let Ok(Refresh::Torn) = looked {
                        looked = console.refresh();
                    }
                    is_looking.store(true, Ordering::Relaxed);
                    match looked {
                        Ok(_) => {
                            assert_eq!(console.state(), State::Live);
                            let pixels = console.frame().pixels();
                            assert!(pixels.iter().all(|pixel| *pixel == PIXEL), "zeros were shown");
                            pictures += 1;
                        }
                        Err(error) => {
                            assert!(error.is_gone(), "{error}");
                            assert_eq!(console.state(), State::Unplugged);
                            assert!(console.frame().is_empty() && !console.screen().is_empty());
                            return pictures;
                        }
                    }
                }
            }
        });
        let start = Instant::now();
        while !is_looking.load(Ordering::Relaxed) && start.elapsed() < Duration::from_secs(60) {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_micros(round * 97 % 4000));
        {
            let mut device = device.lock();
            device.revoke().unwrap();
            // Whoever reads in this moment gets new pages; what was in the old ones is gone.
            let mut left = [0xff; 4096];
            device.vram().read(0, &mut left).unwrap();
            assert_eq!(left, [0; 4096], "given back while all of them run");
        }
        assert_eq!(cpu.join().unwrap(), u16::MAX, "nobody answers on the bus");
        assert!(viewer.join().unwrap() > 0);
    }
}

#[test]
fn what_is_read_once_is_not_believed_either() {
    let device = device(Interfaces::REGION);
    let mut console = console(&device);
    let mut live = console.live().unwrap().unwrap();
    device.lock().revoke().unwrap();
    let error = write_png(&mut live, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("unplugged"), "{error}");
    drop(live);
    assert!(console.raw_crc().unwrap_err().is_gone());
    assert!(console.live().is_err());
}
