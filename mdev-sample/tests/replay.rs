//! Recorded kernel behaviour: every recording agrees, and one falsified byte is noticed.

use std::collections::BTreeSet;
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
    assert_eq!((total.records, total.mismatching), (13_074, 0));
    for deviation in DEVIATIONS {
        assert!(
            total.deviations.contains_key(deviation.id),
            "{} is never met: a rule too many",
            deviation.id
        );
    }
}

/// Which bytes of configuration space show kernel stack: a write of one or two bytes to a BAR takes the rest from there.
#[derive(Default)]
struct Stack(BTreeSet<u64>);

impl Stack {
    fn observe(&mut self, record: &Value) {
        let (Some(offset), "pwrite") = (record["offset"].as_u64(), record["op"].as_str().unwrap()) else {
            return;
        };
        let end = offset + record["data"].as_str().unwrap().len() as u64 / 2;
        let mbochs = record["device"].as_str().unwrap().starts_with("mbochs");
        let bars: &[u64] = if mbochs { &[0x10, 0x18] } else { &[0x10] };
        for bar in bars.iter().copied() {
            if (offset..end).contains(&bar) {
                let width = [4, 2, 1].into_iter().find(|width| bar + width <= end).unwrap();
                self.0.retain(|at| !(bar..bar + 4).contains(at));
                // Of all ones the bits below the size go, if the stack has ones too.
                let start = 2 * usize::try_from(bar - offset).unwrap();
                let digits = 2 * usize::try_from(width).unwrap();
                let data = record["data"].as_str().unwrap();
                let is_ones = width < 4 && data[start..].bytes().take(digits).all(|digit| digit == b'f');
                self.0.extend(bar + if is_ones { 0 } else { width }..bar + 4);
            }
        }
    }

    /// Whether a byte of what was read may be anything.
    fn shows(&self, record: &Value, byte: usize) -> bool {
        let offset = record["offset"].as_u64().unwrap();
        let at = offset + byte as u64;
        let mbochs = record["device"].as_str().unwrap().starts_with("mbochs");
        // mbochs leaves a read of its EDID region undone where it is not four bytes of a register, or not of the blob.
        let left = record["len"].as_u64().unwrap() - byte as u64;
        let whole = at / 4 * 4 >= offset && at % 4 + left >= 4;
        let register = (0x2000..0x2018).contains(&at) && whole;
        let edid = mbochs && (0x2000..0x3000).contains(&at) && !register && !(0x2800..0x2c00).contains(&at);
        edid || self.0.contains(&at)
    }
}

/// Places in a record where the kernel's answer can be falsified: (field, index of a hexadecimal digit).
fn falsifiable(record: &Value, stack: &Stack) -> Vec<(&'static str, usize)> {
    let op = record["op"].as_str().unwrap();
    let digits = |field: &str| record[field].as_str().map_or(0, str::len);
    let argument = record["in"].as_str().unwrap_or("");
    let mut places = Vec::new();
    for n in 0..digits("out") {
        // The kernel copied stack here: whatever stands there means nothing.
        let stack = op == "get_region_info" && argument.get(16..18) != Some("09") && (64..96).contains(&n);
        if !stack {
            places.push(("out", n));
        }
    }
    if op == "pread" {
        places.extend((0..digits("data")).filter(|n| !stack.shows(record, n / 2)).map(|n| ("data", n)));
    }
    for field in ["first16", "at0x3000", "at0", "at0x5000"] {
        places.extend((0..digits(field)).map(|n| (field, n)));
    }
    for field in ["ret", "errno", "size", "mmap_shared", "mmap_private"] {
        places.extend((!record[field].is_null()).then_some((field, 0)));
    }
    places
}

fn falsify(record: &mut Value, field: &str, digit: usize) {
    record[field] = match (field, &record[field]) {
        ("ret" | "size", value) => (value.as_i64().unwrap() + 1).into(),
        ("errno" | "mmap_shared" | "mmap_private", _) => "EIO".into(),
        (_, value) => {
            let mut text: Vec<u8> = value.as_str().unwrap().bytes().collect();
            text[digit] = if text[digit] == b'7' { b'8' } else { b'7' };
            String::from_utf8(text).unwrap().into()
        }
    };
}

/// One digit is changed in the answer of every record, and each record is reported: what a rule may excuse does not follow
/// from recorded answers, so that falsified ones cannot excuse each other.
#[test]
fn one_falsified_digit_is_reported_in_every_record() {
    const ROUNDS: usize = 6;
    let (mut tried, mut missed) = (0, Vec::new());
    for path in recordings() {
        let text = fs::read_to_string(&path).unwrap();
        let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for round in 0..ROUNDS {
            let (mut copy, mut changed, mut stack) = (String::new(), Vec::new(), Stack::default());
            for (n, original) in records.iter().enumerate() {
                let places = falsifiable(original, &stack);
                stack.observe(original);
                let mut record = original.clone();
                // Another place in each record and each round, all over the fields.
                if let Some((field, digit)) = places.get((n * 31 + round * 97) % places.len().max(1)) {
                    falsify(&mut record, field, *digit);
                    changed.push((record["seq"].as_u64().unwrap(), *field, *digit));
                }
                copy.push_str(&record.to_string());
                copy.push('\n');
            }
            tried += changed.len();
            let reported: BTreeSet<u64> = run(&copy).1.into_iter().collect();
            changed.retain(|(seq, ..)| !reported.contains(seq));
            missed.extend(changed.iter().map(|(seq, field, digit)| {
                let record = records.iter().find(|record| record["seq"] == *seq);
                format!("{}: {field} digit {digit}: {}", path.display(), record.unwrap())
            }));
        }
    }
    assert!(missed.is_empty(), "{} are not noticed: {missed:#?}", missed.len());
    assert!(tried > ROUNDS * 12_000, "{tried}");
}

/// A digit that is changed in one record is reported there, and the rest is as good as before.
#[test]
fn one_falsified_record_is_the_only_one_reported() {
    let mut tried = 0;
    for name in ["mbochs-small.jsonl", "mdpy-vga.walk1.jsonl", "mbochs-medium.abi-fuzz1.jsonl"] {
        let path = recordings().into_iter().find(|path| path.ends_with(name)).unwrap();
        let text = fs::read_to_string(path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let mut stack = Stack::default();
        for at in 0..lines.len() {
            let original: Value = serde_json::from_str(lines[at]).unwrap();
            let places = falsifiable(&original, &stack);
            stack.observe(&original);
            if at % 61 != 0 {
                continue;
            }
            let Some((field, digit)) = places.get((at * 31) % places.len().max(1)) else {
                continue;
            };
            let mut record = original.clone();
            falsify(&mut record, field, *digit);
            let falsified = record.to_string();
            let mut copy = lines.clone();
            copy[at] = &falsified;
            let (_, mismatches) = run(&copy.join("\n"));
            let seq = original["seq"].as_u64().unwrap();
            assert_eq!(mismatches, [seq], "{name}: {field} digit {digit} was changed: {falsified}");
            tried += 1;
        }
    }
    assert!(tried > 30, "{tried}");
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
