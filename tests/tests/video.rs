//! What `qemu-shim record` writes, opened by FFmpeg: a whole boot of a guest, and its last picture.
//!
//! Needs FFmpeg in the lab; without it, or without a lab, this is skipped.

use std::{
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use rustix::process::Signal;
use vfio_gfx_tests::{
    eventually,
    guest::{Config, Guest},
    lab::{Kernel, Lab},
    picture,
    process::{Running, run},
    programs::{Server, artifacts},
    screen::Screen,
    skip,
};

/// How long a recorder may take to begin or to end, and FFmpeg for a recording.
const PATIENCE: Duration = Duration::from_secs(120);
/// The guest's mode.
const SIZE: (u32, u32) = (1024, 768);

/// The lab, if FFmpeg is in it.
fn lab_with_ffmpeg(test: &str) -> Option<Lab> {
    let lab = Lab::open().and_then(|lab| {
        let there =
            ["ffmpeg", "ffprobe"].iter().all(|name| lab.viewers().join("usr/bin").join(name).exists());
        if there { Ok(lab) } else { Err("no ffmpeg in the lab".into()) }
    });
    lab.inspect_err(|why| skip(test, why)).ok()
}

/// A program of FFmpeg, which finds the folder of a file as its own `/tmp`, and what it calls the file.
fn of_ffmpeg(lab: &Lab, name: &str, path: &Path) -> (Command, PathBuf) {
    let (dir, file) = (path.parent().expect("a folder"), path.file_name().expect("a file"));
    (lab.viewer(dir, name), Path::new("/tmp").join(file))
}

/// What a program says, which must not complain.
#[track_caller]
fn said(name: &str, command: &Command) -> String {
    let finished = run(name, command, "", PATIENCE);
    assert!(finished.status.success() && finished.stderr.is_empty(), "{name}: {}", finished.stderr);
    finished.stdout
}

/// Times of the pictures of a recording, in milliseconds, and size and length of it.
#[track_caller]
fn probe(lab: &Lab, path: &Path) -> (Vec<u64>, serde_json::Value) {
    let (mut ffprobe, inside) = of_ffmpeg(lab, "ffprobe", path);
    ffprobe
        .args(["-v", "warning", "-of", "json", "-show_format", "-show_streams", "-show_packets"])
        .arg(inside);
    let text = said("ffprobe", &ffprobe);
    let found: serde_json::Value = serde_json::from_str(&text).expect("ffprobe prints JSON");
    let packets = found["packets"].as_array().expect("packets");
    let times = packets.iter().map(|packet| packet["pts"].as_u64().expect("a time")).collect();
    (times, found)
}

/// Every picture of a recording as red, green and blue, as FFmpeg decodes it.
#[track_caller]
fn decode(lab: &Lab, path: &Path) -> Vec<Vec<u8>> {
    let raw = path.with_extension("rgb");
    let (mut ffmpeg, inside) = of_ffmpeg(lab, "ffmpeg", path);
    ffmpeg.args(["-v", "warning", "-nostdin", "-y", "-i"]).arg(&inside);
    ffmpeg.args(["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24"]);
    ffmpeg.arg(inside.with_extension("rgb"));
    said("ffmpeg", &ffmpeg);
    let bytes = std::fs::read(&raw).expect("what ffmpeg wrote");
    let _ = std::fs::remove_file(&raw);
    bytes.chunks(SIZE.0 as usize * SIZE.1 as usize * 3).map(<[u8]>::to_vec).collect()
}

/// Has the guest show its picture, and waits until a screenshot has it.
#[track_caller]
fn shown(server: &Server, guest: &mut Guest, drawn: &[u8]) -> Screen {
    guest.show_picture();
    eventually("the picture does not appear", || {
        let screen = server.screenshot("recorded")?;
        screen.expect_xrgb8888(SIZE.0, SIZE.1, drawn).map(|()| screen)
    })
}

#[test]
fn ffmpeg_plays_a_recorded_boot() {
    let Some(lab) = lab_with_ffmpeg("ffmpeg_plays_a_recorded_boot") else { return };
    let server = Server::start("mbochs-medium");
    let path = artifacts().join("boot.mkv");
    let file = path.to_str().expect("the target directory is UTF-8");
    let record = server.console("record", &["-o", file]);
    let mut recorder = Running::start("qemu-shim record", &record);
    recorder.expect_line("recording ", PATIENCE);

    let drawn = picture::xrgb8888(SIZE.0, SIZE.1);
    let config = Config {
        kernel: Kernel::Linux612,
        driver: "bochs",
        device: &server.qemu_device(""),
        picture: &drawn,
    };
    let mut guest = Guest::boot(&lab, config);
    shown(&server, &mut guest, &drawn);
    guest.show_text();
    // The recorder looks at least ten times a second.
    thread::sleep(Duration::from_secs(1));
    let screen = shown(&server, &mut guest, &drawn);
    thread::sleep(Duration::from_secs(1));
    recorder.signal(Signal::INT);
    let summary = recorder.expect_line(" pictures, ", PATIENCE);
    assert!(recorder.wait(PATIENCE).success(), "{summary}");

    let (times, probed) = probe(&lab, &path);
    assert!(
        summary.starts_with(&format!("{} pictures, ", times.len())),
        "{summary}: {} packets",
        times.len()
    );
    assert!(times.len() > 2 && times[0] == 0 && times.is_sorted_by(|a, b| a < b), "{times:?}");
    let stream = &probed["streams"][0];
    assert_eq!([&stream["codec_name"], &stream["pix_fmt"]], ["png", "rgb24"]);
    assert_eq!([&stream["width"], &stream["height"]], [SIZE.0, SIZE.1]);
    let length: f64 = probed["format"]["duration"].as_str().expect("a length").parse().expect("a number");
    assert!(length * 1000.0 > *times.last().expect("pictures") as f64, "{length} s");

    let pictures = decode(&lab, &path);
    assert_eq!(pictures.len(), times.len());
    assert!(pictures.last() == Some(&screen.rgb), "the last picture is what the screenshot has");
    assert!(pictures.windows(2).all(|pair| pair[0] != pair[1]), "each differs from the one before it");

    // Cut off anywhere, as a killed recorder leaves it: what is whole can be played.
    let bytes = std::fs::read(&path).expect("the recording");
    let cut = path.with_extension("cut.mkv");
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).expect("a place for half of it");
    let (mut ffmpeg, inside) = of_ffmpeg(&lab, "ffmpeg", &cut);
    ffmpeg.args(["-v", "quiet", "-nostdin", "-i"]).arg(inside);
    ffmpeg.args(["-fps_mode", "passthrough", "-f", "framemd5", "-"]);
    let sums = run("ffmpeg", &ffmpeg, "", PATIENCE).success();
    let _ = std::fs::remove_file(&cut);
    let sums = sums.unwrap_or_else(|e| panic!("half a recording: {e}"));
    let whole = sums.lines().filter(|line| !line.starts_with('#')).count();
    assert!(whole > 0 && whole < times.len(), "{whole} of {} pictures", times.len());
    guest.power_off();
}
