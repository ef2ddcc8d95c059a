//! Channels against peers on real sockets: honest ones, ones that stall, and ones that lie.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::{Message, client::IntoClientRequest};

use super::*;
use crate::net::http::MAX_HEAD;
use crate::net::websocket::{CHUNK, MAX_MESSAGE};

mod tls;

type Browser<S> = tungstenite::WebSocket<S>;

fn pair() -> (Stream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    (Stream::unix(ours).unwrap(), theirs)
}

fn web() -> (Channel, UnixStream) {
    let (ours, theirs) = pair();
    (Channel::web(ours, Arc::default(), None, Instant::now()).unwrap(), theirs)
}

/// Waits for the socket as the loop would.
fn wait(channel: &Channel, output: bool) {
    let mut poll = [rustix::event::PollFd::new(channel, channel.interest(output))];
    let limit = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
    assert_ne!(rustix::event::poll(&mut poll, Some(&limit)).unwrap(), 0, "nothing happened in ten seconds");
}

/// Reads `count` bytes as the loop would, in pieces of a few bytes and more.
fn read_exactly(channel: &mut Channel, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 777];
    while bytes.len() < count {
        let room = (count - bytes.len()).min(buffer.len());
        match channel.read(&mut buffer[..room]) {
            Ok(0) => panic!("ended after {} of {count} bytes", bytes.len()),
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                settle(channel.flush());
                wait(channel, false);
            }
            Err(error) => panic!("{error}"),
        }
    }
    bytes
}

fn read_to_end(channel: &mut Channel) -> io::Result<()> {
    loop {
        match channel.read(&mut [0; 512]) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                settle(channel.flush());
                wait(channel, false);
            }
            Ok(_) => {}
            Err(error) => return Err(error),
        }
    }
}

fn write_all(channel: &mut Channel, mut bytes: &[u8]) {
    while !bytes.is_empty() || channel.wants_write() {
        match channel.write(bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
        settle(channel.flush());
        if !bytes.is_empty() || channel.wants_write() {
            wait(channel, true);
            if !channel.is_open() {
                settle(channel.read(&mut []));
            }
        }
    }
}

fn settle<T>(result: io::Result<T>) {
    if let Err(error) = result {
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
    }
}

/// Opens a WebSocket from the other end of a channel.
fn browse<S: Read + Write + Send + 'static>(theirs: S, uri: &str) -> thread::JoinHandle<Browser<S>> {
    let mut request = uri.into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", "binary".parse().unwrap());
    thread::spawn(move || {
        let (browser, response) = tungstenite::client(request, theirs).unwrap();
        assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "binary");
        browser
    })
}

fn open_web() -> (Channel, Browser<UnixStream>) {
    let (mut channel, theirs) = web();
    let browser = browse(theirs, "ws://localhost/websockify");
    write_all(&mut channel, b"hello");
    assert!(channel.is_open() && channel.deadline().is_none());
    let mut browser = browser.join().unwrap();
    assert_eq!(browser.read().unwrap().into_data().as_ref(), b"hello");
    (channel, browser)
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| u8::try_from((n * 7 + n / 251) % 256).unwrap()).collect()
}

#[test]
fn plain_bytes_pass_both_ways_and_the_end_is_an_end() {
    let (ours, mut theirs) = pair();
    let mut channel = Channel::plain(ours);
    assert!(channel.is_open() && channel.deadline().is_none());
    assert_eq!(channel.read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(!channel.may_have_more());
    theirs.write_all(b"RFB").unwrap();
    assert_eq!(read_exactly(&mut channel, 3), b"RFB");
    write_all(&mut channel, b"003");
    let mut bytes = [0; 3];
    theirs.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"003");
    assert_eq!(channel.interest(false), PollFlags::IN);
    assert_eq!(channel.interest(true), PollFlags::IN | PollFlags::OUT);
    channel.close();
    assert_eq!(theirs.read(&mut bytes).unwrap(), 0);
    drop(theirs);
    assert_eq!(channel.read(&mut [0; 9]).unwrap(), 0);
}

#[test]
fn messages_of_many_sizes_are_one_stream_both_ways() {
    let (mut channel, browser) = open_web();
    let sizes = [0, 1, 125, 126, 127, 4096, 65535, 65536, CHUNK - 1, CHUNK, CHUNK + 1, MAX_MESSAGE];
    let total: usize = sizes.iter().sum();
    let echo = thread::spawn(move || {
        let mut browser = browser;
        let mut got = Vec::new();
        while got.len() < total {
            got.extend_from_slice(&browser.read().unwrap().into_data());
        }
        let mut at = 0;
        for size in sizes {
            browser.send(Message::binary(got[at..at + size].to_vec())).unwrap();
            at += size;
        }
        browser
    });
    let bytes = pattern(total);
    let mut at = 0;
    for size in sizes {
        write_all(&mut channel, &bytes[at..at + size]);
        at += size;
    }
    assert_eq!(read_exactly(&mut channel, total), bytes);
    echo.join().unwrap();
}

#[test]
fn a_message_in_fragments_with_pings_between_is_read_and_answered() {
    let (mut channel, mut browser) = open_web();
    let fragment =
        |data: &'static [u8], code, last| Message::Frame(Frame::message(data, OpCode::Data(code), last));
    browser.send(fragment(b"frag", Data::Binary, false)).unwrap();
    browser.send(Message::Ping("are you there".into())).unwrap();
    browser.send(fragment(b"men", Data::Continue, false)).unwrap();
    browser.send(fragment(b"ted", Data::Continue, true)).unwrap();
    assert_eq!(read_exactly(&mut channel, 10), b"fragmented");
    assert_eq!(browser.read().unwrap(), Message::Pong("are you there".into()));
}

#[test]
fn a_ping_needs_nothing_but_to_be_read() {
    let (mut channel, mut browser) = open_web();
    browser.send(Message::Ping("are you there".into())).unwrap();
    wait(&channel, false);
    assert_eq!(channel.read(&mut [0; 16]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(browser.read().unwrap(), Message::Pong("are you there".into()));
}

#[test]
fn text_and_what_is_too_large_end_the_connection_with_a_reason() {
    for (message, code) in [
        (Message::text("RFB 003.008\n"), 1003),
        (Message::binary(vec![0; MAX_MESSAGE + 1]), 1009),
        (Message::Frame(Frame::message(&b"x"[..], OpCode::Data(Data::Continue), true)), 1002),
    ] {
        let (mut channel, browser) = open_web();
        let sender = thread::spawn(move || {
            let mut browser = browser;
            let _ = browser.send(message);
            browser
        });
        assert_eq!(read_to_end(&mut channel).unwrap_err().kind(), ErrorKind::InvalidData);
        let Message::Close(Some(close)) = ({
            // Lets a large message through, so that its sender comes to read.
            drain(&mut channel);
            sender.join().unwrap().read().unwrap()
        }) else {
            panic!("no close frame")
        };
        assert_eq!(u16::from(close.code), code);
    }
}

/// Takes what is on the socket, whatever it means.
fn drain(channel: &mut Channel) {
    let mut buffer = vec![0; 4 * MAX_MESSAGE];
    thread::sleep(Duration::from_millis(20));
    while let Ok(1..) = io::Read::read(&mut channel.transport, &mut buffer) {
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn fragments_cannot_grow_past_the_limit() {
    let (mut channel, browser) = open_web();
    let sender = thread::spawn(move || {
        let mut browser = browser;
        for n in 0.. {
            let code = if n == 0 { Data::Binary } else { Data::Continue };
            let frame = Frame::message(vec![0; 10_000], OpCode::Data(code), false);
            if browser.send(Message::Frame(frame)).is_err() {
                return n;
            }
        }
        0
    });
    assert_eq!(read_to_end(&mut channel).unwrap_err().kind(), ErrorKind::InvalidData);
    drop(channel);
    assert!(sender.join().unwrap() > 20);
}

#[test]
fn a_close_frame_is_answered_and_is_the_end() {
    let (mut channel, mut browser) = open_web();
    browser.send(Message::binary(&b"last"[..])).unwrap();
    browser.close(None).unwrap();
    assert_eq!(read_exactly(&mut channel, 4), b"last");
    read_to_end(&mut channel).unwrap();
    assert!(matches!(browser.read().unwrap(), Message::Close(_)));
    let (mut channel, mut browser) = open_web();
    channel.close();
    assert!(matches!(browser.read().unwrap(), Message::Close(_)));
    let (mut channel, browser) = open_web();
    drop(browser);
    read_to_end(&mut channel).unwrap();
}

#[test]
fn a_peer_that_never_reads_costs_one_message() {
    let (mut channel, mut browser) = open_web();
    let mut taken = 0;
    let full = |channel: &mut Channel, taken: &mut usize| {
        let bytes = vec![0; 1 << 20];
        loop {
            match channel.write(&bytes) {
                Ok(length) => *taken += length,
                Err(error) => break assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
    };
    full(&mut channel, &mut taken);
    let before = taken;
    // Its pings are still read, and their answers do not pile up.
    browser.get_mut().set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    for _ in 0..5000 {
        browser.send(Message::Ping(vec![0; 125].into())).unwrap();
        settle(channel.read(&mut [0; 16]));
    }
    full(&mut channel, &mut taken);
    assert_eq!(taken, before, "nothing more is taken");
    assert!(channel.wants_write() && channel.interest(false).contains(PollFlags::OUT));
    assert!(taken < (1 << 20), "{taken} bytes: what the kernel holds and one message");
    // What it types behind a ping is heard although that cannot be answered.
    browser.write(Message::Ping("x".into())).unwrap();
    browser.send(Message::binary(&b"still heard"[..])).unwrap();
    let mut heard = [0; 16];
    assert_eq!(channel.read(&mut heard).unwrap(), 11);
    assert_eq!(&heard[..11], b"still heard");
}

#[test]
fn the_page_is_sent_however_slowly_it_is_asked_for() {
    let (mut channel, mut theirs) = web();
    assert!(!channel.is_open() && channel.deadline().is_some());
    for byte in b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" {
        assert_eq!(channel.read(&mut [0; 16]).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(channel.write(b"RFB").unwrap_err().kind(), ErrorKind::WouldBlock, "not a viewer");
        assert_eq!(channel.interest(true), PollFlags::IN);
        theirs.write_all(&[*byte]).unwrap();
    }
    assert_eq!(channel.read(&mut [0; 16]).unwrap_err().kind(), ErrorKind::WouldBlock);
    let mut response = String::new();
    theirs.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && response.ends_with("</html>\n"), "{response}");
    drop(theirs);
    assert_eq!(channel.read(&mut [0; 16]).unwrap(), 0);
}

#[test]
fn the_page_is_sent_however_slowly_it_is_taken() {
    let (ours, mut theirs) = pair();
    rustix::net::sockopt::set_socket_send_buffer_size(&ours, 1).unwrap();
    let mut channel = Channel::web(ours, Arc::default(), None, Instant::now()).unwrap();
    theirs.write_all(b"GET /rfb.js HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    settle(channel.read(&mut [0; 16]));
    assert!(channel.wants_write(), "less than the page has room");
    let reader = thread::spawn(move || {
        let mut response = Vec::new();
        theirs.read_to_end(&mut response).unwrap();
        response
    });
    read_to_end(&mut channel).unwrap();
    assert!(reader.join().unwrap().ends_with(include_bytes!("../page/rfb.js")));
}

#[test]
fn endless_heads_and_endless_leave_takings_are_bounded() {
    let (mut channel, mut theirs) = web();
    let deadline = channel.deadline();
    assert!(deadline <= Instant::now().checked_add(OPENING_TIME) && deadline.is_some());
    theirs.write_all(b"GET / HTTP/1.1\r\nX: ").unwrap();
    theirs.write_all(&vec![b'x'; 2 * MAX_HEAD]).unwrap();
    for _ in 0..100 {
        // The peer sends for ever; each call does a little, and the deadline stays what it was.
        settle(channel.read(&mut [0; 16]));
        theirs.write_all(&[b'y'; 100]).unwrap();
        assert_eq!(channel.deadline(), deadline);
    }
    theirs.shutdown(std::net::Shutdown::Write).unwrap();
    let mut response = String::new();
    theirs.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 431 "), "{response}");
    read_to_end(&mut channel).unwrap();
}

#[test]
fn frames_that_came_with_the_request_are_not_lost() {
    let (mut channel, mut theirs) = web();
    let mut bytes =
        b"GET /websockify HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            .to_vec();
    bytes.extend([0x82, 0x83, 0, 0, 0, 0, b'a', b'b', b'c']);
    theirs.write_all(&bytes).unwrap();
    settle(channel.flush());
    assert!(channel.is_open() && channel.may_have_more(), "the socket will not say so");
    assert_eq!(read_exactly(&mut channel, 3), b"abc");
}
