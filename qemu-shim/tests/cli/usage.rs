//! Bad command lines, help, and devices that cannot be reached.

use std::fs::File;
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use crate::fixture::{Guest, complaint, printed, program};

#[test]
fn bad_command_lines_are_status_2_and_one_line() {
    for (args, culprit) in [
        (&[][..], "no command"),
        (&["frobnicate"], "frobnicate"),
        (&["info"], "DEVICE"),
        (&["info", "mdpy-vga"], "mdpy-vga"),
        (&["info", "sample:mdpy"], "mdpy-vga, mdpy-xga, mdpy-hd"),
        (&["info", "sample:"], "there are mdpy-vga"),
        (&["info", "vfio-user:"], "vfio-user:"),
        (&["info", "vfio:"], "vfio:"),
        (&["info", "sample:mdpy-vga", "sample:mdpy-vga"], "sample:mdpy-vga"),
        (&["info", "sample:mdpy-vga", "--yaml"], "--yaml"),
        (&["screendump", "sample:mdpy-vga"], "FILE"),
        (&["screendump", "-o", "x.png"], "DEVICE"),
        (&["screendump", "sample:mdpy-vga", "-o", "x.jpg"], "x.jpg"),
        (&["screendump", "sample:mdpy-vga", "-o", "png"], "png"),
        (&["screendump", "sample:mdpy-vga", "-o", "x.png", "--timeout", "3"], "--wait-stable"),
        (&["screendump", "sample:mdpy-vga", "-o", "x.png", "--wait-stable", "-1"], "-1"),
        (&["crc"], "DEVICE"),
        (&["crc", "sample:mdpy-vga", "--algorithm", "md5"], "vkms, raw"),
        (&["crc", "sample:mdpy-vga", "--frames", "many"], "many"),
        (&["crc", "sample:mdpy-vga", "--frames", "18446744073709551616"], "18446744073709551616"),
        (&["demo", "--seconds", "0"], "--seconds"),
        (&["demo", "somewhere"], "somewhere"),
    ] {
        let line = complaint(args, 2);
        assert!(line.contains(culprit) && line.contains("--help"), "{args:?}: {line}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for args in
        [&["--help"][..], &["help", "crc"], &["--version"], &["info", "--help"], &["screendump", "--help"]]
    {
        assert!(!printed(args).is_empty(), "{args:?}");
    }
}

/// Each command names the device that it did not find, or what is wrong with it.
#[test]
fn devices_that_cannot_be_reached_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (missing, file, stale, closing) = (place("missing"), place("file"), place("stale"), place("closing"));
    File::create(&file).unwrap();
    drop(UnixListener::bind(&stale).unwrap());
    let listener = UnixListener::bind(&closing).unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let picture = place("x.png");
    for path in [missing, file, stale] {
        let device = format!("vfio-user:{path}");
        for args in [
            &["info", &device][..],
            &["info", &device, "--json"],
            &["crc", &device],
            &["screendump", &device, "-o", &picture],
            &["screendump", &device, "-o", &picture, "--wait-stable", "1"],
        ] {
            let line = complaint(args, 1);
            assert!(line.contains(&path) && line.contains("cannot connect"), "{args:?}: {line}");
        }
    }
    let line = complaint(&["info", &format!("vfio-user:{closing}")], 1);
    assert!(line.contains("closed the connection"), "{line}");
    let line = complaint(&["info", "vfio:/nonexistent/device"], 1);
    assert!(line.contains("/nonexistent/device"), "{line}");
    assert!(!std::path::Path::new(&picture).exists());
}

/// `qemu-shim ... | head`.
#[test]
fn a_closed_stdout_is_no_panic() {
    let guest = Guest::new("mdpy-vga");
    let device = guest.device();
    let out = guest.file("demo");
    for args in [
        &["info", &device][..],
        &["info", &device, "--json"],
        &["crc", &device],
        &["crc", &device, "--json"],
        &["demo", "--seconds", "1", "--out", out.to_str().unwrap()],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = program().args(args).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && stderr.is_empty(), "{args:?}: {} {stderr}", output.status);
    }
}

/// A device that goes away while it is watched.
#[test]
fn a_device_that_vanishes_is_an_error() {
    let guest = Guest::new("mdpy-vga");
    let mut command = program();
    command.args(["crc", &guest.device(), "--frames", "1000000"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The first line says that it is attached.
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut String::new()).unwrap();
    drop(guest);
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.lines().count() == 1 && stderr.contains("closed the connection"), "{stderr}");
}
