use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::input::buttons;
use crate::input::queue::LIMIT;

const LONG: Duration = Duration::from_secs(20);

/// A QEMU that has only a monitor.
struct FakeQemu {
    listener: UnixListener,
    path: PathBuf,
    _dir: TempDir,
}

/// Its end of a connection.
struct Monitor {
    replies: UnixStream,
    commands: BufReader<UnixStream>,
}

impl FakeQemu {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qmp");
        Self { listener: UnixListener::bind(&path).unwrap(), path, _dir: dir }
    }

    /// Serves the next client as far as QEMU does before commands.
    fn accept(&self) -> Monitor {
        let (stream, _) = self.listener.accept().unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let mut monitor = Monitor { replies: stream.try_clone().unwrap(), commands: BufReader::new(stream) };
        monitor.say("{\"QMP\": {\"version\": {}, \"capabilities\": []}}");
        assert_eq!(monitor.hear(), Some(json!({ "execute": "qmp_capabilities" })));
        monitor.say("{\"return\": {}}");
        monitor
    }
}

impl Monitor {
    fn say(&mut self, line: &str) {
        self.replies.write_all(format!("{line}\r\n").as_bytes()).unwrap();
    }

    /// The next command; none at the end.
    fn hear(&mut self) -> Option<Value> {
        let mut line = String::new();
        let count = self.commands.read_line(&mut line).unwrap();
        (count > 0).then(|| serde_json::from_str(&line).unwrap())
    }

    /// The key of the next command, which is a key event, answered.
    fn key(&mut self) -> (u64, bool) {
        let command = self.hear().expect("there is a command");
        self.say("{\"return\": {}}");
        let event = &command["arguments"]["events"][0]["data"];
        (event["key"]["data"].as_u64().unwrap(), event["down"].as_bool().unwrap())
    }
}

/// A sink that is connected, and what it is connected to.
fn connected() -> (Qmp, FakeQemu, Monitor) {
    let qemu = FakeQemu::start();
    let sink = Qmp::start(qemu.path.clone()).unwrap();
    let monitor = qemu.accept();
    until(|| sink.is_connected());
    (sink, qemu, monitor)
}

#[track_caller]
fn until(mut what: impl FnMut() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < LONG, "it did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn key(character: char) -> Key {
    Key { keysym: character.into(), scancode: None }
}

fn pointer(x: u32, buttons: u16) -> Pointer {
    Pointer { x, y: 0, width: 640, height: 480, buttons }
}

#[test]
fn keys_and_the_pointer_arrive() {
    let (mut sink, _qemu, mut monitor) = connected();
    sink.key(Key { keysym: 0, scancode: Some(0xcd) }, true).unwrap();
    assert_eq!(monitor.key(), (0xcd, true));
    sink.pointer(pointer(639, buttons::LEFT)).unwrap();
    let command = monitor.hear().unwrap();
    let abs = |axis, value| json!({ "type": "abs", "data": { "axis": axis, "value": value } });
    let button = json!({ "type": "btn", "data": { "button": "left", "down": true } });
    assert_eq!(command["arguments"]["events"], json!([abs("x", 32742), abs("y", 34), button]));
    monitor.say("{\"return\": {}}");
    // What is held comes up when the sink goes, which waits for that.
    let rest = std::thread::spawn(move || {
        let key = monitor.key();
        let pointer = monitor.hear().unwrap();
        monitor.say("{\"return\": {}}");
        (key, pointer["arguments"]["events"][2].clone(), monitor.hear())
    });
    drop(sink);
    let (key, button, end) = rest.join().unwrap();
    assert_eq!(key, (0xcd, false));
    assert_eq!(button, json!({ "type": "btn", "data": { "button": "left", "down": false } }));
    assert_eq!(end, None);
}

#[test]
fn moves_collapse_while_qemu_thinks() {
    let (mut sink, _qemu, mut monitor) = connected();
    for x in 0..500 {
        sink.pointer(pointer(x, 0)).unwrap();
    }
    let mut heard = 0;
    let mut last = Value::Null;
    while last["arguments"]["events"][0]["data"]["value"] != json!((499 * 2 + 1) * 0x8000 / 1280) {
        last = monitor.hear().unwrap();
        heard += 1;
        if heard == 1 {
            until(|| sink.shared.lock().queue.len() <= 1);
        }
        monitor.say("{\"return\": {}}");
    }
    assert!(heard < 500, "{heard} commands for 500 moves");
}

#[test]
fn a_qemu_that_reads_nothing_blocks_nobody() {
    let (mut sink, _qemu, mut monitor) = connected();
    // This one QEMU takes and does not answer: from here on the thread takes nothing out of the queue.
    sink.key(key('b'), true).unwrap();
    assert!(monitor.hear().is_some());
    // Who waited for QEMU here would wait for ever: nobody else is there to read.
    let mut full = 0;
    for _ in 0..LIMIT * 4 {
        match sink.key(key('a'), true) {
            Ok(()) => {}
            Err(InputError::Full { waiting: LIMIT, .. }) => full += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(full, 1, "told once");
    sink.key(key('a'), false).unwrap();
    monitor.say("{\"return\": {}}");
    let mut last = monitor.key();
    while last.1 {
        last = monitor.key();
    }
    assert_eq!(last, (0x1e, false));
}

#[test]
fn a_refusal_is_told_once() {
    let (mut sink, _qemu, mut monitor) = connected();
    let mut told = Vec::new();
    for x in 0..20 {
        told.extend(sink.pointer(pointer(x, 0)).err());
        if x < 10 {
            monitor.hear().unwrap();
            monitor.say("{\"error\": {\"class\": \"GenericError\", \"desc\": \"no tablet\"}}");
            until(|| sink.shared.lock().queue.len() == 0);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let path = sink.shared.path.clone();
    assert_eq!(told, [InputError::Refused { path, reason: "no tablet".to_owned() }]);
}

#[test]
fn a_restarted_qemu_is_found_and_nothing_stays_down() {
    let (mut sink, qemu, mut monitor) = connected();
    sink.key(key('a'), true).unwrap();
    assert_eq!(monitor.key(), (0x1e, true));
    drop(monitor);
    until(|| !sink.is_connected());
    let error = sink.key(key('b'), true).unwrap_err();
    assert!(matches!(error, InputError::Disconnected { .. }), "{error}");
    assert_eq!(sink.key(key('b'), true), Ok(()), "told once");
    let mut monitor = qemu.accept();
    assert_eq!(monitor.key(), (0x1e, false));
    until(|| sink.is_connected());
    sink.key(key('c'), true).unwrap();
    assert_eq!(monitor.key(), (0x2e, true), "what was typed into nothing is lost");
}

#[test]
fn a_socket_that_is_not_there_is_said_once_and_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp");
    let mut sink = Qmp::start(path.clone()).unwrap();
    let mut error = None;
    until(|| {
        error = sink.key(key('a'), true).err();
        error.is_some()
    });
    let text = error.unwrap().to_string();
    assert!(text.contains(path.to_str().unwrap()) && text.contains("No such file"), "{text}");
    let qemu = FakeQemu { listener: UnixListener::bind(&path).unwrap(), path, _dir: dir };
    let _monitor = qemu.accept();
    until(|| sink.is_connected());
}

#[test]
fn someone_else_s_socket_is_explained() {
    let qemu = FakeQemu::start();
    let mut sink = Qmp::start(qemu.path.clone()).unwrap();
    let (mut stream, _) = qemu.listener.accept().unwrap();
    stream.write_all(b"SSH-2.0-OpenSSH\r\n").unwrap();
    let mut error = String::new();
    until(|| {
        error = sink.key(key('a'), true).err().map_or_else(String::new, |error| error.to_string());
        error.contains("SSH-2.0")
    });

    // One that says nothing, as QEMU's does while it serves another client.
    let (silent, _) = qemu.listener.accept().unwrap();
    until(|| {
        error = sink.key(key('a'), true).err().map_or_else(String::new, |error| error.to_string());
        error.contains("second -qmp")
    });
    drop(silent);
}
