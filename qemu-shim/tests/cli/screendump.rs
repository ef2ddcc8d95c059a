//! `qemu-shim screendump`: the file holds exactly the pixels that the guest drew.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vfio_gfx::device::Interfaces;

use crate::fixture::{Guest, Picture, complaint, printed};

fn dump(device: &str, path: &Path, more: &[&str]) {
    let args = [&["screendump", device, "-o", path.to_str().unwrap()], more].concat();
    assert_eq!(printed(&args), "");
}

/// Both formats, through whatever interface the device offers.
fn check(guest: &Guest, picture: &Picture) {
    let (png, ppm) = (guest.file("x.png"), guest.file("x.PPM"));
    dump(&guest.device(), &png, &[]);
    dump(&guest.device(), &ppm, &[]);
    assert!(Picture::from_png(&png) == *picture, "{}x{} as PNG", picture.width, picture.height);
    assert!(Picture::from_ppm(&ppm) == *picture, "{}x{} as PPM", picture.width, picture.height);
    assert_eq!(guest.files().len(), 2, "nothing else is left: {:?}", guest.files());
}

#[test]
fn what_was_drawn_through_the_bar() {
    let guest = Guest::new("mdpy-vga");
    let picture = Picture::known(640, 480);
    guest.draw(&picture, 640, 0);
    check(&guest, &picture);
}

/// Widths that are no multiple of anything, rows with padding, through both interfaces.
#[test]
fn odd_modes() {
    for interfaces in [Interfaces::DMABUF, Interfaces::REGION] {
        let mut guest = Guest::offering("mbochs-medium", Some(interfaces));
        for (width, height, virtual_width) in
            [(642, 400, 700), (641, 99, 641), (65, 64, 1000), (1367, 80, 1367)]
        {
            guest.mode(width, height, virtual_width);
            let picture = Picture::known(width.into(), height.into());
            guest.draw(&picture, virtual_width.into(), 0);
            check(&guest, &picture);
        }
    }
}

/// A page flip: the plane starts in the middle of a memory page.
#[test]
fn panned_planes() {
    for interfaces in [Interfaces::DMABUF, Interfaces::REGION] {
        let mut guest = Guest::offering("mbochs-medium", Some(interfaces));
        guest.mode(642, 400, 700);
        guest.draw(&Picture::solid(642, 400, [9, 9, 9]), 700, 0);
        let picture = Picture::known(642, 400);
        guest.draw(&picture, 700, 401 * 700 + 13);
        for (register, value) in [(6, 700), (8, 13), (9, 401)] {
            guest.register(register, value);
        }
        check(&guest, &picture);
    }
}

#[test]
fn a_fresh_sample_shows_its_gradient() {
    let dir = tempfile::tempdir().unwrap();
    let png = dir.path().join("x.png");
    dump("sample:mdpy-vga", &png, &[]);
    let grey = |y: usize| u8::try_from(y * 255 / 480).unwrap();
    let pixels = (0..480).flat_map(|y| std::iter::repeat_n([grey(y); 3], 640)).collect();
    assert!(Picture::from_png(&png) == Picture { width: 640, height: 480, pixels });
}

#[test]
fn nothing_is_saved_of_a_display_that_is_off() {
    let guest = Guest::new("mbochs-small");
    for (name, before) in [("new.png", None), ("old.png", Some("old")), ("old.ppm", Some("old"))] {
        let path = guest.file(name);
        if let Some(text) = before {
            fs::write(&path, text).unwrap();
        }
        let line = complaint(&["screendump", &guest.device(), "-o", path.to_str().unwrap()], 1);
        assert!(line.contains(&guest.device()) && line.contains("off"), "{line}");
        assert_eq!(fs::read_to_string(&path).ok().as_deref(), before);
    }
    assert_eq!(guest.files().len(), 2, "{:?}", guest.files());
}

#[test]
fn places_that_cannot_be_written_are_named() {
    let guest = Guest::new("mdpy-vga");
    let directory = guest.file("directory.png");
    fs::create_dir(&directory).unwrap();
    for path in [guest.file("no/such/x.png"), directory] {
        let path = path.to_str().unwrap();
        let line = complaint(&["screendump", &guest.device(), "-o", path], 1);
        assert!(line.contains(path) && line.contains("cannot save"), "{line}");
    }
    assert_eq!(guest.files(), ["directory.png"]);
}

#[test]
fn an_existing_file_is_replaced() {
    let guest = Guest::new("mdpy-vga");
    let path = guest.file("x.ppm");
    fs::write(&path, vec![b'#'; 4 << 20]).unwrap();
    dump(&guest.device(), &path, &[]);
    assert_eq!(Picture::from_ppm(&path).width, 640);
}

/// A guest that draws for a while: what is saved is what it drew last.
#[test]
fn stable_pictures_are_waited_for() {
    let mut guest = Guest::new("mbochs-medium");
    let path = guest.file("x.png");
    let last = Picture::solid(320, 200, [1, 2, 3]);
    let device = guest.device();
    std::thread::scope(|scope| {
        scope.spawn(|| dump(&device, &path, &["--wait-stable", "300"]));
        // Off at first, then in another mode, then in another colour every 20 ms.
        std::thread::sleep(Duration::from_millis(200));
        guest.mode(640, 480, 640);
        guest.mode(320, 200, 320);
        for n in 0..40 {
            guest.draw(&Picture::solid(320, 200, [n, 0, 0]), 320, 0);
            std::thread::sleep(Duration::from_millis(20));
        }
        guest.draw(&last, 320, 0);
    });
    assert!(Picture::from_png(&path) == last);
}

#[test]
fn waiting_ends() {
    let mut guest = Guest::new("mbochs-small");
    let path = guest.file("x.png");
    let args = |device: &str| {
        ["screendump", device, "-o", path.to_str().unwrap(), "--wait-stable", "400", "--timeout", "1"]
            .map(str::to_owned)
    };
    let give_up = |device: &str| {
        let start = Instant::now();
        let args = args(device);
        let line = complaint(&args.each_ref().map(String::as_str), 1);
        assert!(line.contains(device) && line.contains("1 seconds"), "{line}");
        assert!((900..8000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    };
    give_up(&guest.device());
    guest.mode(64, 64, 64);
    let done = AtomicBool::new(false);
    let device = guest.device();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in (0..=255).cycle() {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                guest.draw(&Picture::solid(64, 64, [n; 3]), 64, 0);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        give_up(&device);
        done.store(true, Ordering::Relaxed);
    });
    assert!(guest.files().is_empty(), "{:?}", guest.files());
}
