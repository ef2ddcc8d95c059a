//! Every input in the repository once more, with a stable toolchain: the seeds, what fuzzing found worth keeping, and
//! what it once found wrong.

use std::fs;
use std::path::Path;

use vfio_gfx_fuzz::{TARGETS, Target};

/// Runs every file in `fuzz/KIND/TARGET` and returns how many there were. A folder that is not there has none.
fn replay(target: &Target, kind: &str) -> usize {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(kind).join(target.name);
    let mut ran = 0;
    for entry in fs::read_dir(&dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        let input = fs::read(&path).unwrap();
        // A panic's message says what is wrong; this says with which input.
        let result = std::panic::catch_unwind(|| (target.run)(&input));
        assert!(result.is_ok(), "{} fails on {}", target.name, path.display());
        ran += 1;
    }
    ran
}

fn run(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    (target.run)(&[]);
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty());
    seeds.iter().for_each(|seed| (target.run)(seed));
    let (corpus, regressions) = (replay(target, "corpus"), replay(target, "regressions"));
    println!("{name}: {} seeds, {corpus} from the corpus, {regressions} regressions", seeds.len());
    assert!(corpus > 0, "the corpus of {name} is missing");
}

macro_rules! replays {
    ($($name:ident)*) => {
        $(#[test] fn $name() { run(stringify!($name)); })*

        #[test]
        fn every_target_is_replayed() {
            assert_eq!(TARGETS.map(|target| target.name), [$(stringify!($name)),*]);
        }
    };
}

replays! { ioctl registers session messages version edid_parse edid_generate caps plane_info refresh viewers world }
