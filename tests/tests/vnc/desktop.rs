//! An X server without a monitor, and TigerVNC's viewer or a terminal on it.

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
    programs::{artifacts, program},
    screen::Screen,
};

use crate::xwd;

/// How long the X server, or a program that talks to it, may take.
const LIMIT: Duration = Duration::from_secs(30);
/// What the viewer calls its window: it takes the desktop's name.
const TITLE: &str = "peer - TigerVNC";
/// What kitty calls its window.
const KITTY: &str = "watched";

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

    /// Starts kitty, with `qemu-shim watch` in it on what is served at `socket`.
    ///
    /// The program is of this machine and the terminal of the tree: it must be where both see it, and so must the socket.
    #[track_caller]
    pub(crate) fn kitty(&self, socket: &Path) -> Running {
        let put = |name: &str, result: std::io::Result<()>| result.unwrap_or_else(|e| panic!("{name}: {e}"));
        put("qemu-shim", fs::copy(program("qemu-shim"), self.dir.path().join("qemu-shim")).map(drop));
        put("a link to the socket", fs::hard_link(socket, self.dir.path().join("gpu.sock")));
        let mut command = self.program("kitty");
        command.args(["--config", "NONE", "--title", KITTY, "--override", "remember_window_size=no"]);
        // In cells: with pixels left over the text would not begin in the corner.
        command.args(["--override", "initial_window_width=140c", "--override", "initial_window_height=50c"]);
        command
            .args(["/tmp/qemu-shim", "watch", "vfio-user:/tmp/gpu.sock"])
            .env("LIBGL_ALWAYS_SOFTWARE", "1");
        Running::start("kitty", &command)
    }

    /// What is in TigerVNC's window.
    pub(crate) fn shown(&self) -> Result<Screen, String> {
        self.shown_by("tigervnc", TITLE)
    }

    /// The upper left corner of kitty's window, of this size.
    pub(crate) fn corner_of_kitty(&self, (width, height): (u32, u32)) -> Result<Screen, String> {
        let whole = self.shown_by("kitty", KITTY)?;
        if whole.width < width || whole.height < height {
            return Err(format!("the window has {}x{} pixels only", whole.width, whole.height));
        }
        let rows = whole.rgb.chunks(whole.width as usize * 3).take(height as usize);
        let rgb = rows.flat_map(|row| row[..width as usize * 3].to_vec()).collect();
        Ok(Screen { width, height, rgb })
    }

    /// What is in the window of this title, left as `vnc-NAME.xwd` among the artifacts.
    fn shown_by(&self, name: &str, title: &str) -> Result<Screen, String> {
        let mut command = self.program("xwd");
        command.args(["-silent", "-name", title, "-out", "/tmp/window.xwd"]);
        run("xwd", &command, "", LIMIT).success()?;
        let path = self.dir.path().join("window.xwd");
        let screen = xwd::read(&fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?)?;
        // For people who want to look.
        let _ = fs::copy(&path, artifacts().join(format!("vnc-{name}.xwd")));
        Ok(screen)
    }

    /// Presses a key in kitty.
    #[track_caller]
    pub(crate) fn press_in_kitty(&self, key: &str) {
        self.xdotool_on(KITTY, &["windowfocus", "--sync", "key", key]);
    }

    /// Does something to the viewer's window, in xdotool's words.
    #[track_caller]
    pub(crate) fn xdotool(&self, words: &[&str]) {
        self.xdotool_on(TITLE, words);
    }

    #[track_caller]
    fn xdotool_on(&self, title: &str, words: &[&str]) {
        let mut command = self.program("xdotool");
        command.args(["search", "--sync", "--onlyvisible", "--name", title]).args(words);
        let done = run("xdotool", &command, "", LIMIT).success();
        done.unwrap_or_else(|e| panic!("xdotool {words:?}: {e}"));
    }
}
