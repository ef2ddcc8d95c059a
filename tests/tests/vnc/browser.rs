//! Chromium without a window, told what to do through its DevTools protocol.

use std::{fs, net::TcpStream, path::Path, process::Command, thread, time::Duration};

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};
use vfio_gfx_tests::{lab::Lab, process::Running, programs::artifacts, screen::Screen};

/// Chromium without windows in the tree of viewers: the program, not the script that starts it.
const CHROMIUM: &str = "/usr/lib/chromium/chromium-headless-shell";
/// How long it may take to begin, and to answer.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a key takes.
const STROKE: Duration = Duration::from_millis(20);
/// The bit of the shift key in `Input.dispatchKeyEvent`.
const SHIFT: u32 = 8;
/// Signs of a US keyboard with shift, and those without on the same keys.
const SHIFTED: (&str, &str) = ("~!@#$%^&*()_+{}|:\"<>?", "`1234567890-=[]\\;',./");

pub(crate) struct Browser {
    socket: WebSocket<TcpStream>,
    session: Option<String>,
    last: u64,
    _process: Running,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// The one that `VFIO_GFX_CHROMIUM` names, else the lab's.
    ///
    /// # Errors
    /// A sentence, if there is none.
    pub(crate) fn start(lab: &Lab) -> Result<Self, String> {
        let profile = tempfile::tempdir().expect("a temporary directory can be made");
        let (mut command, home) = match std::env::var_os("VFIO_GFX_CHROMIUM") {
            Some(program) => (Command::new(program), profile.path()),
            None if lab.viewers().join(&CHROMIUM[1..]).is_file() => {
                (lab.viewer(profile.path(), CHROMIUM), Path::new("/tmp"))
            }
            None => {
                return Err(
                    "no Chromium: run `cargo xtask lab` (as root), or name one in VFIO_GFX_CHROMIUM".into()
                );
            }
        };
        command
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--no-first-run", "--disable-background-networking", "--window-size=1300,1000"])
            .arg("--remote-debugging-port=0")
            .arg(format!("--user-data-dir={}", home.display()))
            .arg("about:blank");
        let mut process = Running::start("chromium", &command);
        let line = process.expect_line("DevTools listening on ws://", LIMIT);
        let (_, address) = line.split_once("ws://").expect("that is what was waited for");
        let (host, _) = address.split_once('/').expect("an address has a path");
        let stream = TcpStream::connect(host).unwrap_or_else(|e| panic!("{host}: {e}"));
        stream.set_read_timeout(Some(LIMIT)).expect("the limit is not zero");
        let (socket, _) = tungstenite::client(format!("ws://{address}"), stream).expect("it speaks DevTools");
        Ok(Self { socket, session: None, last: 0, _process: process, _profile: profile })
    }

    /// Calls a method, and returns what it returns.
    #[track_caller]
    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.try_call(method, parameters).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// The same; what the browser refuses is an error.
    #[track_caller]
    fn try_call(&mut self, method: &str, parameters: &Value) -> Result<Value, String> {
        self.last += 1;
        let mut request = json!({ "id": self.last, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            request["sessionId"] = json!(session);
        }
        self.socket.send(Message::text(request.to_string())).expect("the browser listens");
        loop {
            let message = self.socket.read().unwrap_or_else(|e| panic!("no answer to {method}: {e}"));
            let Message::Text(text) = message else { continue };
            let answer: Value = serde_json::from_str(&text).expect("DevTools is JSON");
            if answer["id"] == json!(self.last) {
                return match &answer["error"] {
                    Value::Null => Ok(answer["result"].clone()),
                    error => Err(error.to_string()),
                };
            }
        }
    }

    /// Opens a page, in a tab of its own.
    #[track_caller]
    pub(crate) fn open(&mut self, address: &str) {
        self.session = None;
        let target = self.call("Target.createTarget", &json!({ "url": address }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", &attach);
        self.session = attached["sessionId"].as_str().map(str::to_owned);
        let size = json!({ "width": 1300, "height": 1000, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", &size);
    }

    fn evaluate(&mut self, expression: &str) -> Result<Value, String> {
        let parameters = json!({ "expression": expression, "returnByValue": true });
        // A tab has nothing to evaluate in between two pages.
        let result = self.try_call("Runtime.evaluate", &parameters)?;
        match &result["exceptionDetails"] {
            Value::Null => Ok(result["result"]["value"].clone()),
            error => Err(error["exception"]["description"].to_string()),
        }
    }

    /// What is on the page's canvas, left as `vnc-NAME.png` among the artifacts.
    pub(crate) fn canvas(&mut self, name: &str) -> Result<Screen, String> {
        let hex = self.evaluate(
            "[...atob(document.querySelector('canvas').toDataURL().split(',')[1])]\
             .map((byte) => byte.charCodeAt().toString(16).padStart(2, '0')).join('')",
        )?;
        let hex = hex.as_str().ok_or("no digits")?;
        let bytes = hex.as_bytes().as_chunks::<2>().0.iter().map(|pair| {
            let pair = str::from_utf8(pair).map_err(|e| e.to_string())?;
            u8::from_str_radix(pair, 16).map_err(|e| e.to_string())
        });
        let path = artifacts().join(format!("vnc-{name}.png"));
        fs::write(&path, bytes.collect::<Result<Vec<u8>, _>>()?).map_err(|e| e.to_string())?;
        Screen::read_png(&path)
    }

    /// Clicks on the canvas, as one does before typing.
    #[track_caller]
    pub(crate) fn click(&mut self) {
        let middle = "(() => { const r = document.querySelector('canvas').getBoundingClientRect(); \
            return [r.x + r.width / 2, r.y + r.height / 2]; })()";
        let at = self.evaluate(middle).unwrap_or_else(|e| panic!("{e}"));
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": at[0], "y": at[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", &event);
        }
    }

    /// Types a line on a US keyboard.
    #[track_caller]
    pub(crate) fn type_line(&mut self, line: &str) {
        for sign in line.chars() {
            let plain = plain(sign);
            let shift = if plain == sign { 0 } else { SHIFT };
            if shift != 0 {
                self.key("rawKeyDown", "Shift", "ShiftLeft", SHIFT, 16);
            }
            let (key, code) = (sign.to_string(), code(plain));
            let number = u32::from(plain.to_ascii_uppercase());
            self.key("rawKeyDown", &key, &code, shift, number);
            self.key("keyUp", &key, &code, shift, number);
            // QEMU's keyboard holds 16 bytes, and the guest is slow.
            thread::sleep(STROKE);
            if shift != 0 {
                self.key("keyUp", "Shift", "ShiftLeft", 0, 16);
            }
        }
        self.key("rawKeyDown", "Enter", "Enter", 0, 13);
        self.key("keyUp", "Enter", "Enter", 0, 13);
    }

    #[track_caller]
    fn key(&mut self, kind: &str, key: &str, code: &str, modifiers: u32, number: u32) {
        let event = json!({
            "type": kind, "key": key, "code": code, "modifiers": modifiers, "windowsVirtualKeyCode": number
        });
        self.call("Input.dispatchKeyEvent", &event);
    }
}

/// The sign that the same key gives without shift.
fn plain(sign: char) -> char {
    let pair = SHIFTED.0.chars().zip(SHIFTED.1.chars()).find(|(shifted, _)| *shifted == sign);
    pair.map_or(sign.to_ascii_lowercase(), |(_, plain)| plain)
}

/// The name of a key's place (UI Events KeyboardEvent code Values).
fn code(plain: char) -> String {
    match plain {
        'a'..='z' => format!("Key{}", plain.to_ascii_uppercase()),
        '0'..='9' => format!("Digit{plain}"),
        _ => {
            let signs = "`-=[]\\;',./ ".chars();
            let names = [
                "Backquote",
                "Minus",
                "Equal",
                "BracketLeft",
                "BracketRight",
                "Backslash",
                "Semicolon",
                "Quote",
                "Comma",
                "Period",
                "Slash",
                "Space",
            ];
            let name = signs.zip(names).find(|(sign, _)| *sign == plain);
            name.unwrap_or_else(|| panic!("no key for {plain}")).1.to_owned()
        }
    }
}
