//! Channels with TLS on them.

use std::net::{TcpListener, TcpStream};

use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::*;
use crate::net::tls::{BUFFER_LIMIT, TlsError, load_tls};

/// Certificate and key files, and a client that trusts them.
fn certificate() -> (tempfile::TempDir, Arc<ServerConfig>, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let server = load_tls(&cert, &key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_file(&cert).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    (dir, server, Arc::new(client.with_root_certificates(roots).with_no_client_auth()))
}

fn tls_client<S: Read + Write>(config: &Arc<ClientConfig>, stream: S) -> StreamOwned<ClientConnection, S> {
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), stream)
}

#[test]
fn a_plain_channel_goes_on_in_tls_after_its_last_plain_byte() {
    let (_dir, server, client) = certificate();
    let (ours, mut theirs) = pair();
    let mut channel = Channel::plain(ours);
    let viewer = thread::spawn(move || {
        let mut ready = [0];
        theirs.read_exact(&mut ready).unwrap();
        let mut tls = tls_client(&client, theirs);
        tls.write_all(&pattern(300_000)).unwrap();
        let mut bytes = vec![0; 300_000];
        tls.read_exact(&mut bytes).unwrap();
        tls.conn.send_close_notify();
        tls.flush().unwrap();
        bytes
    });
    write_all(&mut channel, b"1");
    channel.start_tls(server.clone(), &[], Instant::now()).unwrap();
    assert!(!channel.is_open() && channel.deadline().is_some());
    let bytes = read_exactly(&mut channel, 300_000);
    assert!(channel.is_open() && channel.deadline().is_none());
    assert_eq!(bytes, pattern(300_000));
    write_all(&mut channel, &bytes);
    assert_eq!(viewer.join().unwrap(), bytes);
    read_to_end(&mut channel).unwrap();
    assert_eq!(channel.start_tls(server, &[], Instant::now()).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_hello_read_too_early_is_a_hello() {
    let (_dir, server, client) = certificate();
    let (ours, theirs) = pair();
    let mut channel = Channel::plain(ours);
    let viewer = thread::spawn(move || {
        let mut tls = tls_client(&client, theirs);
        tls.write_all(b"secret").unwrap();
        tls
    });
    wait(&channel, false);
    let mut early = [0; 100];
    let length = channel.read(&mut early).unwrap();
    channel.start_tls(server, &early[..length], Instant::now()).unwrap();
    assert_eq!(read_exactly(&mut channel, 6), b"secret");
    viewer.join().unwrap();
}

#[test]
fn garbage_instead_of_a_hello_is_an_error_and_gets_an_alert() {
    let (_dir, server, _) = certificate();
    let (ours, mut theirs) = pair();
    let mut channel = Channel::plain(ours);
    channel.start_tls(server.clone(), &[], Instant::now()).unwrap();
    theirs.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!(read_to_end(&mut channel).unwrap_err().kind(), ErrorKind::InvalidData);
    let mut alert = [0; 1];
    theirs.read_exact(&mut alert).unwrap();
    assert_eq!(alert[0], 21, "the content type of an alert, RFC 8446 section 5.1");
    let mut other = Channel::plain(pair().0);
    assert!(other.start_tls(server, &[0xff; 64], Instant::now()).is_err());
}

#[test]
fn a_tls_peer_that_never_reads_costs_the_limit() {
    let (_dir, server, client) = certificate();
    let (ours, theirs) = pair();
    let mut channel = Channel::plain(ours);
    channel.start_tls(server, &[], Instant::now()).unwrap();
    let viewer = thread::spawn(move || {
        let mut tls = tls_client(&client, theirs);
        tls.write_all(b"x").unwrap();
        tls
    });
    read_exactly(&mut channel, 1);
    let mut viewer = viewer.join().unwrap();
    let bytes = pattern(1 << 20);
    let mut taken = 0;
    let error = loop {
        match channel.write(&bytes[taken..taken + 10_000]) {
            Ok(length) => taken += length,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert!(channel.wants_write());
    assert!((BUFFER_LIMIT..(1 << 20)).contains(&taken), "{taken} bytes");
    // It is heard all the same, and when it does read it has every byte that was taken, each once.
    viewer.write_all(b"y").unwrap();
    assert_eq!(read_exactly(&mut channel, 1), b"y");
    let reader = thread::spawn(move || {
        let mut got = vec![0; taken];
        viewer.read_exact(&mut got).unwrap();
        (viewer, got)
    });
    while channel.wants_write() {
        settle(channel.flush());
        if channel.wants_write() {
            wait(&channel, false);
        }
    }
    let (viewer, got) = reader.join().unwrap();
    assert!(got == bytes[..taken], "bytes were lost, repeated or changed");
    // Gone without TLS's goodbye, which is no error.
    drop(viewer);
    read_to_end(&mut channel).unwrap();
}

#[test]
fn a_browser_comes_over_tls_too() {
    let (_dir, server, client) = certificate();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let ours = Stream::tcp(listener.accept().unwrap().0).unwrap();
    let mut channel = Channel::web(ours, Arc::default(), Some(server), Instant::now()).unwrap();
    assert!(!channel.is_open() && channel.deadline().is_some());
    let uri = format!("ws://localhost:{port}/websockify");
    let browser = browse(tls_client(&client, stream), &uri);
    write_all(&mut channel, &pattern(500));
    let mut browser = browser.join().unwrap();
    assert_eq!(browser.read().unwrap().into_data().as_ref(), pattern(500));
    browser.send(Message::binary(pattern(100_000))).unwrap();
    assert_eq!(read_exactly(&mut channel, 100_000), pattern(100_000));
    let server = ServerConfig::clone(&certificate().1);
    assert!(
        channel.start_tls(Arc::new(server), &[], Instant::now()).is_err(),
        "a WebSocket has its TLS below"
    );
}

#[test]
fn tls_files_that_are_wrong_are_named() {
    let (dir, ..) = certificate();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let other = dir.path().join("other.pem");
    std::fs::write(&other, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert!(matches!(load_tls(&cert, &other), Err(TlsError::Pair { .. })));
    assert!(matches!(load_tls(&key, &key), Err(TlsError::NoCertificate(_))));
    let error = load_tls(&cert, &cert).unwrap_err();
    assert_eq!(error.to_string(), format!("{}: expected a private key in PEM form", cert.display()));
    let missing = dir.path().join("missing.pem");
    let error = load_tls(&missing, &key).unwrap_err();
    assert!(error.to_string().starts_with(&missing.display().to_string()), "{error}");
}
