//! TigerVNC's viewer or a terminal on an X server.

use std::path::Path;

use vfio_gfx_tests::{lab::Lab, process::Running, screen::Screen, xserver::XServer};

/// What the viewer calls its window: it takes the desktop's name.
const TITLE: &str = "peer - TigerVNC";
/// What kitty calls its window.
const KITTY: &str = "watched";

pub(crate) struct Desktop<'a>(XServer<'a>);

impl<'a> Desktop<'a> {
    #[track_caller]
    pub(crate) fn start(lab: &'a Lab) -> Self {
        Self(XServer::start(lab))
    }

    /// A directory that programs of the desktop see as `/tmp`.
    pub(crate) fn tmp(&self) -> &Path {
        self.0.tmp()
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
        let mut command = self.0.program("xtigervncviewer");
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
        self.0.bring("qemu-shim");
        self.0.bring_socket(socket);
        let mut command = self.0.program("kitty");
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
        self.0.window("vnc-tigervnc", TITLE)
    }

    /// The upper left corner of kitty's window, of this size.
    pub(crate) fn corner_of_kitty(&self, (width, height): (u32, u32)) -> Result<Screen, String> {
        let whole = self.0.window("vnc-kitty", KITTY)?;
        if whole.width < width || whole.height < height {
            return Err(format!("the window has {}x{} pixels only", whole.width, whole.height));
        }
        let rows = whole.rgb.chunks(whole.width as usize * 3).take(height as usize);
        let rgb = rows.flat_map(|row| row[..width as usize * 3].to_vec()).collect();
        Ok(Screen { width, height, rgb })
    }

    /// Presses a key in kitty.
    #[track_caller]
    pub(crate) fn press_in_kitty(&self, key: &str) {
        self.0.xdotool(KITTY, &["windowfocus", "--sync", "key", key]);
    }

    /// Does something to the viewer's window, in xdotool's words.
    #[track_caller]
    pub(crate) fn xdotool(&self, words: &[&str]) {
        self.0.xdotool(TITLE, words);
    }
}
