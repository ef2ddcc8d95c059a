//! The VNC server as a browser meets it.

use std::io::{Read, Write};

use qemu_shim::rfb::handshake::{Policy, Tls};

use crate::stage::Stage;
use crate::viewer::Viewer;

/// The payload of the next message, which is short and comes unmasked (RFC 6455 section 5.2).
fn message(viewer: &mut Viewer) -> Vec<u8> {
    let [kind, length] = viewer.read();
    assert_eq!(kind, 0x82, "a whole binary message");
    let mut payload = vec![0; length.into()];
    viewer.stream.read_exact(&mut payload).unwrap();
    payload
}

/// A page cannot encrypt inside of a WebSocket, and the ones that there are choose that whenever it is offered.
#[test]
fn a_browser_is_let_in_and_never_asked_to_encrypt_inside() {
    let stage = Stage::web(Policy { tls: Tls::Required, ..Policy::default() });
    stage.mode(640, 480);
    let mut browser = Viewer::raw(&stage.path);
    browser.send(
        b"GET /websockify HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(browser.read::<1>());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", head.escape_ascii());
    assert_eq!(message(&mut browser), b"RFB 003.008\n");
    let mut say = |bytes: &[u8]| {
        let length = 0x80 | u8::try_from(bytes.len()).unwrap();
        browser.stream.write_all(&[&[0x82, length, 0, 0, 0, 0], bytes].concat()).unwrap();
        message(&mut browser)
    };
    assert_eq!(say(b"RFB 003.008\n"), [1, 1], "no security is offered, and nothing else");
    assert_eq!(say(&[1]), [0, 0, 0, 0]);
    assert_eq!(say(&[1])[..4], [2, 128, 1, 224], "640x480");
}
