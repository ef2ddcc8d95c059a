//! Keys and pointers of several viewers, on one keyboard and one pointer.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use qemu_shim::input::{InputError, InputSink, Key, Pointer};

use crate::stage::Stage;
use crate::viewer::Viewer;

/// A guest that notes what arrives.
#[derive(Clone, Default)]
struct Guest(Arc<Mutex<Vec<String>>>);

impl InputSink for Guest {
    fn key(&mut self, key: Key, down: bool) -> Result<(), InputError> {
        let Key { keysym, scancode } = key;
        let name = scancode.map_or(format!("keysym {keysym:x}"), |code| format!("scan code {code:x}"));
        self.0.lock().unwrap().push(format!("{name} {}", if down { "down" } else { "up" }));
        Ok(())
    }

    fn pointer(&mut self, pointer: Pointer) -> Result<(), InputError> {
        self.0.lock().unwrap().push(format!("buttons {:b}", pointer.buttons));
        Ok(())
    }
}

impl Guest {
    /// Waits for the next events, in any order.
    #[track_caller]
    fn expect(&self, expected: &[&str]) {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let mut seen = self.0.lock().unwrap();
            if seen.len() >= expected.len() || Instant::now() > end {
                let mut found = std::mem::take(&mut *seen);
                found.sort();
                assert_eq!(found, expected);
                return;
            }
            drop(seen);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn key(viewer: &mut Viewer, sign: u8) {
    viewer.send(&[4, 1, 0, 0, 0, 0, 0, sign]);
}

#[test]
fn a_viewer_that_goes_lets_go_of_its_own_keys_only() {
    let guest = Guest::default();
    let stage = Stage::with_input(Box::new(guest.clone()));
    stage.mode(640, 480);
    let (mut first, mut second) = (Viewer::connect(&stage.path), Viewer::connect(&stage.path));
    key(&mut first, b'a');
    key(&mut first, b'b');
    first.send(&[5, 0b100, 0, 1, 0, 1]);
    guest.expect(&["buttons 100", "keysym 61 down", "keysym 62 down"]);
    key(&mut second, b'b');
    second.send(&[5, 0b1, 0, 9, 0, 9]);
    guest.expect(&["buttons 1", "keysym 62 down"]);

    drop(first);
    guest.expect(&["buttons 1", "scan code 1e up"]);
    drop(second);
    guest.expect(&["buttons 0", "scan code 30 up"]);
}
