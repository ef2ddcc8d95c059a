//! `qemu-shim record`: every picture that was shown, when it was, and as it was.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::fixture::{Guest, Picture, complaint, program};

/// What takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The last chunk of a PNG picture: its name and checksum.
const END: &[u8] = b"IEND\xae\x42\x60\x82";

/// The PNG pictures in a file, in order, but for one at its end that is not whole yet. They say where they end, and Matroska does
/// not change them.
fn pictures(path: &Path) -> Vec<Picture> {
    let Ok(bytes) = fs::read(path) else { return Vec::new() };
    let start = b"\x89PNG\r\n\x1a\n";
    let starts = bytes.windows(8).enumerate().filter(|(_, found)| found == start).map(|(at, _)| at);
    let pictures = starts.map_while(|start| {
        let length = bytes[start..].windows(END.len()).position(|found| found == END)? + END.len();
        let file = path.with_extension("png");
        fs::write(&file, &bytes[start..start + length]).unwrap();
        Some(Picture::from_png(&file))
    });
    pictures.collect()
}

/// Waits until the last picture in a file is as it should be.
#[track_caller]
fn wait_for(path: &Path, is_right: impl Fn(&Picture) -> bool) {
    let start = Instant::now();
    while !pictures(path).last().is_some_and(&is_right) {
        assert!(start.elapsed() < PATIENCE, "the picture does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A recording that has begun.
struct Recording {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Recording {
    fn begin(guest: &Guest, path: &Path, more: &[&str]) -> Self {
        let mut command = program();
        command.args(["record", &guest.device(), "-o", path.to_str().unwrap()]).args(more);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert!(line.starts_with("recording ") && line.contains(path.to_str().unwrap()), "{line}");
        Self { child, stdout }
    }

    /// What it prints until it ends, and how it ends: status and stderr.
    fn end(mut self) -> (String, Option<i32>, String) {
        let mut text = String::new();
        self.stdout.read_to_string(&mut text).unwrap();
        let output = self.child.wait_with_output().unwrap();
        (text, output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    fn interrupt(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

#[test]
fn every_picture_and_nothing_else() {
    for signal in [Signal::INT, Signal::TERM] {
        let guest = Guest::new("mdpy-vga");
        let first = Picture::known(640, 480);
        let second = Picture::solid(640, 480, [1, 200, 3]);
        guest.draw(&first, 640, 0);
        let path = guest.file("x.mkv");
        let start = Instant::now();
        let recording = Recording::begin(&guest, &path, &[]);
        wait_for(&path, |picture| *picture == first);
        std::thread::sleep(Duration::from_millis(500));
        guest.draw(&second, 640, 0);
        wait_for(&path, |picture| *picture == second);
        recording.interrupt(signal);
        let (text, status, stderr) = recording.end();
        assert_eq!((status, &*stderr), (Some(0), ""), "quiet where stderr is no terminal");
        let shown = pictures(&path);
        // A picture that was seen half drawn is one too.
        assert!(shown.first() == Some(&first) && shown.last() == Some(&second));
        let size = fs::metadata(&path).unwrap().len();
        let numbers: Vec<&str> = text.trim_end().split(", ").collect();
        assert_eq!(numbers[0], format!("{} pictures", shown.len()), "{text}");
        assert_eq!(numbers[2], format!("{size} bytes"), "{text}");
        let seconds: f64 = numbers[1].strip_suffix(" s").unwrap().parse().unwrap();
        assert!((0.5..start.elapsed().as_secs_f64() + 0.1).contains(&seconds), "{text}");
    }
}

/// Off is black; another mode is another file, also when it is an earlier one.
#[test]
fn modes_and_a_screen_that_goes_off() {
    let mut guest = Guest::new("mbochs-small");
    let path = guest.file("x.mkv");
    let recording = Recording::begin(&guest, &path, &[]);
    let small = Picture::known(64, 64);
    let large = Picture::known(320, 200);
    let black = |picture: &Picture| picture.pixels.iter().all(|pixel| *pixel == [0; 3]);
    guest.mode(64, 64, 64);
    guest.draw(&small, 64, 0);
    wait_for(&path, |picture| *picture == small);
    guest.register(4, 0);
    wait_for(&path, black);
    guest.mode(320, 200, 320);
    guest.draw(&large, 320, 0);
    wait_for(&guest.file("x.2.mkv"), |picture| *picture == large);
    guest.mode(64, 64, 64);
    guest.draw(&small, 64, 0);
    wait_for(&guest.file("x.3.mkv"), |picture| *picture == small);
    recording.interrupt(Signal::INT);
    let (text, status, stderr) = recording.end();
    assert_eq!((status, &*stderr), (Some(0), ""));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(
        lines[0].contains("x.2.mkv") && lines[1].contains("x.3.mkv") && lines[2].contains("3 files"),
        "{text}"
    );
    let [first, second, third] = ["x.mkv", "x.2.mkv", "x.3.mkv"].map(|name| pictures(&guest.file(name)));
    assert!(first.contains(&small) && black(first.last().unwrap()), "{} pictures", first.len());
    assert!(second.contains(&large) && second.iter().all(|picture| picture.width == 320));
    assert_eq!(third.last(), Some(&small));
}

#[test]
fn a_killed_recorder_leaves_what_it_saw() {
    let guest = Guest::new("mdpy-vga");
    let picture = Picture::known(640, 480);
    guest.draw(&picture, 640, 0);
    let path = guest.file("x.mkv");
    let recording = Recording::begin(&guest, &path, &[]);
    wait_for(&path, |recorded| *recorded == picture);
    recording.interrupt(Signal::KILL);
    recording.end();
    assert_eq!(pictures(&path), [picture]);
}

/// The device goes: the file is made whole all the same, and the failure told.
#[test]
fn a_device_that_vanishes() {
    let guest = Guest::new("mdpy-vga");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.mkv");
    let recording = Recording::begin(&guest, &path, &[]);
    wait_for(&path, |_| true);
    drop(guest);
    let (text, status, stderr) = recording.end();
    assert_eq!(status, Some(1), "{stderr}");
    assert!(stderr.lines().count() == 1 && stderr.contains("closed the connection"), "{stderr}");
    assert!(text.starts_with("1 picture, "), "{text}");
    let bytes = fs::read(&path).unwrap();
    assert!(bytes.windows(4).any(|id| id == [0x1c, 0x53, 0xbb, 0x6b]), "it has an index");
}

#[test]
fn a_limit_of_time_and_one_of_pictures() {
    let guest = Guest::new("mdpy-vga");
    let path = guest.file("x.mkv");
    let recording = Recording::begin(&guest, &path, &["--seconds", "1", "--max-fps", "4"]);
    std::thread::scope(|scope| {
        let drawing = scope.spawn(|| {
            for n in 0..40 {
                guest.draw(&Picture::solid(640, 480, [n, 0, 0]), 640, 0);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let (_, status, stderr) = recording.end();
        assert_eq!((status, &*stderr), (Some(0), ""));
        drawing.join().unwrap();
    });
    let shown = pictures(&path).len();
    assert!((1..=5).contains(&shown), "{shown} pictures");
}

#[test]
fn nothing_to_record_and_no_place() {
    let guest = Guest::new("mbochs-small");
    let path = guest.file("x.mkv");
    let output = program()
        .args(["record", &guest.device(), "--seconds", "1", "-o", path.to_str().unwrap()])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.lines().count() == 1 && stderr.contains("showed nothing"), "{stderr}");
    assert!(!path.exists());
    let line = complaint(&["record", &guest.device(), "-o", "/nonexistent/x.mkv"], 1);
    assert!(line.contains("/nonexistent/x.mkv"), "{line}");
    let line = complaint(&["record", &guest.device(), "-o", "x.mp4"], 2);
    assert!(line.contains("x.mp4") && line.contains(".mkv"), "{line}");
}
