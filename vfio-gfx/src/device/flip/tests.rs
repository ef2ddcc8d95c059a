use super::*;
use proptest::prelude::*;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn nobody_who_paces_is_nobody_to_wait_for() {
    let mut flips = Flips::default();
    assert_eq!(flips.request(ms(0), true), (None, Some(FlipEnd::Shown)));
    assert_eq!((flips.requested(), flips.completed(), flips.deadline()), (1, 1, None));
}

#[test]
fn a_flip_is_over_when_the_last_has_the_frame() {
    let mut flips = Flips::default();
    let (a, b) = (flips.join("a").unwrap(), flips.join("b").unwrap());
    assert_eq!(flips.request(ms(0), true), (None, None));
    assert_eq!(flips.taken(a, 1, ms(5)), None);
    assert_eq!((flips.requested(), flips.completed()), (1, 0));
    assert_eq!(flips.taken(b, 1, ms(6)), Some(FlipEnd::Shown));
    assert_eq!(flips.completed(), 1);
    assert_eq!(flips.taken(b, 1, ms(7)), None, "once");
}

#[test]
fn one_who_is_stuck_costs_one_time_out_and_catches_up() {
    let mut flips = Flips::default();
    let (stuck, good) = (flips.join("stuck").unwrap(), flips.join("good").unwrap());
    flips.request(ms(0), true);
    flips.taken(good, 1, ms(1));
    assert_eq!(flips.deadline(), Some(ms(100)));
    assert_eq!(flips.expire(ms(99)), Expired { is_guests: true, ..Expired::default() });
    let expired = flips.expire(ms(100));
    assert_eq!(
        expired,
        Expired { end: Some(FlipEnd::TimedOut), is_guests: true, late: vec!["stuck".into()] }
    );
    assert!(flips.is_degraded() && flips.is_late(stuck) && !flips.is_late(good));
    assert_eq!(flips.expire(ms(500)), Expired::default(), "reported once");
    // The next flip waits for the other only.
    assert_eq!(flips.request(ms(600), true), (None, None));
    assert_eq!(flips.taken(good, 2, ms(601)), Some(FlipEnd::Shown));
    // An old frame is not catching up; the newest is.
    flips.taken(stuck, 1, ms(602));
    assert!(flips.is_degraded());
    flips.taken(stuck, 2, ms(603));
    assert!(!flips.is_degraded());
    assert_eq!(flips.request(ms(700), true), (None, None));
    flips.taken(good, 3, ms(701));
    assert_eq!(flips.taken(stuck, 3, ms(702)), Some(FlipEnd::Shown), "waited for again");
}

#[test]
fn an_old_frame_again_buys_no_time() {
    let mut flips = Flips::default();
    let a = flips.join("a").unwrap();
    flips.request(ms(0), true);
    assert_eq!(flips.taken(a, 1, ms(5)), Some(FlipEnd::Shown));
    flips.request(ms(10), true);
    flips.request(ms(60), true);
    assert_eq!(flips.taken(a, 1, ms(90)), None);
    assert_eq!(flips.expire(ms(110)).late, ["a"]);
}

/// What guests and consoles read.
#[test]
fn states_of_the_link_have_the_numbers_of_the_uapi() {
    let numbers = [(1, Link::Up), (2, Link::Down), (3, Link::Degraded)];
    for (number, link) in numbers {
        assert_eq!((link.raw(), Link::from_raw(number)), (number, Some(link)));
    }
    assert_eq!([0, 4].map(Link::from_raw), [None; 2]);
}

#[test]
fn flips_that_replace_each_other_do_not_hide_one_who_is_stuck() {
    let mut flips = Flips::default();
    let stuck = flips.join("stuck").unwrap();
    flips.request(ms(0), true);
    for n in 1..10 {
        assert_eq!(flips.request(ms(n * 11), true), (Some(FlipEnd::Replaced), None));
    }
    assert_eq!(flips.deadline(), Some(ms(100)), "of the first that it has not taken");
    assert_eq!(flips.expire(ms(100)).end, Some(FlipEnd::TimedOut));
    assert!(flips.is_late(stuck));
}

#[test]
fn one_who_is_slow_but_moves_is_not_late_for_what_was_replaced() {
    let mut flips = Flips::default();
    let slow = flips.join("slow").unwrap();
    for n in 0..20u64 {
        flips.request(ms(n * 50), true);
        flips.taken(slow, n, ms(n * 50 + 40));
        assert_eq!(flips.expire(ms(n * 50 + 49)).late, Vec::<String>::new());
    }
    assert!(!flips.is_degraded());
    // But no flip waits longer than its own time.
    flips.taken(slow, 19, ms(1040));
    assert_eq!(flips.expire(ms(1050)).end, Some(FlipEnd::TimedOut));
}

#[test]
fn what_the_device_asks_for_itself_ends_silently() {
    let mut flips = Flips::default();
    let stuck = flips.join("stuck").unwrap();
    assert_eq!(flips.request(ms(0), true), (None, None));
    assert_eq!(flips.request(ms(1), false), (Some(FlipEnd::Replaced), None));
    let expired = flips.expire(ms(100));
    assert_eq!(expired, Expired { end: None, is_guests: false, late: vec!["stuck".into()] });
    assert_eq!((flips.is_pending(), flips.is_late(stuck)), (false, true));
    assert_eq!(flips.request(ms(200), false), (None, None));
}

#[test]
fn after_a_reset_nobody_owes_what_was_before() {
    let mut flips = Flips::default();
    let console = flips.join("console").unwrap();
    flips.request(ms(0), true);
    flips.request(ms(0), true);
    flips.cancel();
    assert_eq!((flips.is_pending(), flips.deadline()), (false, None));
    assert_eq!(flips.taken(console, 1, ms(0)), None);
    flips.request(ms(500), true);
    assert_eq!(flips.deadline(), Some(ms(600)), "all of its time");
}

#[test]
fn whoever_leaves_is_not_waited_for() {
    let mut flips = Flips::default();
    let console = flips.join("gone").unwrap();
    flips.request(ms(0), true);
    assert_eq!(flips.leave(console), Some(FlipEnd::Shown));
    assert_eq!(flips.leave(console), None);
    assert_eq!(flips.taken(console, 1, ms(1)), None);
    for _ in 0..MAX_PACERS {
        flips.join("many").unwrap();
    }
    assert!(flips.join("too many").is_none());
}

#[derive(Clone, Debug)]
enum Step {
    Flip,
    Join,
    /// Who (of those there are), and how many flips back.
    Take(usize, u64),
    Leave(usize),
    Pass(u64),
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Flip),
        1 => Just(Step::Join),
        4 => (0..4usize, 0..3u64).prop_map(|(who, back)| Step::Take(who, back)),
        1 => (0..4usize).prop_map(Step::Leave),
        4 => (0..150u64).prop_map(Step::Pass),
        1 => Just(Step::Reset),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever consoles do: each flip ends exactly once (or is forgotten by a reset), in its time, and the next one works.
    #[test]
    fn every_flip_ends_once_and_in_time(steps in proptest::collection::vec(step(), 0..80)) {
        let (mut flips, mut now) = (Flips::default(), ms(0));
        let mut pacers: Vec<PacerId> = Vec::new();
        // Asked for, at this time, and not over.
        let mut open: Option<Duration> = None;
        let (mut asked, mut over) = (0u64, 0u64);
        for step in steps {
            match step {
                Step::Flip => {
                    let (before, this) = flips.request(now, true);
                    prop_assert_eq!(before, open.take().map(|_| FlipEnd::Replaced));
                    over += u64::from(before.is_some());
                    asked += 1;
                    open = Some(now);
                    if let Some(end) = this {
                        prop_assert_eq!(end, FlipEnd::Shown);
                        (over, open) = (over + 1, None);
                    }
                }
                Step::Join => pacers.extend(flips.join("someone")),
                Step::Take(who, back) => {
                    let flip = asked.saturating_sub(back);
                    let end = pacers.get(who).and_then(|id| flips.taken(*id, flip, now));
                    if end.is_some() {
                        prop_assert!(open.take().is_some());
                        over += 1;
                    }
                    if back == 0 && let Some(id) = pacers.get(who) {
                        prop_assert!(!flips.is_late(*id));
                    }
                }
                Step::Leave(who) => {
                    if who < pacers.len() && flips.leave(pacers.swap_remove(who)).is_some() {
                        prop_assert!(open.take().is_some());
                        over += 1;
                    }
                }
                Step::Pass(time) => {
                    let end = now + ms(time);
                    while let Some(deadline) = flips.deadline().filter(|deadline| *deadline <= end) {
                        prop_assert!(deadline >= now, "time has not been missed");
                        let expired = flips.expire(deadline);
                        prop_assert!(!expired.late.is_empty(), "a timer is for something");
                        if let Some(end) = expired.end {
                            prop_assert_eq!(end, FlipEnd::TimedOut);
                            prop_assert!(open.take().is_some());
                            over += 1;
                        }
                    }
                    now = end;
                }
                Step::Reset => {
                    flips.cancel();
                    over += u64::from(open.take().is_some());
                }
            }
            prop_assert_eq!(flips.is_pending(), open.is_some());
            prop_assert_eq!(flips.deadline().is_some(), open.is_some());
            prop_assert_eq!((flips.requested(), flips.completed()), (asked, over));
            if let Some(since) = open {
                prop_assert!(now < since + FLIP_TIMEOUT, "over in its time");
            }
        }
        // All stuck: one time-out, and then flips are over at once.
        flips.request(now, true);
        flips.expire(now + FLIP_TIMEOUT);
        prop_assert!(!flips.is_pending());
        prop_assert_eq!(flips.request(now + FLIP_TIMEOUT, true), (None, Some(FlipEnd::Shown)));
    }
}
