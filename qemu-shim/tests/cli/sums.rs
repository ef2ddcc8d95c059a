//! `qemu-shim crc`

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use vfio_gfx::device::Interfaces;

use crate::fixture::{Guest, Picture, complaint, crc32, printed, vkms_crc};

/// Sums of solid screens by the kernel's algorithm, computed independently of this project's code: black, white, red,
/// green, blue, grey.
const SOLID: [(u16, u16, [&str; 6]); 3] = [
    (640, 480, ["e54b7895", "27c666ba", "47461692", "4a1ea984", "2a9ed9ac", "fd9376a0"]),
    (1024, 768, ["4c4126bf", "9ba9237a", "78189987", "f2bebf54", "110f05a9", "f0e1813f"]),
    (1920, 1080, ["1dc99484", "f10994b7", "28553989", "c1f724fd", "18ab89c3", "b6ac7faa"]),
];

#[test]
fn solid_screens_have_the_kernels_sums() {
    let colours = [[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [0x80, 0x80, 0x80]];
    let mut guest = Guest::new("mbochs-medium");
    for (width, height, sums) in SOLID {
        guest.mode(width, height, width);
        // All of the small one, and of the others one that each pixel counts in.
        let skip = if width > 640 { 5 } else { 0 };
        for (colour, sum) in colours.into_iter().zip(sums).skip(skip) {
            guest.draw(&Picture::solid(width.into(), height.into(), colour), width.into(), 0);
            assert_eq!(printed(&["crc", &guest.device()]), format!("{sum}\n"), "{width}x{height} {colour:?}");
        }
    }
}

/// vkms sums what is seen, raw what is in memory: the byte that is no colour counts, padding between rows does not.
#[test]
fn any_picture_has_the_sum_that_its_bytes_have() {
    for interfaces in [Interfaces::DMABUF, Interfaces::REGION] {
        let mut guest = Guest::offering("mbochs-medium", Some(interfaces));
        guest.mode(642, 400, 700);
        let picture = Picture::known(642, 400);
        guest.draw(&picture, 700, 0);
        let vkms = vkms_crc(&picture.pixels);
        assert_eq!(printed(&["crc", &guest.device(), "--algorithm", "vkms"]), format!("{vkms:08x}\n"));
        let raw = !crc32(!0, picture.pixels.iter().flat_map(|&[r, g, b]| [b, g, r, 0xa5]));
        assert_eq!(printed(&["crc", &guest.device(), "--algorithm", "raw"]), format!("{raw:08x}\n"));
    }
}

#[test]
fn samples_have_sums_too() {
    let gradient =
        (0..480u32).flat_map(|y| std::iter::repeat_n([u8::try_from(y * 255 / 480).unwrap(); 3], 640));
    let gradient: Vec<_> = gradient.collect();
    assert_eq!(printed(&["crc", "sample:mdpy-vga"]), format!("{:08x}\n", vkms_crc(&gradient)));
    let raw = !crc32(!0, gradient.iter().flat_map(|&[grey, ..]| [grey; 4]));
    assert_eq!(printed(&["crc", "sample:mdpy-vga", "--algorithm", "raw"]), format!("{raw:08x}\n"));
}

/// Runs while the guest shows one colour after another.
fn watch(args: &[&str]) -> String {
    let mut guest = Guest::new("mbochs-small");
    guest.mode(64, 64, 64);
    let done = AtomicBool::new(false);
    let device = guest.device();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in (0..=255).cycle() {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                guest.draw(&Picture::solid(64, 64, [n, 255 - n, 7]), 64, 0);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let args = [&["crc", &device], args].concat();
        let text = std::panic::catch_unwind(|| printed(&args));
        done.store(true, Ordering::Relaxed);
        text.unwrap()
    })
}

#[test]
fn frames_are_distinct_lines_of_json() {
    for algorithm in ["vkms", "raw"] {
        let text = watch(&["--frames", "12", "--json", "--algorithm", algorithm]);
        let mut last: Option<(i64, String)> = None;
        for (seq, line) in text.lines().enumerate() {
            assert!(line.starts_with(&format!("{{\"seq\":{seq},\"time_ns\":")), "{line}");
            let (_, tail) = line.split_once(",\"width\":64,\"height\":64,\"crc\":\"").expect(line);
            let crc = tail.strip_suffix("\"}").expect(line);
            assert!(crc.len() == 8 && crc.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')), "{line}");
            let object: Value = serde_json::from_str(line).unwrap();
            let now = (object["time_ns"].as_i64().unwrap(), crc.to_owned());
            if let Some(last) = &last {
                assert!(now.0 > last.0 && now.1 != last.1, "{last:?} and {now:?}");
            }
            last = Some(now);
        }
        assert_eq!(text.lines().count(), 12);
    }
}

#[test]
fn frames_are_lines_of_text() {
    let text = watch(&["--frames", "5"]);
    assert_eq!(text.lines().count(), 5);
    // No two colours of the cycle have the same sum, and five frames are far less than a cycle.
    assert_eq!(text.lines().collect::<HashSet<_>>().len(), 5);
}

#[test]
fn a_display_that_is_off_has_no_sum() {
    let mut guest = Guest::new("mbochs-small");
    for algorithm in ["vkms", "raw"] {
        let line = complaint(&["crc", &guest.device(), "--algorithm", algorithm], 1);
        assert!(line.contains(&guest.device()) && line.contains("off"), "{line}");
    }
    // With more frames to come it waits for the display.
    let device = guest.device();
    let text = std::thread::scope(|scope| {
        let watching = scope.spawn(|| printed(&["crc", &device, "--frames", "2"]));
        for n in 0u8.. {
            std::thread::sleep(Duration::from_millis(50));
            guest.mode(64, 64, 64);
            guest.draw(&Picture::solid(64, 64, [n, 1, 2]), 64, 0);
            if watching.is_finished() {
                break;
            }
        }
        watching.join().unwrap()
    });
    assert_eq!(text.lines().count(), 2);
}
