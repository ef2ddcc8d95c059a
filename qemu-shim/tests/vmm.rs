//! The example VMM: what its console saw of what its guest drew, and the picture it left.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::Command;

use qemu_shim::image::read_png;

/// `cargo test` builds the examples beside the tests; where single tests are chosen it does not.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples/vmm");
    assert!(path.exists(), "{}: first run cargo build -p qemu-shim --example vmm", path.display());
    path
}

#[test]
fn the_example_shows_what_its_guest_draws() {
    let dir = tempfile::tempdir().unwrap();
    let png = dir.path().join("vmm.png");
    let output = Command::new(example()).arg(&png).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    if text.starts_with("SKIPPED") {
        return print!("{text}");
    }
    // Pages of the squares: 64 rows of 2560 bytes are 40 pages apart from first to last, each touched. Squares are told in
    // tiles of 32x32: the first does not begin on one.
    let expected = [
        (1, "at 0x0, Changed", Some(300), &["640x480 at 0,0"][..]),
        (2, "at 0x0, Changed", Some(40), &["64x96 at 288,192"]),
        (3, "at 0x0, Same", Some(0), &[]),
        (4, "at 0x0, Same", Some(300), &[]),
        (5, "at 0x12c000, Changed", Some(0), &["640x480 at 0,0"]),
        (6, "at 0x12c000, Changed", Some(40), &["64x64 at 64,32"]),
        // The video memory was moved: its log began anew, and everything was compared.
        (7, "at 0x12c000, Changed", None, &["64x64 at 512,384"]),
    ];
    assert_eq!(text.lines().count(), expected.len(), "{text}");
    for (line, (number, what, pages, rects)) in text.lines().zip(expected) {
        let mut parts = line.split("; ");
        assert_eq!(parts.next(), Some(format!("picture {number}: 640x480 {what}").as_str()));
        let written = parts.next().and_then(|part| part.strip_suffix(" pages written")).unwrap();
        let written: u32 = written.parse().unwrap();
        assert!(pages.is_none_or(|pages| written.abs_diff(pages) <= 1), "{line}");
        assert_eq!(parts.collect::<Vec<_>>(), rects);
    }
    let frame = read_png(BufReader::new(File::open(png).unwrap())).unwrap();
    assert_eq!((frame.width(), frame.height()), (640, 480));
    for y in 0..480 {
        for (x, pixel) in (0..).zip(frame.row(y).unwrap()) {
            let is_in = |left: u32, top: u32| (left..left + 64).contains(&x) && (top..top + 64).contains(&y);
            let expected = match () {
                () if is_in(64, 32) => 0x00ff_c000,
                () if is_in(512, 384) => 0x00c0_2020,
                () => 0x0020_6020,
            };
            assert_eq!(*pixel, expected, "at {x},{y}");
        }
    }
}
