//! Connections with a clock of the test's, and a peer of its own at the other end.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};

use super::*;
use crate::input::{InputError, InputSink, Key, Pointer};
use crate::net::{Stream, load_tls};
use crate::rfb::handshake::{Policy, Tls};
use crate::rfb::security::Password;
use crate::rfb::throttle::{Peer, Throttle};

const CHALLENGE: [u8; 16] = *b"0123456789abcdef";
/// The a key goes down, as a viewer says it.
const KEY: [u8; 8] = [4, 1, 0, 0, 0, 0, 0, b'a'];
/// How a browser asks for a WebSocket.
const UPGRADE: &[u8] =
    b"GET /websockify HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A guest that counts keys.
#[derive(Default)]
struct Keys(usize);

impl InputSink for Keys {
    fn key(&mut self, _: Key, _: bool) -> Result<(), InputError> {
        self.0 += 1;
        Ok(())
    }
    fn pointer(&mut self, _: Pointer) -> Result<(), InputError> {
        Ok(())
    }
}

/// What is around a connection.
struct Place {
    now: Instant,
    throttle: Throttle,
    keys: Keys,
    tls: Option<Arc<rustls::ServerConfig>>,
}

impl Place {
    fn new() -> Self {
        Self { now: Instant::now(), throttle: Throttle::new(), keys: Keys::default(), tls: None }
    }

    fn connect(&self, policy: Policy, channel: impl FnOnce(Stream) -> Channel) -> (Connection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let channel = channel(Stream::unix(ours).unwrap());
        let viewer = Viewer::new(Peer::Local, policy, CHALLENGE, self.now);
        let (name, wish) = ("test".into(), None);
        (Connection { channel, viewer, name, is_new: true, hung_up: false, wish }, theirs)
    }

    fn web(&self) -> (Connection, UnixStream) {
        self.connect(Policy::default(), |stream| {
            Channel::web(stream, Arc::default(), None, self.now).unwrap()
        })
    }

    /// A viewer that looks, over a WebSocket.
    fn browser(&mut self) -> (Connection, UnixStream) {
        let (mut connection, mut theirs) = self.web();
        theirs.write_all(UPGRADE).unwrap();
        self.serve(&mut connection).unwrap();
        theirs.write_all(&frame(b"RFB 003.008\n\x01\x01")).unwrap();
        self.serve(&mut connection).unwrap();
        assert!(connection.viewer.is_ready() && connection.viewer.output.is_empty());
        let mut said = [0; 4096];
        assert!(theirs.read(&mut said).unwrap() > 0);
        (connection, theirs)
    }

    /// A viewer whose right password waits because of a wrong one before, for this long.
    fn suspect(&mut self) -> (Connection, UnixStream, Duration) {
        let password = Password::new(b"geheim").unwrap();
        self.throttle.wrong(Peer::Local, self.now);
        let wait = self.throttle.wait(Peer::Local, self.now);
        let response = password.response(CHALLENGE);
        let policy = Policy { password: Some(password), ..Policy::default() };
        let (mut connection, mut theirs) = self.connect(policy, Channel::plain);
        theirs.write_all(b"RFB 003.008\n\x02").unwrap();
        theirs.write_all(&response).unwrap();
        self.serve(&mut connection).unwrap();
        assert!(!connection.viewer.wants_input());
        (connection, theirs, wait)
    }

    fn serve(&mut self, connection: &mut Connection) -> Result<(), Gone> {
        let mut room = Room {
            now: self.now,
            throttle: &mut self.throttle,
            sink: Some(&mut self.keys),
            screen: (640, 480),
            name: "test",
            resize: None,
            is_active: false,
        };
        connection.serve(&mut room, self.tls.as_ref())
    }
}

/// A binary message as a browser sends it: masked, with a mask of zeros (RFC 6455 section 5.2).
fn frame(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    [&[0x82, 0xfe][..], &length, &[0; 4], bytes].concat()
}

#[test]
fn who_says_nothing_on_the_web_port_has_ten_seconds() {
    let mut place = Place::new();
    let (mut connection, _theirs) = place.web();
    assert_eq!(connection.deadline(), Some(place.now + Duration::from_secs(10)));
    place.now += Duration::from_secs(9);
    place.serve(&mut connection).unwrap();
    place.now += Duration::from_secs(1);
    assert!(matches!(place.serve(&mut connection), Err(Gone::Refused)));
}

#[test]
fn what_is_said_before_hanging_up_is_heard() {
    let mut place = Place::new();
    let (mut connection, mut theirs) = place.connect(Policy::default(), Channel::plain);
    theirs.write_all(b"RFB 003.008\n\x01\x01").unwrap();
    place.serve(&mut connection).unwrap();
    theirs.write_all(&KEY).unwrap();
    theirs.read_exact(&mut [0; 12 + 2 + 4 + 24 + 4]).unwrap();
    drop(theirs);
    connection.hung_up = true;
    assert!(matches!(place.serve(&mut connection), Err(Gone::Closed)));
    assert_eq!(place.keys.0, 1);
}

#[test]
fn who_hangs_up_while_he_has_to_wait_is_gone_at_once() {
    let mut place = Place::new();
    let (mut connection, theirs, _) = place.suspect();
    drop(theirs);
    connection.hung_up = true;
    assert!(matches!(place.serve(&mut connection), Err(Gone::Closed)));
}

#[test]
fn a_connection_that_breaks_is_gone() {
    let mut place = Place::new();
    let (mut connection, theirs) = place.connect(Policy::default(), Channel::plain);
    place.serve(&mut connection).unwrap();
    // With a greeting that it has not read, a socket is not closed but reset.
    drop(theirs);
    assert!(matches!(place.serve(&mut connection), Err(Gone::Io(_))));
}

#[test]
fn what_is_typed_while_the_answer_waits_stays_where_it_is() {
    let mut place = Place::new();
    let (mut connection, mut theirs, wait) = place.suspect();
    theirs.write_all(&[1]).unwrap();
    theirs.write_all(&KEY.repeat(3000)).unwrap();
    place.serve(&mut connection).unwrap();
    assert_eq!(place.keys.0, 0);
    place.now += wait;
    place.serve(&mut connection).unwrap();
    place.serve(&mut connection).unwrap();
    assert_eq!(place.keys.0, 3000);
}

/// What is not the viewer's turn any more waits above the socket, where no poll sees it; and nobody is served again and again
/// for nothing.
#[test]
fn a_long_message_is_taken_in_several_turns_and_then_there_is_no_more() {
    let mut place = Place::new();
    let (mut connection, mut theirs) = place.browser();
    assert!(!connection.may_have_more());
    theirs.write_all(&frame(&KEY.repeat(5000))).unwrap();
    let mut turns = 0;
    while place.keys.0 < 5000 {
        place.serve(&mut connection).unwrap();
        turns += 1;
        assert!(turns < 10 && (place.keys.0 == 5000 || connection.may_have_more()), "{}", place.keys.0);
    }
    assert!(turns > 1, "the others have their turns in between");
    place.serve(&mut connection).unwrap();
    assert!(!connection.may_have_more());
}

#[test]
fn a_browser_that_takes_little_at_a_time_is_sent_everything() {
    let mut place = Place::new();
    let (mut connection, mut theirs) = place.browser();
    connection.viewer.output.push(&[b'x'; 1 << 20]);
    connection.write().unwrap();
    place.serve(&mut connection).unwrap();
    assert!(!connection.viewer.output.is_empty(), "more than the socket takes");
    let reader = std::thread::spawn(move || {
        let mut piece = [0; 30_000];
        let mut count = 0;
        while count < 1 << 20 {
            let got = theirs.read(&mut piece).unwrap();
            assert_ne!(got, 0, "{count} bytes have come");
            count += piece[..got].iter().filter(|byte| **byte == b'x').count();
        }
        theirs
    });
    while !connection.viewer.output.is_empty() || connection.channel.wants_write() {
        rustix::event::poll(&mut [connection.poll_fd()], None).unwrap();
        place.serve(&mut connection).unwrap();
    }
    reader.join().unwrap();
}

#[test]
fn a_viewer_that_encrypts_goes_on_in_tls_and_is_let_in() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let mut place = Place::new();
    place.tls = Some(load_tls(&certificate, &key).unwrap());
    let policy = Policy { tls: Tls::Required, ..Policy::default() };
    let (mut connection, mut theirs) = place.connect(policy, Channel::plain);

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&certificate).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.unwrap().with_root_certificates(roots).with_no_client_auth();
    let viewer = std::thread::spawn(move || {
        theirs.write_all(b"RFB 003.008\n\x13\x00\x02\x00\x00\x01\x04").unwrap();
        let mut said = [0; 12 + 2 + 2 + 1 + 5 + 1];
        theirs.read_exact(&mut said).unwrap();
        assert_eq!(said[12..], [1, 19, 0, 2, 0, 1, 0, 0, 1, 4, 1]);
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls =
            rustls::StreamOwned::new(rustls::ClientConnection::new(Arc::new(config), name).unwrap(), theirs);
        // It is the server's turn: that nobody asks for a password.
        let mut result = [9; 4];
        tls.read_exact(&mut result).unwrap();
        assert_eq!(result, [0; 4]);
        tls.write_all(&[1]).unwrap();
        let mut size = [0; 4];
        tls.read_exact(&mut size).unwrap();
        size
    });
    while !(connection.viewer.is_ready() && connection.viewer.output.is_empty()) {
        place.serve(&mut connection).unwrap();
        if !connection.may_have_more() && !connection.viewer.is_ready() {
            rustix::event::poll(&mut [connection.poll_fd()], None).unwrap();
        }
    }
    assert_eq!(viewer.join().unwrap(), [2, 128, 1, 224], "640x480");
}
