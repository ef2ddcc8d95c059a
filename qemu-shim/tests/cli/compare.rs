//! `qemu-shim diff` and `qemu-shim wait`: pictures against pictures.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::fixture::{Guest, Picture, complaint, printed};

fn save(picture: &Picture, path: &Path) {
    let mut encoder = png::Encoder::new(
        fs::File::create(path).unwrap(),
        u32::try_from(picture.width).unwrap(),
        u32::try_from(picture.height).unwrap(),
    );
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(picture.pixels.as_flattened()).unwrap();
}

/// Marks as the program does: what is the same dark and grey, what differs in magenta.
fn is_marked(picture: &Picture, n: usize) -> bool {
    match picture.pixels[n] {
        [0xff, 0, 0xff] => true,
        [r, g, b] if r == g && g == b && r <= 85 => false,
        other => panic!("neither marked nor dimmed: {other:?}"),
    }
}

#[test]
fn equal_and_unequal_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b, d] = ["a.png", "b.png", "d.png"].map(|name| dir.path().join(name));
    let picture = Picture::known(40, 30);
    save(&picture, &a);
    save(&picture, &b);
    let [a_name, b_name, d_name] = [&a, &b, &d].map(|path| path.to_str().unwrap());
    assert!(printed(&["diff", a_name, b_name]).contains("are equal"));
    let mut other = picture.clone();
    other.pixels[3 * 40 + 7][1] ^= 0x20;
    other.pixels[5 * 40 + 9][2] ^= 0x01;
    save(&other, &b);
    let line = complaint(&["diff", a_name, b_name, "-o", d_name], 1);
    assert!(line.contains("2 of 1200 pixels differ, within 3x3 at 7,3, by at most 32 of 255"), "{line}");
    let shown = Picture::from_png(&d);
    assert_eq!((shown.width, shown.height), (40, 30));
    let marked: Vec<_> = (0..1200).filter(|n| is_marked(&shown, *n)).collect();
    assert_eq!(marked, [3 * 40 + 7, 5 * 40 + 9]);

    let line = complaint(&["diff", a_name, b_name, "--tolerance", "1"], 1);
    assert!(line.contains("1 of 1200 pixels differ, within 1x1 at 7,3"), "{line}");
    assert!(printed(&["diff", a_name, b_name, "--tolerance", "32"]).contains("at most 32"));
}

#[test]
fn pictures_that_cannot_be_compared() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b, d, text] = ["a.png", "b.png", "d.png", "c.png"].map(|name| dir.path().join(name));
    save(&Picture::known(40, 30), &a);
    save(&Picture::known(30, 40), &b);
    fs::write(&text, "not a picture").unwrap();
    let [a, b, d_name, text] = [&a, &b, &d, &text].map(|path| path.to_str().unwrap());
    let line = complaint(&["diff", a, b, "-o", d_name], 1);
    assert!(line.contains(a) && line.contains(b) && line.contains("40x30 and 30x40"), "{line}");
    assert!(!d.exists());
    for missing in [text, "/nonexistent/x.png"] {
        let line = complaint(&["diff", a, missing], 1);
        assert!(line.contains(missing), "{line}");
        let line = complaint(&["wait", "sample:mdpy-vga", "--image", missing], 1);
        assert!(line.contains(missing), "{line}");
    }
    assert!(complaint(&["diff", a, b, "--tolerance", "256"], 2).contains("256"));
    assert!(complaint(&["wait", "sample:mdpy-vga", "--image", a, "--region", "1,2,3"], 2).contains("1,2,3"));
}

#[test]
fn what_is_there_is_seen_at_once() {
    let guest = Guest::new("mdpy-vga");
    let picture = Picture::known(640, 480);
    guest.draw(&picture, 640, 0);
    let golden = guest.file("golden.png");
    save(&picture, &golden);
    let golden = golden.to_str().unwrap();
    let text = printed(&["wait", &guest.device(), "--image", golden, "--timeout", "0"]);
    assert!(text.lines().count() == 1 && text.contains(golden) && text.contains(&guest.device()), "{text}");
}

/// A mode is set and a picture drawn while it is waited for.
#[test]
fn what_comes_is_waited_for() {
    let mut guest = Guest::new("mbochs-small");
    let picture = Picture::known(320, 200);
    let golden = guest.file("golden.png");
    save(&picture, &golden);
    let device = guest.device();
    let text = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| printed(&["wait", &device, "--image", golden.to_str().unwrap()]));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!waiting.is_finished());
        guest.mode(64, 64, 64);
        std::thread::sleep(Duration::from_millis(150));
        guest.mode(320, 200, 320);
        guest.draw(&Picture::solid(320, 200, [1, 2, 3]), 320, 0);
        std::thread::sleep(Duration::from_millis(150));
        assert!(!waiting.is_finished());
        guest.draw(&picture, 320, 0);
        let drawn = Instant::now();
        let text = waiting.join().unwrap();
        assert!(drawn.elapsed() < Duration::from_secs(5), "{:?}", drawn.elapsed());
        text
    });
    assert!(text.contains("golden.png after "), "{text}");
}

#[test]
fn what_does_not_come_is_told_from_what_came_closest() {
    let mut guest = Guest::new("mbochs-small");
    let [golden, diff] = ["golden.png", "diff.png"].map(|name| guest.file(name));
    let picture = Picture::known(320, 200);
    save(&picture, &golden);
    let device = guest.device();
    let [golden, diff_name] = [&golden, &diff].map(|path| path.to_str().unwrap());
    let wait = |more: &[&str]| {
        let args =
            [&["wait", &device, "--image", golden, "--timeout", "0", "--diff", diff_name], more].concat();
        complaint(&args, 1)
    };
    let line = wait(&[]);
    assert!(line.contains("no picture at any time") && line.contains(golden), "{line}");
    guest.mode(64, 64, 64);
    let line = wait(&[]);
    assert!(line.contains("was 64x64, expected 320x200"), "{line}");
    let line = wait(&["--region", "0,0,100,10"]);
    assert!(line.contains("was 64x64, expected one with 100x10 pixels at 0,0"), "{line}");
    assert!(!diff.exists());

    guest.mode(320, 200, 320);
    let mut other = picture.clone();
    other.pixels[0] = [0xff; 3];
    guest.draw(&other, 320, 0);
    let line = wait(&[]);
    assert!(line.contains("1 of 64000 pixels differ, within 1x1 at 0,0, by at most 255"), "{line}");
    let shown = Picture::from_png(&diff);
    assert_eq!((shown.width, shown.height), (320, 200));
    assert!((0..64000).all(|n| is_marked(&shown, n) == (n == 0)));
}

/// The picture may be of the whole screen or of the region only; what is outside may be anything.
#[test]
fn a_region_is_enough() {
    let guest = Guest::new("mdpy-vga");
    let picture = Picture::known(640, 480);
    let mut shown = picture.clone();
    for (n, pixel) in shown.pixels.iter_mut().enumerate() {
        let inside = (100..164).contains(&(n % 640)) && (50..60).contains(&(n / 640));
        *pixel = if inside { pixel.map(|channel| channel ^ 2) } else { [9, 9, 9] };
    }
    guest.draw(&shown, 640, 0);
    let part: Vec<_> = (50..60).flat_map(|y| picture.pixels[y * 640 + 100..][..64].to_vec()).collect();
    let part = Picture { width: 64, height: 10, pixels: part };
    for (name, golden) in [("whole.png", &picture), ("part.png", &part)] {
        let path = guest.file(name);
        save(golden, &path);
        let path = path.to_str().unwrap();
        let device = guest.device();
        let args = ["wait", &device, "--image", path, "--timeout", "0", "--region", "100,50,64,10"];
        let line = complaint(&args, 1);
        assert!(line.contains("640 of 640 pixels differ, within 64x10 at 100,50, by at most 2"), "{line}");
        printed(&[&args[..], &["--tolerance", "2"]].concat());
    }
    let part = guest.file("part.png");
    let part = part.to_str().unwrap();
    let line = complaint(&["wait", &guest.device(), "--image", part, "--region", "0,0,65,10"], 1);
    assert!(line.contains(part) && line.contains("64x10"), "{line}");
}
