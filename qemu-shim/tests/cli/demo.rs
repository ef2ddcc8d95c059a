//! `qemu-shim demo`: the whole path, with nothing but this machine.

use std::fs;

use crate::fixture::{Picture, complaint, printed, vkms_crc};

#[test]
fn it_leaves_pictures_and_their_sums() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("new/place");
    let text = printed(&["demo", "--seconds", "1", "--out", out.to_str().unwrap()]);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains(out.to_str().unwrap()), "{text}");
    assert!(text.contains("vCPU"), "it says who drew: {text}");

    let sums = fs::read_to_string(out.join("checksums.txt")).unwrap();
    let mut last = String::new();
    for line in sums.lines() {
        let [name, size, sum] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let picture = Picture::from_png(&out.join(name));
        assert_eq!(size, format!("{}x{}", picture.width, picture.height), "{line}");
        assert_eq!(sum, format!("{:08x}", vkms_crc(&picture.pixels)), "{line}");
        assert_ne!(last, format!("{size} {sum}"), "a line per distinct frame");
        last = format!("{size} {sum}");
    }
    let pictures = fs::read_dir(&out).unwrap().count() - 1;
    assert_eq!(pictures, sums.lines().count(), "nothing but the pictures and their sums");
    // How many depends on the machine; where it is busy, one.
    assert!(pictures >= 1, "{sums}");
    assert!(text.contains(&format!("{pictures} distinct")), "{text}");
}

#[test]
fn places_that_cannot_be_written_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "mine").unwrap();
    for out in [file.join("below"), file.clone()] {
        let out = out.to_str().unwrap();
        let line = complaint(&["demo", "--seconds", "1", "--out", out], 1);
        assert!(line.contains(out), "{line}");
    }
    assert_eq!(fs::read(file).unwrap(), b"mine");
}
