//! QEMU's own screenshots, taken through its monitor: what the programs are measured against.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use crate::screen::Screen;

/// Has the QEMU whose QMP socket is `monitor` write its screen to `file`, and reads it.
///
/// # Errors
/// What QEMU answered, if not with a picture.
pub fn screenshot(monitor: &Path, file: &Path) -> Result<Screen, String> {
    let path = file.display();
    // A file of an earlier run must not pass for this one's.
    let _ = std::fs::remove_file(file);
    let arguments = format!(r#"{{"filename":"{path}","format":"png"}}"#);
    execute(monitor, &format!(r#"{{"execute":"screendump","arguments":{arguments}}}"#))?;
    Screen::read_png(file)
}

/// Has the QEMU whose QMP socket is `monitor` execute a command, such as `{"execute":"system_reset"}`.
///
/// # Errors
/// What QEMU answered, if it did not.
pub fn execute(monitor: &Path, command: &str) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("{}: {e}", monitor.display());
    let mut stream = UnixStream::connect(monitor).map_err(failed)?;
    let limit = Some(Duration::from_secs(30));
    stream.set_read_timeout(limit).map_err(failed)?;
    let mut replies = BufReader::new(stream.try_clone().map_err(failed)?).lines();
    for command in [r#"{"execute":"qmp_capabilities"}"#, command] {
        stream.write_all(command.as_bytes()).map_err(failed)?;
        loop {
            let reply = replies.next().ok_or("the monitor hung up")?.map_err(failed)?;
            // Greetings and events come in between.
            if reply.contains(r#""error""#) {
                return Err(format!("{command}: {reply}"));
            }
            if reply.contains(r#""return""#) {
                break;
            }
        }
    }
    Ok(())
}
