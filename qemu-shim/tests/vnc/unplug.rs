//! A viewer outlives the device that it looks at.

use std::sync::{Arc, Mutex};

use mdev_sample::DeviceType;
use qemu_shim::Console;
use vfio_gfx::device::SharedDevice;
use vfio_gfx::display::{Display, Local};

use crate::stage::Stage;
use crate::viewer::{DESKTOP_SIZE, Viewer};

/// Where the next device is plugged in.
type Socket = Arc<Mutex<Option<SharedDevice>>>;

fn device() -> SharedDevice {
    SharedDevice::new(DeviceType::find("mbochs-small").unwrap().create(None).unwrap())
}

/// A guest that has set a mode and filled its screen.
fn draw(device: &SharedDevice, (width, height): (u16, u16), pixel: u32) {
    let mut device = device.lock();
    for (register, value) in [(4, 0), (3, 32), (1, width), (2, height), (6, width), (4, 0x41u16)] {
        device.guest_write(2, 0x500 + 2 * register, &value.to_le_bytes()).unwrap();
    }
    let pixels = pixel.to_le_bytes().repeat(usize::from(width) * usize::from(height));
    device.vram().write(0, &pixels).unwrap();
}

fn open(device: &SharedDevice) -> Display {
    Display::open(Box::new(Local::new(device.clone()))).unwrap()
}

/// Asks until the picture is as wanted. No picture on the way there is black, or partly so: memory that was taken away is shown
/// to nobody.
fn look_until(viewer: &mut Viewer, is_so: impl Fn(&Viewer) -> bool) {
    while !is_so(viewer) {
        let got = viewer.update(true);
        if got.iter().any(|got| got.encoding == DESKTOP_SIZE) {
            // Another size; its pixels are still to come.
            continue;
        }
        let black = viewer.pixels.iter().filter(|pixel| **pixel == 0).count();
        assert_eq!(black, 0, "zeros of a device that is gone");
    }
}

#[test]
fn a_viewer_sees_a_device_go_and_another_come() {
    let (first, second) = (device(), device());
    draw(&first, (640, 480), 0x12_3456);
    draw(&second, (320, 240), 0x65_4321);
    let socket = Socket::default();
    let mut console = Console::new(open(&first));
    let plugged = Arc::clone(&socket);
    console.reopen_with(move || plugged.lock().unwrap().as_ref().map(open));
    let stage = Stage::of(console, first.clone());

    let mut viewer = Viewer::connect(&stage.path);
    viewer.set_encodings(&[0, DESKTOP_SIZE]);
    viewer.update(false);
    let all = |pixel: u32| move |viewer: &Viewer| viewer.pixels.iter().all(|found| *found == pixel);
    look_until(&mut viewer, all(0x12_3456));
    assert_eq!((viewer.width, viewer.height), (640, 480));

    first.lock().revoke().unwrap();
    // A grey picture of the same size, with a sentence in white.
    look_until(&mut viewer, |viewer| viewer.pixels.contains(&0xff_ffff) && viewer.pixels[0] == 0x30_3030);
    assert_eq!((viewer.width, viewer.height), (640, 480));
    assert!(!viewer.pixels.contains(&0x12_3456), "nothing of the old picture");
    let mut late = Viewer::connect(&stage.path);
    late.set_encodings(&[0, DESKTOP_SIZE]);
    late.update(false);
    look_until(&mut late, |late| late.pixels == viewer.pixels);

    *socket.lock().unwrap() = Some(second.clone());
    for viewer in [&mut viewer, &mut late] {
        look_until(viewer, |viewer| viewer.width == 320 && all(0x65_4321)(viewer));
    }
    // It is looked at as the first one was: it may go, too.
    *socket.lock().unwrap() = None;
    second.lock().revoke().unwrap();
    look_until(&mut viewer, |viewer| viewer.pixels[0] == 0x30_3030);
}
