//! An X server without a monitor, and TigerVNC's viewer on it.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use vfio_gfx_tests::{
    lab::Lab,
    process::{Running, run},
    programs::artifacts,
    screen::Screen,
};

use crate::xwd;

/// How long the X server, or a program that talks to it, may take.
const LIMIT: Duration = Duration::from_secs(30);
/// What the viewer calls its window: it takes the desktop's name.
const TITLE: &str = "peer - TigerVNC";

pub(crate) struct Desktop<'a> {
    lab: &'a Lab,
    display: String,
    _xserver: Running,
    // Dropped after the programs that use it.
    dir: TempDir,
}

impl<'a> Desktop<'a> {
    #[track_caller]
    pub(crate) fn start(lab: &'a Lab) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let mut command = lab.viewer(dir.path(), "Xvfb");
        command.args(["-screen", "0", "1400x1100x24", "-displayfd", "1"]);
        // Its sockets are in the directory; abstract ones would be everybody's.
        command.args(["-nolisten", "tcp", "-nolisten", "local"]);
        let mut xserver = Running::start("Xvfb", &command);
        let deadline = Instant::now() + LIMIT;
        let display = loop {
            // It complains about its keyboard first.
            let line = xserver.expect_line("", deadline.saturating_duration_since(Instant::now()));
            if line.parse::<u32>().is_ok() {
                break format!(":{line}");
            }
        };
        Self { lab, display, _xserver: xserver, dir }
    }

    /// A directory that programs of the desktop see as `/tmp`.
    pub(crate) fn tmp(&self) -> &Path {
        self.dir.path()
    }

    fn program(&self, name: &str) -> Command {
        let mut command = self.lab.viewer(self.dir.path(), name);
        command.env("DISPLAY", &self.display);
        command
    }

    /// Starts the viewer, without loss.
    #[track_caller]
    pub(crate) fn tigervnc(&self, encoding: &str, server: &str, arguments: &[&str]) -> Running {
        self.tigervnc_with_password(encoding, server, arguments, "")
    }

    #[track_caller]
    pub(crate) fn tigervnc_with_password(
        &self,
        encoding: &str,
        server: &str,
        arguments: &[&str],
        password: &str,
    ) -> Running {
        let mut command = self.program("xtigervncviewer");
        command
            .args(["-Log", "*:stderr:30", "-AutoSelect=0", "-FullColor=1", "-NoJPEG=1"])
            // Without a key for its menu it does not draw a hint about it over the picture.
            .arg("-ShortcutModifiers=")
            .arg(format!("-PreferredEncoding={encoding}"))
            .args(arguments)
            .arg(server)
            .env("VNC_PASSWORD", password);
        Running::start("xtigervncviewer", &command)
    }

    /// What is in the viewer's window.
    pub(crate) fn shown(&self) -> Result<Screen, String> {
        let mut command = self.program("xwd");
        command.args(["-silent", "-name", TITLE, "-out", "/tmp/window.xwd"]);
        run("xwd", &command, "", LIMIT).success()?;
        let path = self.dir.path().join("window.xwd");
        let screen = xwd::read(&fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?)?;
        // For people who want to look.
        let _ = fs::copy(&path, artifacts().join("vnc-tigervnc.xwd"));
        Ok(screen)
    }

    /// Does something to the viewer's window, in xdotool's words.
    #[track_caller]
    pub(crate) fn xdotool(&self, words: &[&str]) {
        let mut command = self.program("xdotool");
        command.args(["search", "--sync", "--onlyvisible", "--name", TITLE]).args(words);
        let done = run("xdotool", &command, "", LIMIT).success();
        done.unwrap_or_else(|e| panic!("xdotool {words:?}: {e}"));
    }
}
