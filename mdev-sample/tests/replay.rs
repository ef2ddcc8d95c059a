//! Recorded kernel behaviour: every recording agrees, and one falsified byte is noticed.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;

use mdev_sample::replay::{self, DEVIATIONS, Tally};
use serde_json::Value;

fn recordings() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/recordings");
    let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn run(recording: &str) -> (Tally, Vec<u64>) {
    let mut mismatches = Vec::new();
    let tally = replay::replay(Cursor::new(recording), None, |mismatch| {
        mismatches.push(mismatch.record.seq);
        Ok(())
    });
    (tally.unwrap(), mismatches)
}

#[test]
fn every_recording_agrees_and_every_deviation_is_met() {
    let mut total = Tally::default();
    for path in recordings() {
        let (tally, mismatches) = run(&fs::read_to_string(&path).unwrap());
        assert_eq!(mismatches, [0; 0], "{}", path.display());
        total.add(&tally);
    }
    assert_eq!((total.records, total.mismatching), (7050, 0));
    for deviation in DEVIATIONS {
        assert!(
            total.deviations.contains_key(deviation.id),
            "{} is never met: a rule too many",
            deviation.id
        );
    }
}

/// Places in a record where the kernel's answer can be falsified: (field, index of a hexadecimal digit).
fn falsifiable(record: &Value) -> Vec<(&'static str, usize)> {
    let op = record["op"].as_str().unwrap();
    let digits = |field: &str| record[field].as_str().map_or(0, str::len);
    let argument = record["in"].as_str().unwrap_or("");
    let mut places = Vec::new();
    for n in 0..digits("out") {
        // The kernel copied stack here: whatever stands there means nothing.
        let stack = op == "get_region_info" && !argument[16..18].starts_with("09") && (64..96).contains(&n);
        if !stack {
            places.push(("out", n));
        }
    }
    if op == "pread" {
        places.extend((0..digits("data")).map(|n| ("data", n)));
    }
    for field in ["first16", "at0x3000", "at0", "at0x5000"] {
        places.extend((0..digits(field)).map(|n| (field, n)));
    }
    places
}

/// Whether a read shows stack that the driver took for a part of what was written (a 16-bit write to a BAR).
fn shows_stack(record: &Value) -> bool {
    record["op"] == "pread" && record["offset"] == 16 && record["data"] == "f8ff0000"
}

fn falsify(record: &mut Value, field: &str, digit: usize) {
    let mut text: Vec<u8> = record[field].as_str().unwrap().bytes().collect();
    text[digit] = if text[digit] == b'7' { b'8' } else { b'7' };
    record[field] = String::from_utf8(text).unwrap().into();
}

#[test]
fn one_falsified_byte_is_reported() {
    let mut tried = 0;
    for name in ["mbochs-small.jsonl", "mdpy-vga.walk1.jsonl"] {
        let path = recordings().into_iter().find(|path| path.ends_with(name)).unwrap();
        let text = fs::read_to_string(path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        // A prime stride over records and, within each, over places: every kind of call and field gets its turn.
        for at in (0..lines.len()).step_by(7) {
            let original: Value = serde_json::from_str(lines[at]).unwrap();
            let places = falsifiable(&original);
            if places.is_empty() || shows_stack(&original) {
                continue;
            }
            let (field, digit) = places[(at * 31) % places.len()];
            let mut record = original.clone();
            falsify(&mut record, field, digit);
            let falsified = record.to_string();
            let mut copy = lines.clone();
            copy[at] = &falsified;
            let (_, mismatches) = run(&copy.join("\n"));
            let seq = original["seq"].as_u64().unwrap();
            assert!(
                mismatches.contains(&seq),
                "{name} record {seq}: {field} digit {digit} was changed: {falsified}"
            );
            tried += 1;
        }
    }
    assert!(tried > 100, "{tried}");
}

#[test]
fn falsified_results_are_reported() {
    let path = recordings().into_iter().find(|path| path.ends_with("mbochs-small.jsonl")).unwrap();
    let text = fs::read_to_string(path).unwrap();
    for (from, to) in [
        (r#""errno":"ENOMEM""#, r#""errno":"EINVAL""#),
        (r#""errno":"ENOENT""#, r#""errno":"EINVAL""#),
        (r#""size":1228800"#, r#""size":1228801"#),
        (r#""mmap_shared":"EINVAL""#, r#""mmap_shared":"EACCES""#),
        (r#""op":"reset","ret":0"#, r#""op":"reset","ret":1"#),
    ] {
        assert!(text.contains(from), "{from}");
        assert!(!run(&text.replacen(from, to, 1)).1.is_empty(), "{from} -> {to}");
    }
}

#[test]
fn the_book_lists_the_deviations() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/deviations.md");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, replay::render()).unwrap();
    }
    assert_eq!(
        fs::read_to_string(path).unwrap(),
        replay::render(),
        "BLESS=1 cargo test -p mdev-sample writes it anew"
    );
}

#[test]
fn the_program_reports_and_exits_as_promised() {
    let dir = tempfile::tempdir().unwrap();
    let good = recordings().into_iter().find(|path| path.ends_with("mdpy-vga.jsonl")).unwrap();
    let bad = dir.path().join("bad.jsonl");
    fs::write(&bad, fs::read_to_string(&good).unwrap().replacen("361b0f00", "361b0f01", 1)).unwrap();
    let run = |files: &[&Path]| {
        Command::new(env!("CARGO_BIN_EXE_mdev-sample")).arg("replay").args(files).output().unwrap()
    };
    let output = run(&[&good]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains(&format!("{}: 473 records, 427 same, 46 deviations, 0 mismatches\n", good.display())),
        "{text}"
    );
    assert!(text.ends_with("total: 473 records, 427 same, 46 deviations, 0 mismatches\n"), "{text}");
    let output = run(&[&good, &bad]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("  data: kernel \"361b0f01\", ours \"361b0f00\"\n"), "{text}");
    for (content, what) in [("{}\n", "line 1"), ("nonsense\n", "line 1"), ("\u{0}\n", "line 1")] {
        fs::write(&bad, content).unwrap();
        let output = run(&[&bad]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(error.contains("bad.jsonl") && error.contains(what) && error.lines().count() == 1, "{error}");
    }
}
