//! What a sanitizer has to say goes to files, not to where a program says other things: tests start programs whose stderr
//! nobody reads, kill them before they can fail, or expect them to fail.

use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a report that are shown; its file has the others.
const SHOWN: usize = 60;

/// The reports on one package.
pub(super) struct Reports {
    dir: PathBuf,
}

impl Reports {
    /// Where reports are, without those of earlier runs. The tests run elsewhere, so `dir` is to be absolute.
    ///
    /// # Errors
    /// When the directory cannot be made empty.
    pub(super) fn begin(dir: PathBuf) -> Result<Self, String> {
        let failed = |e: std::io::Error| format!("{}: {e}", dir.display());
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(failed)?;
        }
        fs::create_dir_all(&dir).map_err(failed)?;
        Ok(Self { dir })
    }

    /// The option of all sanitizers that has them write there. A process adds its number.
    pub(super) fn option(&self) -> String {
        // Quotes: the path may hold what separates options.
        format!("log_path=\"{}\"", self.dir.join("report").display())
    }

    /// Shows the start of each report.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub(super) fn show(&self) -> Result<usize, String> {
        let found = list(&self.dir).map_err(|e| format!("{}: {e}", self.dir.display()))?;
        for path in &found {
            println!("\nREPORT {}", path.display());
            let text = fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
            for line in String::from_utf8_lossy(&text).lines().take(SHOWN) {
                println!("  {line}");
            }
        }
        Ok(found.len())
    }
}

/// The files of a directory in the order of their names. A sanitizer makes none before it has something to write.
fn list(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        found.push(entry?.path());
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("vfio-gfx-reports-{name}-{}", std::process::id()))
    }

    #[test]
    fn what_is_written_is_counted_and_an_earlier_runs_is_not() {
        let dir = scratch("counted");
        let reports = Reports::begin(dir.clone()).unwrap();
        assert_eq!(reports.show(), Ok(0));
        for process in [7, 8] {
            fs::write(dir.join(format!("report.{process}")), "WARNING: ThreadSanitizer: data race\n")
                .unwrap();
        }
        assert_eq!(reports.show(), Ok(2));
        assert_eq!(Reports::begin(dir.clone()).unwrap().show(), Ok(0));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_directory_that_went_is_not_taken_for_an_empty_one() {
        let dir = scratch("went");
        let reports = Reports::begin(dir.clone()).unwrap();
        fs::remove_dir_all(dir).unwrap();
        assert!(reports.show().is_err());
    }
}
