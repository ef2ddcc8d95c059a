//! Viewers that do harm: the others must not notice.

use std::io::{Read, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use qemu_shim::rfb::handshake::Policy;
use qemu_shim::rfb::security::Password;

use crate::stage::Stage;
use crate::viewer::{DESKTOP_SIZE, Viewer};

/// Whether the server still serves.
fn assert_serves(stage: &Stage) {
    let mut viewer = Viewer::connect(&stage.path);
    viewer.set_encodings(&[0, DESKTOP_SIZE]);
    assert!(!viewer.update(false).is_empty());
}

#[test]
fn garbage_ends_the_connection_and_nothing_else() {
    let stage = Stage::new("mbochs-small");
    stage.mode(640, 480);
    let openings: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"RFB 004.001\n\x01",
        b"RFB 003.008\n\x63",
        &[0xff; 4096],
        b"RFB 999.999\n",
    ];
    for opening in openings {
        let mut viewer = Viewer::raw(&stage.path);
        viewer.send(opening);
        while !viewer.is_closed() {}
        assert_serves(&stage);
    }
    let messages: [&[u8]; 5] = [
        &[99],
        &[255, 7, 0, 0],
        // Zero bits per pixel; then maxima that overlap.
        &[0, 0, 0, 0, 0, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0],
        &[0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 0, 0, 0, 0, 0, 0],
        &[248, 0, 0, 0, 0x80, 0, 0, 0, 255],
    ];
    for message in messages {
        let mut viewer = Viewer::connect(&stage.path);
        viewer.send(message);
        assert!(viewer.is_closed(), "{message:?}");
        assert_serves(&stage);
    }
}

#[test]
fn absurd_but_legal_messages_are_taken() {
    let stage = Stage::new("mbochs-small");
    stage.mode(640, 480);
    let mut viewer = Viewer::connect(&stage.path);
    let many: Vec<i32> = (0..u16::MAX).map(i32::from).chain([DESKTOP_SIZE]).skip(1).collect();
    viewer.set_encodings(&many);
    viewer.send(&[3, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    viewer.send(&[150, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    viewer.send(&[5, 0xff, 0xff, 0xff, 0xff, 0xff]);
    viewer.send(&[4, 1, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    // A clipboard of a megabyte, byte by byte at its ends.
    let text = vec![b'x'; 1 << 20];
    viewer.send(&[6]);
    viewer.send(&[0, 0, 0, 0, 0x10]);
    viewer.send(&[0, 0]);
    viewer.send(&text);
    viewer.set_encodings(&[0, DESKTOP_SIZE]);
    for byte in [3, 0, 0, 0, 0, 0, 2, 128, 1, 224] {
        viewer.send(&[byte]);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(!viewer.receive().is_empty());
}

#[test]
fn one_that_never_reads_holds_up_nobody_and_costs_one_picture() {
    let stage = Stage::new("mbochs-medium");
    stage.mode(1024, 768);
    let mut deaf = Viewer::connect(&stage.path);
    deaf.send(&[150, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    // It asks, and never takes an answer.
    deaf.stream.set_nonblocking(true).unwrap();
    let mut fence = vec![248, 0, 0, 0, 0x80, 0, 0, 0, 64];
    fence.extend([7; 64]);
    let mut sent = 0usize;
    let mut rejected = 0;
    while rejected < 50 {
        match deaf.stream.write(&fence) {
            Ok(count) => sent += count,
            Err(_) => {
                rejected += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        assert!(sent < 64 << 20, "the server reads on and on without being read");
    }
    let mut viewer = Viewer::connect(&stage.path);
    viewer.set_encodings(&[0, DESKTOP_SIZE]);
    viewer.update(false);
    for turn in 1..20u8 {
        stage.draw(0, &[turn; 4]);
        while viewer.pixels[0] & 0xff != u32::from(turn) {
            viewer.update(true);
        }
    }
}

#[test]
fn many_come_and_go() {
    let stage = Stage::new("mbochs-small");
    stage.mode(640, 480);
    let mut crowd: Vec<Viewer> = (0..63).map(|_| Viewer::connect(&stage.path)).collect();
    assert_serves(&stage);
    std::thread::sleep(Duration::from_millis(300));
    for viewer in &mut crowd {
        viewer.request(false);
    }
    crowd.push(Viewer::connect(&stage.path));
    assert!(Viewer::raw(&stage.path).is_closed(), "there is a limit");
    drop(crowd);
    std::thread::sleep(Duration::from_millis(200));
    assert_serves(&stage);
}

/// What guessing costs: once the answers to a peer wait for a minute, it is not let in at all.
#[test]
fn who_guesses_on_many_connections_is_soon_let_in_no_more() {
    let policy = Policy { password: Some(Password::new(b"geheim").unwrap()), ..Policy::default() };
    let stage = Stage::with("mbochs-small", policy);
    let mut guesses = Vec::new();
    loop {
        let mut viewer = Viewer::raw(&stage.path);
        let mut greeting = [0; 12];
        if viewer.stream.read_exact(&mut greeting).is_err() {
            break;
        }
        viewer.send(b"RFB 003.008\n\x02");
        viewer.expect(&[1, 2]);
        viewer.skip(16);
        viewer.send(&[0; 16]);
        guesses.push(viewer);
        assert!(guesses.len() < 40, "and on and on");
    }
    assert!(guesses.len() >= 6, "{}", guesses.len());
    // Those who go while their answers wait leave nothing behind that keeps the server busy.
    drop(guesses);
    std::thread::sleep(Duration::from_millis(100));
    assert_rests(&stage);
}

/// Whether the server sleeps as long as nobody wants anything.
fn assert_rests(stage: &Stage) {
    let before = stage.cpu_time();
    std::thread::sleep(Duration::from_secs(1));
    let busy = stage.cpu_time() - before;
    assert!(busy < Duration::from_millis(30), "busy for {busy:?} of a second");
}

#[test]
fn who_says_nothing_costs_nothing() {
    let stage = Stage::new("mbochs-small");
    stage.mode(640, 480);
    let _nobody = Viewer::connect(&stage.path);
    let mut stranger = Viewer::raw(&stage.path);
    stranger.expect(b"RFB 003.008\n");
    std::thread::sleep(Duration::from_millis(100));
    // Somebody about to come in is worth ten looks in a second.
    let before = stage.looks.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_secs(1));
    let looks = stage.looks.load(Ordering::Relaxed) - before;
    assert!(looks <= 40, "{looks} questions in a second");
    drop(stranger);
    std::thread::sleep(Duration::from_millis(100));
    assert_rests(&stage);
}

#[test]
fn wrong_passwords_are_slowed_and_the_right_one_works() {
    let password = Password::new(b"geheim").unwrap();
    let policy = Policy { password: Some(password.clone()), ..Policy::default() };
    let stage = Stage::with("mbochs-small", policy);
    let attempt = |right: bool| {
        let mut viewer = Viewer::raw(&stage.path);
        viewer.expect(b"RFB 003.008\n");
        viewer.send(b"RFB 003.008\n");
        viewer.expect(&[1, 2]);
        viewer.send(&[2]);
        let challenge = viewer.read::<16>();
        let answer = if right { password.response(challenge) } else { [0; 16] };
        viewer.send(&answer);
        let result = viewer.read32();
        if result != 0 {
            let mut reason = Vec::new();
            viewer.stream.read_to_end(&mut reason).unwrap();
        } else {
            viewer.come_in();
        }
        result
    };
    assert_eq!(attempt(true), 0);
    assert_eq!(attempt(false), 1);
    let start = Instant::now();
    assert_eq!(attempt(false), 1);
    let slowed = start.elapsed();
    assert!(slowed >= Duration::from_millis(900), "{slowed:?}");
    assert_eq!(attempt(true), 0, "late, but let in");
}
