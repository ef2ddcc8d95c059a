//! Walks over our own devices: the same twice, replayable without a difference, and never a panic.

use std::collections::BTreeSet;
use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::process::{Command, Output};

use mdev_sample::abi_fuzz::{RemoteTarget, Sample, Tally, Target, walk};
use mdev_sample::replay::{self, Record};
use mdev_sample::{DeviceType, TYPES};
use vfio_gfx::abi::DeviceIoctl;

#[path = "common/served.rs"]
mod served;

use served::Served;

fn record(device_type: DeviceType, seed: u64, steps: u64, skip: bool) -> (String, Tally) {
    let mut text = String::new();
    let mut target = Sample::new(device_type).unwrap();
    let tally = walk(&mut target, seed, steps, skip, |line| {
        text += &serde_json::to_string(line)?;
        text.push('\n');
        Ok(())
    });
    (text, tally.unwrap())
}

#[test]
fn a_walk_over_ours_replays_on_ours_without_a_difference() {
    for device_type in TYPES {
        for seed in [1, u64::MAX] {
            let name = device_type.name();
            let (text, walked) = record(device_type, seed, 800, false);
            assert_eq!((walked.steps, walked.skipped), (800, 0));
            let replayed = replay::replay(Cursor::new(&text), None, |mismatch| {
                panic!("{name} seed {seed}: {}: {:?}", mismatch.line, mismatch.fields)
            })
            .unwrap();
            assert_eq!((replayed.records, replayed.same), (800, 800), "{name} seed {seed}: {replayed:?}");
        }
    }
}

#[test]
fn a_seed_is_a_recording() {
    let mbochs = DeviceType::find("mbochs-medium").unwrap();
    let (one, _) = record(mbochs, 7, 2000, false);
    assert_eq!(record(mbochs, 7, 2000, false).0, one);
    assert_ne!(record(mbochs, 8, 2000, false).0, one);
}

/// The walk gets somewhere: planes are shown, buffers handed out, video memory mapped; and it is refused in many ways.
#[test]
fn a_walk_reaches_what_is_there() {
    for name in ["mdpy-vga", "mbochs-small", "vgfx-hd"] {
        let (text, tally) = record(DeviceType::find(name).unwrap(), 3, 5000, false);
        let records: Vec<Record> = text.lines().map(|line| Record::parse(line).unwrap()).collect();
        let good =
            |op: &str| records.iter().filter(|r| r.op == op && r.errno.as_deref() == Some("0")).count();
        for op in ["query_gfx_plane", "get_region_info", "get_irq_info", "pread", "pwrite", "mmap"] {
            assert!(good(op) > 10, "{name}: {op}: {}", good(op));
        }
        let drawn = records.iter().filter(|record| {
            let on = |out: &replay::Hex| out.0.get(12..16).is_some_and(|format| *format != [0; 4]);
            record.op == "query_gfx_plane" && record.ret == Some(0) && record.out.as_ref().is_some_and(on)
        });
        assert!(drawn.count() > 10, "{name}");
        if name != "mdpy-vga" {
            assert!(good("get_gfx_dmabuf") > 10, "{name}");
            let ids = records.iter().filter(|r| r.op == "get_gfx_dmabuf" && r.ret == Some(1)).map(|r| r.id);
            assert!(ids.collect::<BTreeSet<_>>().len() >= 3, "{name}");
        }
        for errno in ["EINVAL", "EFAULT", "ENOTTY"] {
            assert!(tally.errors.contains_key(errno), "{name}: {tally}");
        }
    }
}

#[test]
fn known_crashes_can_be_left_out() {
    let mbochs = DeviceType::find("mbochs-medium").unwrap();
    let (text, tally) = record(mbochs, 3, 5000, true);
    assert!(tally.skipped > 10, "{tally}");
    assert_eq!(tally.steps + tally.skipped, 5000);
    let end = 0x3000 + (16 << 20);
    let mut handed_out = BTreeSet::new();
    for (seq, line) in (0..).zip(text.lines()) {
        let record = Record::parse(line).unwrap();
        assert_eq!(record.seq, seq);
        match record.op.as_str() {
            "get_gfx_dmabuf" if record.ret == Some(1) => {
                assert!(handed_out.insert(record.id.unwrap()), "handed out twice: {line}");
            }
            "pread" | "pwrite" => {
                let len = record.len.or(record.data.map(|data| data.0.len())).unwrap() as u64;
                let offset = record.offset.unwrap();
                assert!(offset >= end || offset + len <= end - 0x2000, "{line}");
            }
            _ => {}
        }
    }
    assert!(handed_out.len() > 3);
}

fn abi_fuzz(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mdev-sample"))
        .arg("abi-fuzz")
        .args(args)
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

#[track_caller]
fn complaint(args: &[&str], status: i32) -> String {
    let output = abi_fuzz(args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    assert!(output.stdout.is_empty());
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

#[test]
fn the_program_records_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("walk.jsonl");
    let run = |seed: &str| {
        let to = path.to_str().unwrap();
        let output = abi_fuzz(&["sample:vgfx-hd", "--seed", seed, "--steps", "300", "--record", to]);
        assert!(output.status.success());
        (String::from_utf8(output.stdout).unwrap(), fs::read_to_string(&path).unwrap())
    };
    let (said, one) = run("5");
    assert!(said.starts_with("sample:vgfx-hd seed 5: 300 steps (") && said.lines().count() == 1, "{said}");
    assert_eq!((one.lines().count(), run("5").1 == one, run("6").1 == one), (300, true, false));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let replayed = Command::new(env!("CARGO_BIN_EXE_mdev-sample")).arg("replay").arg(&path).output().unwrap();
    let said = String::from_utf8(replayed.stdout).unwrap();
    assert!(replayed.status.success(), "{said}");
    assert!(said.ends_with("total: 300 records, 300 same, 0 deviations, 0 mismatches\n"), "{said}");
}

/// One device, whoever asks: through a socket it answers as in this process, byte for byte.
#[test]
fn a_walk_over_a_socket_is_the_walk_in_this_process() {
    for device_type in TYPES {
        let served = Served::new(device_type);
        let mut target = served.attach();
        let (here, _) = record(device_type, 11, 1500, false);
        let mut here = here.lines();
        let tally = walk(&mut target, 11, 1500, false, |line| {
            assert_eq!(serde_json::to_string(line)?, here.next().unwrap());
            Ok(())
        });
        assert_eq!(tally.unwrap().steps, 1500);
    }
}

#[test]
fn a_walk_leaves_a_served_device_usable() {
    for name in ["mbochs-medium", "vgfx-hd", "mdpy-vga"] {
        let served = Served::new(DeviceType::find(name).unwrap());
        let look = |served: &Served| {
            let mut target = RemoteTarget::connect(&served.path).unwrap();
            let mut config = [0; 64];
            target.pread(0, &mut config).unwrap();
            let (mut edid, mut registers) = (vec![0; 0x1000], vec![0; 0x200]);
            if name != "mdpy-vga" {
                target.pread(0x2000, &mut edid).unwrap();
                target.pread(0x1400, &mut registers).unwrap();
            }
            (config, edid[..0x880].to_vec(), registers)
        };
        let before = look(&served);
        for seed in [1, 2] {
            let mut target = RemoteTarget::connect(&served.path).unwrap();
            assert_eq!(target.name(), "device");
            let tally = walk(&mut target, seed, 2000, false, |_| Ok(())).unwrap();
            assert!(tally.errors.contains_key("EFAULT"), "{tally}");
            drop(target);
            assert!(look(&served) == before, "{name} seed {seed}");
        }
        if name != "mdpy-vga" {
            let mut target = RemoteTarget::connect(&served.path).unwrap();
            for (register, value) in [(1u64, 640u16), (2, 480), (3, 32), (4, 0x41)] {
                target.pwrite(0x1500 + 2 * register, &value.to_le_bytes()).unwrap();
            }
            let mut arg = [0u8; 64];
            (arg[0], arg[4], arg[8]) = (64, 2, 1);
            target.ioctl(DeviceIoctl::QueryGfxPlane.raw(), &mut arg).unwrap();
            assert_eq!(arg[24..28], 640u32.to_le_bytes());
            target.finish().unwrap();
        }
    }
}

#[test]
fn a_served_device_is_walked_by_the_program() {
    let served = Served::new(DeviceType::find("vgfx-qhd").unwrap());
    let device = format!("vfio-user:{}", served.path.display());
    let args = [device.as_str(), "--seed", "4", "--steps", "500"];
    let output = abi_fuzz(&args);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        said.starts_with(&format!("{device} seed 4: 500 steps (")) && said.lines().count() == 1,
        "{said}"
    );
    let vmm = RemoteTarget::connect(&served.path).unwrap();
    let said = complaint(&args, 1);
    assert!(said.contains("a VMM is attached"), "{said}");
    drop(vmm);
    let path = served.path.clone();
    drop(served);
    let said = complaint(&args, 1);
    assert!(said.contains("cannot connect") && said.contains(path.to_str().unwrap()), "{said}");
}

#[test]
fn a_device_that_goes_away_ends_the_walk() {
    let served = Served::new(DeviceType::find("mbochs-small").unwrap());
    let mut target = RemoteTarget::connect(&served.path).unwrap();
    let mut served = Some(served);
    let mut made = 0;
    let result = walk(&mut target, 1, 1000, false, |_| {
        made += 1;
        if made == 100 {
            served = None;
        }
        Ok(())
    });
    let error = result.unwrap_err().to_string();
    assert!(error.contains("closed the connection"), "{error}");
    assert!((100..120).contains(&made), "{made}");
}

#[test]
fn bad_usage_is_refused_in_one_line() {
    for (args, what) in [
        (&["--seed", "1", "--steps", "1"][..], "DEVICE"),
        (&["sample:mdpy-hd", "--steps", "1"], "--seed"),
        (&["sample:mdpy-hd", "--seed", "1"], "--steps"),
        (&["sample:mdpy-hd", "--seed", "-1", "--steps", "1"], "-1"),
        (&["sample:mdpy-hd", "--seed", "x", "--steps", "1"], "x"),
        (&["sample:tv", "--seed", "1", "--steps", "1"], "unknown device type"),
        (&["/dev/vfio/1", "--seed", "1", "--steps", "1"], "expected sample:TYPE"),
        (&["vfio-user:", "--seed", "1", "--steps", "1"], "expected sample:TYPE"),
    ] {
        let said = complaint(args, 2);
        assert!(said.contains(what), "{said}");
    }
}

#[test]
fn failures_are_one_line_and_leave_nothing_behind() {
    let said = complaint(&["vfio:/sys/bus/mdev/devices/none", "--seed", "1", "--steps", "1"], 1);
    assert!(said.contains("throwaway VM") && said.contains("--yes-this-may-crash-the-kernel"), "{said}");
    let sure = "--yes-this-may-crash-the-kernel";
    let said = complaint(&["vfio:/sys/bus/mdev/devices/none", "--seed", "1", "--steps", "1", sure], 1);
    assert!(said.contains("/sys/bus/mdev/devices/none"), "{said}");
    let dir = tempfile::tempdir().unwrap();
    let beyond = dir.path().join("none/walk.jsonl");
    let args = ["sample:mdpy-vga", "--seed", "1", "--steps", "1", "--record"];
    let said = complaint(&[&args[..], &[beyond.to_str().unwrap()]].concat(), 1);
    assert!(said.contains("walk.jsonl"), "{said}");
    let said = complaint(&[&args[..], &[dir.path().to_str().unwrap()]].concat(), 1);
    let entries = |path: &Path| fs::read_dir(path).unwrap().count();
    assert_eq!(entries(dir.path()), 0, "{said}");
    let part = format!("{}.", dir.path().file_name().unwrap().to_str().unwrap());
    let beside = fs::read_dir(dir.path().parent().unwrap()).unwrap();
    assert!(!beside.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with(&part)));
}
