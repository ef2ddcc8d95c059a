//! What viewers see.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::stage::Stage;
use crate::viewer::{
    CONTINUOUS, COPY_RECT, CURSOR, DESKTOP_NAME, DESKTOP_SIZE, EXTENDED_DESKTOP_SIZE, FENCE, Got, Viewer,
};

fn bytes(pixels: impl IntoIterator<Item = u32>) -> Vec<u8> {
    pixels.into_iter().flat_map(u32::to_le_bytes).collect()
}

#[test]
fn a_picture_arrives_and_then_only_what_changes() {
    let stage = Stage::new("mbochs-small");
    stage.mode(640, 480);
    let drawn: Vec<u32> = (0..640 * 480).map(|n| (n * 7) & 0xff_ffff).collect();
    stage.draw(0, &bytes(drawn.iter().copied()));
    let mut viewer = Viewer::connect(&stage.path);
    viewer.set_encodings(&[0, DESKTOP_SIZE]);
    viewer.update(false);
    while viewer.pixels != drawn {
        viewer.update(true);
    }
    stage.draw((200 * 640 + 100) * 4, &[1, 2, 3, 0]);
    let start = Instant::now();
    let got = viewer.update(true);
    assert_eq!(got, [Got { x: 96, y: 192, width: 32, height: 32, encoding: 0 }]);
    assert_eq!(viewer.pixels[200 * 640 + 100], 0x03_0201);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn nobody_looks_while_nobody_watches() {
    let stage = Stage::new("mbochs-small");
    stage.mode(640, 480);
    let mut viewer = Viewer::connect(&stage.path);
    let rest = || {
        let before = stage.looks.load(Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(400));
        stage.looks.load(Ordering::Relaxed) - before
    };
    assert_eq!(rest(), 0, "it asked for nothing yet");
    for _ in 0..20 {
        viewer.send(&[4, 1, 0, 0, 0, 0, 0, b'a']);
        viewer.send(&[248, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    assert_eq!(rest(), 0, "it only types");
    viewer.update(false);
    viewer.request(true);
    std::thread::sleep(Duration::from_millis(100));
    assert!(rest() > 0, "it waits for a change");
    drop(viewer);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(rest(), 0, "it is gone");
}

/// Many viewers keep the size that they are told first.
#[test]
fn who_comes_in_is_told_the_size_of_now() {
    let stage = Stage::new("mbochs-small");
    for (width, height) in [(640, 480), (800, 600), (320, 200)] {
        stage.mode(width, height);
        // Nobody is there to look; the last look is long ago.
        std::thread::sleep(Duration::from_millis(300));
        let viewer = Viewer::connect(&stage.path);
        assert_eq!((viewer.width, viewer.height), (width, height));
    }
}

/// A device that tells of changes is not asked for planes that were off: ten looks a second, one question each.
#[test]
fn at_rest_there_is_one_question_a_look() {
    let stage = Stage::new("vgfx-hd");
    stage.mode(640, 480);
    stage.draw(0, &bytes(vec![0x12_3456; 640 * 480]));
    let mut viewer = Viewer::connect(&stage.path);
    viewer.set_encodings(&[0, DESKTOP_SIZE]);
    viewer.update(false);
    while viewer.pixels != vec![0x12_3456; 640 * 480] {
        viewer.update(true);
    }
    // Nothing changes any more: this one is not answered.
    viewer.request(true);
    // Until it looks as rarely as it ever does.
    std::thread::sleep(Duration::from_millis(1500));
    let before = stage.looks.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_secs(1));
    let looks = stage.looks.load(Ordering::Relaxed) - before;
    assert!((1..=15).contains(&looks), "{looks} questions in a second");
}

#[test]
fn sizes_are_followed_by_those_who_can_and_cut_for_those_who_cannot() {
    let stage = Stage::new("mbochs-small");
    stage.mode(640, 480);
    let mut viewers: Vec<Viewer> = (0..3).map(|_| Viewer::connect(&stage.path)).collect();
    viewers[0].set_encodings(&[0, DESKTOP_SIZE]);
    viewers[1].set_encodings(&[0, EXTENDED_DESKTOP_SIZE]);
    viewers[2].set_encodings(&[0]);
    for viewer in &mut viewers {
        viewer.update(false);
        while (viewer.width, viewer.height) != (640, 480) {
            viewer.update(true);
        }
    }
    stage.mode(800, 600);
    stage.draw(0, &bytes((0..800 * 600).map(|n| n & 0xff_ffff)));
    for (number, viewer) in viewers.iter_mut().enumerate() {
        let (width, height) = if number == 2 { (640, 480) } else { (800, 600) };
        let last = (usize::from(height) - 1) * usize::from(width) + usize::from(width) - 1;
        let shown = 800 * (u32::from(height) - 1) + u32::from(width) - 1;
        while (viewer.width, viewer.height) != (width, height) || viewer.pixels[last] != shown {
            viewer.update(true);
        }
    }
    // Smaller: what is not on the screen any more is black.
    stage.mode(320, 200);
    // Not an array: the copies of a quarter of a mebibyte that iterating over it makes are more than a thread's stack holds.
    stage.draw(0, &bytes(vec![0xff; 320 * 200]));
    let blind = &mut viewers[2];
    while blind.pixels[200 * 640] != 0 || blind.pixels[320] != 0 || blind.pixels[1] != 0xff {
        blind.update(true);
    }
}

#[test]
fn a_wish_for_another_size_reaches_the_guest() {
    let stage = Stage::new("mbochs-medium");
    stage.mode(640, 480);
    let mut viewer = Viewer::connect(&stage.path);
    viewer.set_encodings(&[0, EXTENDED_DESKTOP_SIZE]);
    viewer.update(false);
    let mut wish = |width: u16, height: u16| {
        let mut message = vec![251, 0];
        message.extend(width.to_be_bytes());
        message.extend(height.to_be_bytes());
        message.extend([1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        message.extend(width.to_be_bytes());
        message.extend(height.to_be_bytes());
        message.extend([0; 4]);
        viewer.send(&message);
        let got = viewer.update(true);
        got.iter().find(|got| got.encoding == EXTENDED_DESKTOP_SIZE && got.x == 1).map(|got| got.y)
    };
    assert_eq!(wish(1280, 720), Some(4), "forwarded to the guest");
    let mut window = [0; 128];
    // The guest finds the new monitor in its EDID window.
    stage.device.lock().guest_read(2, 0, &mut window).unwrap();
    let width = u32::from(window[54 + 2]) | u32::from(window[54 + 4] >> 4) << 8;
    assert_eq!(width, 1280);
    assert_eq!(wish(u16::MAX, u16::MAX), Some(3), "no such mode");
}

#[test]
fn a_screen_that_goes_off_is_not_shown_as_live() {
    let stage = Stage::new("mbochs-small");
    stage.mode(640, 480);
    stage.draw(0, &bytes(vec![0x12_3456; 640 * 480]));
    let mut viewer = Viewer::connect(&stage.path);
    viewer.set_encodings(&[0, DESKTOP_SIZE, DESKTOP_NAME]);
    viewer.update(false);
    while viewer.pixels != vec![0x12_3456; 640 * 480] {
        viewer.update(true);
    }
    stage.blank(0);
    while viewer.pixels.contains(&0x12_3456) || viewer.name != "test (no picture)" {
        viewer.update(true);
    }
    stage.blank(0x20);
    while viewer.pixels != vec![0x12_3456; 640 * 480] || viewer.name != "test" {
        viewer.update(true);
    }
}

#[test]
fn rows_that_scroll_are_copied() {
    let stage = Stage::new("mbochs-small");
    stage.mode(640, 480);
    let page = |first: u32| bytes((0..640 * 480).map(|n| ((first + n / 640) * 0x01_0307) & 0xff_ffff));
    stage.draw(0, &page(0));
    let mut viewer = Viewer::connect(&stage.path);
    viewer.set_encodings(&[0, COPY_RECT, DESKTOP_SIZE]);
    viewer.update(false);
    let before = page(0);
    while bytes(viewer.pixels.iter().copied()) != before {
        viewer.update(true);
    }
    // A flip, so that the picture scrolls in one piece.
    stage.draw(640 * 480 * 4, &page(16));
    viewer.request(true);
    std::thread::sleep(Duration::from_millis(300));
    stage.write16(7, 960);
    stage.write16(9, 480);
    let got = viewer.receive();
    assert_eq!(got[0], Got { x: 0, y: 0, width: 640, height: 464, encoding: COPY_RECT });
    assert_eq!(bytes(viewer.pixels.iter().copied()), page(16));
    let sent: u32 = got[1..].iter().map(|got| u32::from(got.width) * u32::from(got.height)).sum();
    assert!(sent <= 640 * 32, "{got:?}");
}

#[test]
fn updates_come_without_asking_and_fences_are_answered() {
    let stage = Stage::new("mbochs-small");
    stage.mode(640, 480);
    let mut viewer = Viewer::connect(&stage.path);
    viewer.set_encodings(&[0, DESKTOP_SIZE, FENCE, CONTINUOUS]);
    viewer.send(&[150, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    viewer.send(&[248, 0, 0, 0, 0x80, 0, 0, 1, 3, b'a', b'b', b'c']);
    viewer.receive();
    assert_eq!(viewer.ends_of_continuous_updates, 1, "the server knows continuous updates");
    for turn in 1..4u8 {
        stage.draw(0, &[turn, 0, 0, 0]);
        while viewer.pixels[0] != u32::from(turn) {
            viewer.receive();
        }
    }
    assert_eq!(viewer.fences, [b"abc"]);
    viewer.send(&[150, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    viewer.request(false);
    viewer.receive();
    assert_eq!(viewer.ends_of_continuous_updates, 2);
}

#[test]
fn a_viewer_that_only_looks_is_shown_the_cursor_where_the_guest_has_it() {
    let stage = Stage::new("vgfx-hd");
    let mut device = stage.device.lock();
    let mut plane = |number: u64, registers: &[(u64, u32)]| {
        for (register, value) in registers {
            device.guest_write(2, 0x840 + 0x40 * number + 4 * register, &value.to_le_bytes()).unwrap();
        }
    };
    let argb = u32::from_le_bytes(*b"AR24");
    plane(0, &[(0, 1), (1, u32::from_le_bytes(*b"XR24")), (4, 400), (5, 100), (6, 80)]);
    plane(2, &[(0, 1), (1, argb), (2, 0x20_0000), (4, 16), (5, 4), (6, 4), (7, 60), (8, 2)]);
    device.vram().write(0x20_0000, &[0, 0, 0xff, 0xff].repeat(16)).unwrap();
    device.guest_write(2, 0x808, &[1, 0, 0, 0]).unwrap();
    drop(device);
    let mut viewer = Viewer::connect(&stage.path);
    viewer.set_encodings(&[0, CURSOR, DESKTOP_SIZE]);
    viewer.update(false);
    while viewer.width != 100 || viewer.pixels[2 * 100 + 60] != 0xff_0000 {
        viewer.update(true);
    }
}
