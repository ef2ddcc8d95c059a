//! The console's side against servers that do not follow the protocol, in reply to each of its messages in turn.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use vfio_gfx::abi::caps::CapError;
use vfio_gfx::abi::{Errno, Interface};
use vfio_gfx::display::{Display, DisplayError, Remote};
use vfio_gfx::vfio_user::{ClientError, HeaderError};

use crate::fake::{Answer, EDID, Fake, Honest, Request};
use crate::fixture::Turn;
use crate::hostile::{await_fds, open_fds};
use crate::liars::{assert_error, lie, lie_of_region, look, watched};
use crate::peer::{
    GET_INFO, GET_REGION_INFO, MOST_FDS, QUERY_GFX_PLANE, REGION_READ, VERSION, message, sized, u32_at,
    version, words,
};

/// How many messages a whole look takes.
fn messages(interface: Interface) -> usize {
    let (sender, numbers) = std::sync::mpsc::channel();
    let fake = Fake::start(interface, move |number, _, _| sender.send(number).map(|()| None).unwrap());
    assert!(look(&fake).unwrap().is_some());
    drop(fake);
    numbers.iter().last().unwrap() + 1
}

type Lie = fn(&Request, &Honest) -> Answer;

/// What a client makes of it.
type Verdict = fn(&ClientError) -> bool;

const LIES: [(&str, Lie, Verdict); 12] = [
    ("closed", |_, _| Answer::End(vec![]), |e| matches!(e, ClientError::Closed)),
    ("half a header", |_, _| Answer::End(vec![1; 9]), |e| matches!(e, ClientError::Closed)),
    (
        "half a payload",
        |r, _| Answer::End(sized(r.id, r.command, 1, 500, &[0; 100])),
        |e| matches!(e, ClientError::Closed),
    ),
    ("refused", |_, _| Answer::Refuse(5), |e| matches!(e, ClientError::Refused { errno: Errno::EIO, .. })),
    (
        "another id",
        |r, _| Answer::Raw(message(r.id ^ 1, r.command, 1, &[0; 128]), vec![]),
        |e| matches!(e, ClientError::Unexpected { .. }),
    ),
    (
        "another command",
        |r, _| Answer::Raw(message(r.id, r.command ^ 1, 1, &[0; 128]), vec![]),
        |e| matches!(e, ClientError::Unexpected { .. }),
    ),
    (
        "a command",
        |r, _| Answer::Raw(message(r.id, r.command, 0, &[0; 128]), vec![]),
        |e| matches!(e, ClientError::Unexpected { .. }),
    ),
    (
        "neither",
        |r, _| Answer::Raw(message(r.id, r.command, 3, &[0; 128]), vec![]),
        |e| matches!(e, ClientError::Header(HeaderError::Kind(_))),
    ),
    (
        "size 15",
        |r, _| Answer::Raw(sized(r.id, r.command, 1, 15, &[0; 128]), vec![]),
        |e| matches!(e, ClientError::Header(HeaderError::Size { .. })),
    ),
    (
        "size 2^32-1",
        |r, _| Answer::Raw(sized(r.id, r.command, 1, u32::MAX, &[0; 128]), vec![]),
        |e| matches!(e, ClientError::Header(HeaderError::Size { .. })),
    ),
    (
        "253 descriptors",
        |r, honest| {
            let fds: Vec<OwnedFd> = (0..MOST_FDS).map(|_| honest.memory()).collect();
            Answer::Raw(message(r.id, r.command, 1, &[0; 128]), fds)
        },
        |e| matches!(e, ClientError::Socket(_)),
    ),
    (
        "text",
        |_, _| Answer::End(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".to_vec()),
        |e| matches!(e, ClientError::Header(_)),
    ),
];

#[test]
fn every_message_can_be_answered_wrongly() {
    let _turn = Turn::alone();
    let fds = open_fds();
    for interface in [Interface::Region, Interface::Dmabuf] {
        let count = messages(interface);
        assert!(count >= 8, "{count}");
        for (name, lie, verdict) in LIES {
            for at in 0..count {
                let result = look(&Fake::start(interface, move |number, request, honest| {
                    (number == at).then(|| lie(request, honest))
                }));
                // A probe that fails in no defined way has an error of its own.
                let is_probe_error = matches!(result, Err(DisplayError::Probe { errno: Errno::EIO, .. }));
                let is_right = matches!(&result, Err(DisplayError::Client(error)) if verdict(error));
                assert!(is_right || (name == "refused" && is_probe_error), "{name} at {at}: {result:?}");
            }
        }
    }
    await_fds(fds, "nonsense");
}

/// A reply of fewer bytes than its struct. (A probe's reply has nothing in it that is read.)
#[test]
fn replies_may_be_too_short() {
    let _turn = Turn::shared();
    for len in [0, 1, 3] {
        for interface in [Interface::Region, Interface::Dmabuf] {
            for at in 0..messages(interface) {
                let result = look(&Fake::start(interface, move |number, request, _| {
                    let is_probe = request.command == QUERY_GFX_PLANE && u32_at(&request.payload, 4) & 1 != 0;
                    (number == at && !is_probe).then(|| Answer::Reply(vec![0; len], vec![]))
                }));
                let is_right = match &result {
                    Ok(Some(_)) => (1..=2).contains(&at),
                    Err(DisplayError::Client(ClientError::Malformed(..))) => true,
                    Err(DisplayError::Client(ClientError::Version(_))) => at == 0,
                    _ => false,
                };
                assert!(is_right, "{len} bytes at {at}: {result:?}");
            }
        }
    }
}

#[test]
fn versions_that_are_none() {
    let _turn = Turn::shared();
    let answer = |payload: Vec<u8>| {
        let mut payload = Some(payload);
        lie(Interface::Region, VERSION, move |_, _| Answer::Reply(payload.take().unwrap_or_default(), vec![]))
    };
    for json in ["", "hello", "[]", r#"{"capabilities":1}"#, r#"{"capabilities":{"vfio_gfx":[]}}"#] {
        assert_error!(answer(version(json)), DisplayError::Client(ClientError::Version(_)));
    }
    let mut major = version(r#"{"capabilities":{"vfio_gfx":{"version":1}}}"#);
    major[0] = 1;
    assert_error!(answer(major), DisplayError::Client(ClientError::Version(_)));
    let newer = version(r#"{"capabilities":{"vfio_gfx":{"version":2}}}"#);
    assert_error!(answer(newer), DisplayError::Client(ClientError::ExtensionVersion(2)));
    assert_error!(answer(version("{}")), DisplayError::Client(ClientError::NoExtension));
    assert_error!(answer(vec![0; 4]), DisplayError::Client(ClientError::NoExtension));
}

#[test]
fn devices_that_are_no_display() {
    let _turn = Turn::shared();
    assert_error!(
        lie(Interface::Region, QUERY_GFX_PLANE, |_, _| Answer::Refuse(22)),
        DisplayError::NoInterface
    );
    assert_error!(
        lie(Interface::Region, QUERY_GFX_PLANE, |_, _| Answer::Refuse(25)),
        DisplayError::Probe { errno: Errno::ENOTTY, .. }
    );
    // An errno that is none.
    assert_error!(
        lie(Interface::Region, QUERY_GFX_PLANE, |_, _| Answer::Refuse(u32::MAX)),
        DisplayError::Probe { errno: Errno::EIO, .. }
    );
}

#[test]
fn capabilities_that_lead_nowhere() {
    let _turn = Turn::shared();
    // Inside the struct, beyond the reply, near the end of the numbers.
    for offset in [&[(3, 1)], &[(3, 28)], &[(3, 41)], &[(3, 48)], &[(3, 4095)], &[(3, u32::MAX)]] {
        assert_error!(lie_of_region(EDID, offset), DisplayError::Caps { region: EDID, .. });
    }
    // The successor: itself, an earlier one, one that is not there.
    assert_error!(
        lie_of_region(EDID, &[(9, 32)]),
        DisplayError::Caps { source: CapError::NotForward { .. }, .. }
    );
    assert_error!(
        lie_of_region(EDID, &[(9, 4)]),
        DisplayError::Caps { source: CapError::NotForward { .. }, .. }
    );
    assert_error!(
        lie_of_region(EDID, &[(9, 4000)]),
        DisplayError::Caps { source: CapError::OutOfBounds { .. }, .. }
    );
    // Always more than was brought, for ever: asked again once, and judged by what came.
    assert!(lie_of_region(EDID, &[(0, u32::MAX)]).unwrap().is_some());
}

#[test]
fn edids_that_cannot_be() {
    let _turn = Turn::shared();
    let registers = |words: &'static [(usize, u32)]| {
        lie(Interface::Region, REGION_READ, move |request, honest| {
            let Answer::Reply(mut reply, fds) = honest.answer(request) else { unreachable!() };
            let offset = u32_at(&reply, 0) as usize;
            for (word, value) in words {
                let place = (4 * word).checked_sub(offset).map(|inside| 16 + inside..20 + inside);
                if let Some(slot) = place.and_then(|place| reply.get_mut(place)) {
                    slot.copy_from_slice(&value.to_ne_bytes());
                }
            }
            Answer::Reply(reply, fds)
        })
    };
    for words in [
        &[(2, 0x401)][..],
        &[(2, u32::MAX), (1, u32::MAX)],
        &[(2, 32769), (1, u32::MAX)],
        &[(0, u32::MAX)],
        &[(0, 4096 - 127)],
    ] {
        assert_error!(registers(words), DisplayError::EdidRegion { region: EDID });
    }
}

/// A device that says it has 2^32-1 regions is asked for a bounded number of them.
#[test]
fn counts_are_not_believed() {
    let _turn = Turn::shared();
    let (sender, asked) = std::sync::mpsc::channel();
    let fake = Fake::start(Interface::Region, move |_, request, honest| match request.command {
        GET_INFO => Some(Answer::Reply(words(&[16, 3, u32::MAX, u32::MAX]), vec![])),
        GET_REGION_INFO => {
            sender.send(u32_at(&request.payload, 8)).unwrap();
            Some(honest.region(10))
        }
        _ => None,
    });
    let mut display = Display::open(Box::new(Remote::connect(fake.path()).unwrap())).unwrap();
    assert_eq!(display.edid().unwrap(), None);
    drop(display);
    drop(fake);
    assert!(asked.iter().count() < 100);
}

/// Neither a server that says nothing nor one that says it very slowly is waited for longer than five seconds.
#[test]
fn patience_ends() {
    let _turn = Turn::shared();
    let slow = |answer: fn(&Request, &Honest) -> Answer| {
        std::thread::spawn(move || {
            let fake = Fake::start(Interface::Region, move |number, request, honest| {
                (number == 1).then(|| answer(request, honest))
            });
            let start = Instant::now();
            let path = fake.path().to_owned();
            let result = watched(move || Display::open(Box::new(Remote::connect(&path)?)).map(|_| ()));
            (result, start.elapsed())
        })
    };
    let silent = slow(|_, _| Answer::Silence);
    let dripping = slow(|request, honest| match honest.answer(request) {
        Answer::Reply(reply, _) => Answer::Drip(reply, Duration::from_millis(500)),
        other => other,
    });
    for waiting in [silent, dripping] {
        let (result, waited) = waiting.join().unwrap();
        assert!(matches!(result, Err(DisplayError::Client(ClientError::TimedOut(_)))), "{result:?}");
        assert!((4..9).contains(&waited.as_secs()), "{waited:?}");
    }
}

/// Descriptors, piece by piece, beside a reply that never ends.
#[test]
fn descriptors_do_not_pile_up() {
    let _turn = Turn::alone();
    let fds = open_fds();
    let fake = Fake::start(Interface::Region, move |number, request, honest| {
        (number == 1).then(|| {
            let mut pieces = vec![sized(request.id, request.command, 1, 4096, &[])];
            pieces.resize(100, vec![0]);
            Answer::Pieces(pieces, honest.memory())
        })
    });
    let path = fake.path().to_owned();
    let result = watched(move || Display::open(Box::new(Remote::connect(&path)?)).map(|_| ()));
    assert!(
        matches!(result, Err(DisplayError::Client(ClientError::Header(HeaderError::Fds { .. })))),
        "{result:?}"
    );
    drop(fake);
    await_fds(fds, "a reply that never ends");
}
