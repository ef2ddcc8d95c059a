//! An X server without a monitor, in the lab's tree of viewers, and windows on it.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    lab::Lab,
    process::{Running, run},
    programs::{artifacts, program},
    screen::Screen,
    xwd,
};

/// How long the X server, or a program that talks to it, may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A running X server.
#[derive(Debug)]
pub struct XServer<'a> {
    lab: &'a Lab,
    display: String,
    _process: Running,
    // Dropped after the programs that use it.
    dir: TempDir,
}

impl<'a> XServer<'a> {
    /// Starts one of 1400x1100 pixels.
    ///
    /// # Panics
    /// If it does not start.
    #[track_caller]
    #[must_use]
    pub fn start(lab: &'a Lab) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let mut command = lab.viewer(dir.path(), "Xvfb");
        command.args(["-screen", "0", "1400x1100x24", "-displayfd", "1"]);
        // Its sockets are in the directory; abstract ones would be everybody's.
        command.args(["-nolisten", "tcp", "-nolisten", "local"]);
        let mut process = Running::start("Xvfb", &command);
        let deadline = Instant::now() + LIMIT;
        let display = loop {
            // It complains about its keyboard first.
            let line = process.expect_line("", deadline.saturating_duration_since(Instant::now()));
            if line.parse::<u32>().is_ok() {
                break format!(":{line}");
            }
        };
        Self { lab, display, _process: process, dir }
    }

    /// A directory that programs of the tree see as `/tmp`.
    #[must_use]
    pub fn tmp(&self) -> &Path {
        self.dir.path()
    }

    /// A program of the tree, or one of [`XServer::bring`] as `/tmp/NAME`, with this server's display.
    #[must_use]
    pub fn program(&self, name: &str) -> Command {
        let mut command = self.lab.viewer(self.dir.path(), name);
        command.env("DISPLAY", &self.display);
        command
    }

    /// Puts one of this project's programs, or its library, where programs of the tree find it: `/tmp/NAME`.
    ///
    /// # Panics
    /// If it cannot be copied.
    #[track_caller]
    pub fn bring(&self, name: &str) {
        let copied = fs::copy(program(name), self.dir.path().join(name));
        copied.unwrap_or_else(|e| panic!("{name}: {e}"));
    }

    /// Puts a device's socket there, as `/tmp/gpu.sock`.
    ///
    /// # Panics
    /// If it cannot be linked.
    #[track_caller]
    pub fn bring_socket(&self, socket: &Path) {
        let linked = fs::hard_link(socket, self.dir.path().join("gpu.sock"));
        linked.unwrap_or_else(|e| panic!("a link to the socket: {e}"));
    }

    /// What is in the window of this title, left as `NAME.xwd` among the artifacts.
    ///
    /// # Errors
    /// Why there is no such picture.
    pub fn window(&self, name: &str, title: &str) -> Result<Screen, String> {
        let mut command = self.program("xwd");
        command.args(["-silent", "-name", title, "-out", "/tmp/window.xwd"]);
        run("xwd", &command, "", LIMIT).success()?;
        let path = self.dir.path().join("window.xwd");
        let screen = xwd::read(&fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?)?;
        // For people who want to look.
        let _ = fs::copy(&path, artifacts().join(format!("{name}.xwd")));
        Ok(screen)
    }

    /// Does something to the windows of this title, in xdotool's words, when there are some.
    ///
    /// # Panics
    /// If xdotool fails.
    #[track_caller]
    pub fn xdotool(&self, title: &str, words: &[&str]) {
        let mut command = self.program("xdotool");
        command.args(["search", "--sync", "--onlyvisible", "--name", title]).args(words);
        let done = run("xdotool", &command, "", LIMIT).success();
        done.unwrap_or_else(|e| panic!("xdotool {words:?}: {e}"));
    }
}
