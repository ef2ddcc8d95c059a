//! Writes the seeds of every target into a folder, `fuzz/corpus` unless another is named.

use std::path::PathBuf;

use vfio_gfx_fuzz::TARGETS;

fn main() -> std::io::Result<()> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../corpus");
    let corpus = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| default.into()));
    for target in TARGETS {
        let dir = corpus.join(target.name);
        std::fs::create_dir_all(&dir)?;
        for (n, seed) in (target.seeds)().iter().enumerate() {
            std::fs::write(dir.join(format!("seed-{n:02}")), seed)?;
        }
    }
    Ok(())
}
