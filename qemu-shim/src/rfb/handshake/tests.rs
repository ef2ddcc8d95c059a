use proptest::prelude::*;

use super::*;

const CHALLENGE: [u8; CHALLENGE_SIZE] = *b"0123456789abcdef";

fn password() -> Password {
    Password::new(b"secret").unwrap()
}

fn policy(with_password: bool, tls: Tls) -> Policy {
    Policy { password: with_password.then(password), tls }
}

/// What a server does about a client's bytes, given all at once or one by one. What is sent in a row is joined; TLS and the
/// rest are words in it.
fn talk(policy: &Policy, client: &[u8], portion: usize) -> (Vec<u8>, Option<Step>) {
    let mut handshake = Handshake::new(policy.clone(), CHALLENGE);
    let mut sent = Vec::new();
    let mut unread: Vec<u8> = Vec::new();
    for part in std::iter::once(&[][..]).chain(client.chunks(portion)) {
        unread.extend(part);
        let mut input = unread.as_slice();
        loop {
            match handshake.feed(&mut input) {
                Step::NeedMore => break,
                Step::Send(bytes) => sent.extend(bytes),
                Step::StartTls(bytes) => {
                    sent.extend(bytes);
                    sent.extend(b"<tls>");
                }
                Step::Authenticated => sent.extend(b"<proven>"),
                end => return (sent, Some(end)),
            }
        }
        assert!(input.len() <= MAX_UNREAD, "{} bytes left", input.len());
        unread = input.to_vec();
    }
    (sent, None)
}

#[track_caller]
fn ready(policy: &Policy, client: &[&[u8]], server: &[&[u8]]) {
    let (sent, end) = talk(policy, &client.concat(), 1);
    let server = server.concat();
    assert_eq!(sent.escape_ascii().to_string(), server.escape_ascii().to_string());
    assert_eq!(end, Some(Step::Ready { shared: true }));
}

#[track_caller]
fn failed(policy: &Policy, client: &[&[u8]], server: &[&[u8]], last: &[u8], error: HandshakeError) {
    for portion in [1, usize::MAX] {
        let (sent, end) = talk(policy, &client.concat(), portion);
        assert_eq!(sent.escape_ascii().to_string(), server.concat().escape_ascii().to_string());
        assert_eq!(end, Some(Step::Failed { reply: last.to_vec(), error }));
    }
}

fn reason(error: HandshakeError) -> Vec<u8> {
    counted(error.to_string().as_bytes())
}

const V3: &[u8] = b"RFB 003.003\n";
const V7: &[u8] = b"RFB 003.007\n";
const V8: &[u8] = b"RFB 003.008\n";
const OK: &[u8] = &[0, 0, 0, 0];
const NO: &[u8] = &[0, 0, 0, 1];
const SHARED: &[u8] = &[1];

#[test]
fn no_security() {
    let open = policy(false, Tls::Off);
    ready(&open, &[V3, SHARED], &[V8, &[0, 0, 0, 1]]);
    ready(&open, &[b"RFB 003.005\n", SHARED], &[V8, &[0, 0, 0, 1]]);
    ready(&open, &[V7, &[1], SHARED], &[V8, &[1, 1]]);
    ready(&open, &[V8, &[1], SHARED], &[V8, &[1, 1], OK]);
    ready(&open, &[b"RFB 003.889\n", &[1], SHARED], &[V8, &[1, 1], OK]);
}

#[test]
fn a_password() {
    let locked = policy(true, Tls::Off);
    let right = &password().response(CHALLENGE);
    ready(&locked, &[V3, right, SHARED], &[V8, &[0, 0, 0, 2], &CHALLENGE, b"<proven>", OK]);
    ready(&locked, &[V7, &[2], right, SHARED], &[V8, &[1, 2], &CHALLENGE, b"<proven>", OK]);
    ready(&locked, &[V8, &[2], right, SHARED], &[V8, &[1, 2], &CHALLENGE, b"<proven>", OK]);
}

#[test]
fn a_wrong_password() {
    let locked = policy(true, Tls::Off);
    let wrong = &Password::new(b"secreT").unwrap().response(CHALLENGE);
    let error = HandshakeError::WrongPassword;
    assert!(error.is_wrong_password());
    failed(&locked, &[V3, wrong, SHARED], &[V8, &[0, 0, 0, 2], &CHALLENGE], NO, error);
    failed(&locked, &[V7, &[2], wrong], &[V8, &[1, 2], &CHALLENGE], NO, error);
    failed(&locked, &[V8, &[2], wrong], &[V8, &[1, 2], &CHALLENGE], &[NO, &reason(error)].concat(), error);
}

#[test]
fn tls_with_and_without_a_password() {
    let right = &password().response(CHALLENGE);
    let subtype = |number: u32| number.to_be_bytes();
    for version in [V7, V8] {
        // In clear until the <tls>; the client may send nothing early, so it is talked to in small portions.
        ready(
            &policy(false, Tls::Required),
            &[version, &[19], &[0, 2], &subtype(260), SHARED],
            &[V8, &[1, 19], &[0, 2], &[0, 1], &subtype(260), &[1], b"<tls>", OK],
        );
        ready(
            &policy(true, Tls::Offered),
            &[version, &[19], &[0, 2], &subtype(261), right, SHARED],
            &[V8, &[2, 19, 2], &[0, 2], &[0, 1], &subtype(261), &[1], b"<tls>", &CHALLENGE, b"<proven>", OK],
        );
    }
    // Who does not want it goes on without, if that is allowed.
    ready(&policy(false, Tls::Offered), &[V8, &[1], SHARED], &[V8, &[2, 19, 1], OK]);
    let error = HandshakeError::TlsRequired;
    failed(&policy(true, Tls::Required), &[V3], &[V8], &[OK, &reason(error)].concat(), error);
}

#[test]
fn tls_begins_with_nothing_said() {
    let early = [V8, &[19], &[0, 2], &260_u32.to_be_bytes(), b"\x16\x03\x01"].concat();
    let (_, end) = talk(&policy(false, Tls::Required), &early, usize::MAX);
    assert_eq!(end, Some(Step::Failed { reply: vec![0], error: HandshakeError::EarlyData(3) }));
}

#[test]
fn what_was_not_offered_is_refused() {
    let (open, tls) = (policy(false, Tls::Off), policy(true, Tls::Required));
    for chosen in [0, 2, 5, 18, 19, 255] {
        let error = HandshakeError::SecurityType(chosen);
        failed(&open, &[V8, &[chosen]], &[V8, &[1, 1]], &[NO, &reason(error)].concat(), error);
        failed(&open, &[V7, &[chosen]], &[V8, &[1, 1]], NO, error);
    }
    let offer: &[&[u8]] = &[V8, &[1, 19], &[0, 2]];
    let error = HandshakeError::VeNCryptVersion { major: 0, minor: 1 };
    failed(&tls, &[V8, &[19], &[0, 1]], offer, &[255], error);
    for found in [0, 1, 256, 258, 260, u32::MAX] {
        let error = HandshakeError::VeNCryptSubtype { expected: 261, found };
        let offer = &[V8, &[1, 19], &[0, 2], &[0, 1], &261_u32.to_be_bytes()[..]];
        failed(&tls, &[V8, &[19], &[0, 2], &found.to_be_bytes()], offer, &[0], error);
    }
}

#[test]
fn other_protocols_are_told_off() {
    let open = policy(false, Tls::Off);
    failed(&open, &[b"GET / HTTP/1.1\r\n"], &[V8], &[], HandshakeError::NotRfb);
    failed(&open, &[b"R\0"], &[V8], &[], HandshakeError::NotRfb);
    failed(&open, &[b"RFB 00a.008\n"], &[V8], &[], HandshakeError::NotRfb);
    let error = HandshakeError::Version { major: 5, minor: 0 };
    failed(&open, &[b"RFB 005.000\n"], &[V8], &[&[0], &reason(error)[..]].concat(), error);
    let error = HandshakeError::Version { major: 2, minor: 2 };
    failed(&open, &[b"RFB 002.002\n"], &[V8], &[OK, &reason(error)].concat(), error);
}

#[test]
fn the_end_is_the_end() {
    let mut handshake = Handshake::new(policy(false, Tls::Off), CHALLENGE);
    let all = [V8, &[1, 0], b"message"].concat();
    let mut input = all.as_slice();
    let mut step = handshake.feed(&mut input);
    while matches!(step, Step::Send(_)) {
        step = handshake.feed(&mut input);
    }
    assert_eq!((step, input), (Step::Ready { shared: false }, b"message".as_slice()));
    assert_eq!(handshake.feed(&mut input), Step::NeedMore);
    assert_eq!(input, b"message", "which is not ours to read");

    let mut handshake = Handshake::new(policy(false, Tls::Off), CHALLENGE);
    handshake.feed(&mut b"".as_slice());
    assert!(matches!(handshake.feed(&mut b"X".as_slice()), Step::Failed { .. }));
    let over = Step::Failed { reply: Vec::new(), error: HandshakeError::Over };
    assert_eq!(handshake.feed(&mut b"".as_slice()), over);
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let tls = prop_oneof![Just(Tls::Off), Just(Tls::Offered), Just(Tls::Required)];
    (any::<bool>(), tls).prop_map(|(with_password, tls)| policy(with_password, tls))
}

/// Bytes that get somewhere more often than random ones.
fn any_client() -> impl Strategy<Value = Vec<u8>> {
    let right = password().response(CHALLENGE).to_vec();
    let word = prop_oneof![
        4 => prop::sample::select(vec![V3.to_vec(), V7.to_vec(), V8.to_vec()]),
        4 => prop::sample::select(vec![vec![1], vec![2], vec![19], vec![0, 2], right]),
        2 => prop::sample::select(vec![vec![0, 0, 1, 4], vec![0, 0, 1, 5]]),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ];
    prop::collection::vec(word, 0..8).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn any_portions_are_the_same(policy in any_policy(), client in any_client(), portion in 1_usize..40) {
        let early = |end: &Option<Step>| {
            matches!(end, Some(Step::Failed { error: HandshakeError::EarlyData(_), .. }))
        };
        let (one, other) = (talk(&policy, &client, 1), talk(&policy, &client, portion));
        // What a client sends too early for TLS may come too late to be seen as that.
        prop_assert!(one == other || early(&one.1) || early(&other.1), "{:?} {:?}", one, other);
    }

    #[test]
    fn nobody_gets_in_without_the_password(client in any_client(), tls in prop_oneof![Just(Tls::Off), Just(Tls::Offered)]) {
        let policy = Policy { password: Some(Password::new(b"other").unwrap()), tls };
        let (_, end) = talk(&policy, &client, 1);
        let is_ready = matches!(end, Some(Step::Ready { .. }));
        prop_assert!(!is_ready);
    }
}
