use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::domain::{Generation, Holder, Incarnation, JoinKey, Mode, OwnerId, Tag};

const OWN: OwnerId = OwnerId([1; 16]);
const OTHER: OwnerId = OwnerId([2; 16]);
const ROOMY: Credit = Credit {
    requests: 100,
    bytes: 64 << 20,
};

fn new<T>(kind: AttachKind, take_over: bool) -> Failover<T> {
    Failover::new(Attach {
        owner: OWN,
        kind,
        take_over,
        continues: None,
    })
}

fn rank(number: u8) -> Rank {
    Rank::new(number).unwrap()
}

fn exclusive(generation: u64, owner: OwnerId) -> Fence {
    let tag = Tag {
        coordinator: rank(1),
        incarnation: Incarnation(1),
        sequence: generation,
    };
    Fence {
        generation: Generation(generation),
        mode: Mode::Exclusive { owner, tag },
    }
}

fn shared(generation: u64) -> Fence {
    Fence {
        generation: Generation(generation),
        mode: Mode::Shared,
    }
}

fn write(first: u64, count: usize) -> Work {
    Work::Write {
        first,
        data: Bytes::from(vec![0; 4096 * count]),
    }
}

fn alone() -> Failover<&'static str> {
    new(AttachKind::Exclusive { join: None }, false)
}

/// The first sectors of what is sent next, as far as the credit goes.
fn sends<T>(failover: &mut Failover<T>) -> Vec<u64> {
    let questions = std::iter::from_fn(|| failover.next_question());
    let firsts = questions.map(|question| match question {
        SessionQuestion::Read { first, .. }
        | SessionQuestion::Write { first, .. }
        | SessionQuestion::Discard { first, .. } => first,
        other => panic!("{other:?} is sent"),
    });
    firsts.collect()
}

#[test]
fn what_was_unanswered_is_sent_again_in_order_and_before_what_came_later() {
    let mut failover = alone();
    failover.ask(write(1, 1), "first");
    failover.ask(Work::Read { first: 2, count: 1 }, "second");
    failover.ask(write(1, 2), "overlaps the first");
    failover.ask(write(9, 1), "fourth");
    assert!(sends(&mut failover).is_empty(), "there is no session");
    assert_eq!(failover.granted(exclusive(5, OWN), ROOMY), Ok(vec![]));
    assert_eq!(sends(&mut failover), [1, 2, 9]);
    assert_eq!(failover.done(RequestNumber(3)), Ok("fourth"));

    assert_eq!(failover.lost(), [""; 0]);
    failover.ask(write(3, 1), "later");
    assert!(sends(&mut failover).is_empty());
    assert_eq!(failover.attach().continues, Some(Generation(5)));
    assert_eq!(failover.granted(exclusive(6, OWN), ROOMY), Ok(vec![]));
    assert_eq!(sends(&mut failover), [1, 2, 3]);
    assert_eq!(failover.done(RequestNumber(0)), Ok("first"));
    assert_eq!(sends(&mut failover), [1], "now the one that overlaps it");
    assert!(failover.is_all_sent() && failover.is_busy());
}

#[test]
fn a_gateway_that_joined_the_same_generation_again_repeats_no_change() {
    let join = Some(JoinKey([7; 32]));
    let mut failover = new(AttachKind::Exclusive { join }, false);
    failover.granted(exclusive(5, OTHER), ROOMY).unwrap();
    failover.ask(write(1, 1), "sent");
    failover.ask(Work::Read { first: 2, count: 1 }, "read");
    assert_eq!(sends(&mut failover), [1, 2]);
    failover.ask(write(1, 1), "waits");
    failover.lost();
    let unknown = failover.granted(exclusive(5, OTHER), ROOMY);
    assert_eq!(unknown, Ok(vec!["sent"]));
    assert_eq!(
        sends(&mut failover),
        [2, 1],
        "the read, and what was never sent"
    );

    // A generation of its own says nothing of what others wrote under the one before.
    failover.lost();
    let unknown = failover.granted(exclusive(6, OWN), ROOMY);
    assert_eq!(unknown, Ok(vec!["waits"]));
    assert!(failover.ends_with_its_session(), "so it does not even try");
}

/// The generation says nothing of what the process did with the earlier session: another session
/// under it may have written newer things, or do what was sent in this one a second time.
#[test]
fn the_same_generation_granted_again_repeats_no_change() {
    let mut failover = alone();
    failover.granted(exclusive(5, OWN), ROOMY).unwrap();
    failover.ask(write(1, 1), "sent");
    failover.ask(Work::Read { first: 2, count: 1 }, "read");
    failover.ask(write(1, 1), "waits");
    assert_eq!(sends(&mut failover), [1, 2]);
    failover.lost();
    let unknown = failover.granted(exclusive(5, OWN), ROOMY);
    assert_eq!(unknown, Ok(vec!["sent"]));
    assert_eq!(sends(&mut failover), [2, 1], "what was never sent");
    assert_eq!(failover.done(RequestNumber(0)), Err(Unfitting), "forgotten");
    assert_eq!(failover.done(RequestNumber(2)), Ok("waits"));
}

#[test]
fn a_change_that_was_sent_once_counts_so_after_a_session_that_had_no_room_for_it() {
    let mut failover = alone();
    failover.granted(exclusive(5, OWN), ROOMY).unwrap();
    failover.ask(write(1, 1), "change");
    assert_eq!(sends(&mut failover), [1]);
    failover.lost();
    failover.granted(exclusive(6, OWN), ROOMY).unwrap();
    failover.lost();
    let unknown = failover.granted(exclusive(7, OTHER), ROOMY);
    assert_eq!(unknown, Ok(vec!["change"]));
    assert!(sends(&mut failover).is_empty());
}

#[test]
fn shared_changes_are_never_repeated() {
    let mut failover = new(AttachKind::Shared, false);
    failover.granted(shared(3), ROOMY).unwrap();
    failover.ask(write(1, 1), "sent");
    failover.ask(Work::Flush, "flush");
    assert!(failover.next_question().is_some() && failover.next_question().is_some());
    failover.ask(write(1, 1), "waits");
    failover.ask(Work::Read { first: 7, count: 1 }, "read");
    assert_eq!(failover.lost(), ["sent"]);
    assert_eq!(failover.attach().continues, Some(Generation(3)));
    assert_eq!(failover.granted(shared(3), ROOMY), Ok(vec![]));
    let flush = failover.next_question();
    assert!(matches!(flush, Some(SessionQuestion::Flush { .. })));
    assert_eq!(sends(&mut failover), [1, 7]);
}

#[test]
fn readers_follow_newer_generations() {
    let mut failover = new(AttachKind::ReadOnly, false);
    failover.granted(exclusive(3, OTHER), ROOMY).unwrap();
    failover.ask(Work::Read { first: 7, count: 1 }, "read");
    assert_eq!(sends(&mut failover), [7]);
    assert!(!failover.is_fenced_for_good(exclusive(4, OTHER)));
    assert!(!failover.is_fenced_for_good(exclusive(3, OTHER)));
    failover.lost();
    assert_eq!(failover.attach().continues, None);
    let by = Generation(4);
    let refused = failover.refused(AttachRefusal::Fenced { by });
    assert!(matches!(refused, AfterRefusal::Again));
    failover.granted(exclusive(4, OTHER), ROOMY).unwrap();
    assert_eq!(sends(&mut failover), [7]);
}

/// An older session of its own opened it late, or a reader did while this one's process was away.
#[test]
fn only_another_owner_fences_for_good() {
    let mut failover = alone();
    failover.granted(exclusive(5, OWN), ROOMY).unwrap();
    assert!(!failover.is_fenced_for_good(exclusive(6, OWN)));
    let reading = |owner| Fence {
        generation: Generation(6),
        mode: Mode::Reading { owner },
    };
    assert!(!failover.is_fenced_for_good(reading(OWN)));
    assert!(failover.is_fenced_for_good(reading(OTHER)));
    assert!(failover.is_fenced_for_good(exclusive(6, OTHER)));
    assert!(failover.is_fenced_for_good(shared(6)));
    let released = exclusive(5, OWN);
    assert!(failover.is_fenced_for_good(released));

    let who = failover.fenced_by(exclusive(6, OTHER));
    assert!(matches!(who, ClientError::Fenced { owner: Some(owner), .. } if owner == OTHER));
    assert!(who.to_string().contains(&OTHER.to_string()), "{who}");
    for nobody in [released, shared(6)] {
        let who = failover.fenced_by(nobody);
        assert!(matches!(who, ClientError::Fenced { owner: None, .. }));
        assert!(
            who.to_string().contains("an operator has released it"),
            "{who}"
        );
    }
}

#[test]
fn refusals_end_the_attachment_only_where_they_are_final() {
    let holder = |owner| {
        Box::new(Holder {
            process: rank(2),
            owner,
            kind: AttachKind::Shared,
            generation: Generation(1),
            client: "10.0.0.1:1".to_owned(),
            since: 0,
        })
    };
    let by = Generation(9);
    let mut failover = alone();
    let over = failover.refused(AttachRefusal::Held(holder(OTHER)));
    assert!(matches!(over, AfterRefusal::Over(ClientError::Held(_))));
    let own = failover.refused(AttachRefusal::Held(holder(OWN)));
    assert!(
        matches!(own, AfterRefusal::Again),
        "its own earlier attempt"
    );
    let fenced = failover.refused(AttachRefusal::Fenced { by });
    assert!(
        matches!(fenced, AfterRefusal::Again),
        "nothing was attached"
    );
    let contended = failover.refused(AttachRefusal::Contended);
    assert!(matches!(contended, AfterRefusal::Again));
    let process = rank(3);
    let elsewhere = failover.refused(AttachRefusal::Elsewhere { process });
    assert!(matches!(elsewhere, AfterRefusal::At(there) if there == process));
    let closing = failover.refused(AttachRefusal::ShuttingDown);
    assert!(matches!(closing, AfterRefusal::Another));

    failover.granted(exclusive(5, OWN), ROOMY).unwrap();
    let fenced = failover.refused(AttachRefusal::Fenced { by });
    assert!(
        matches!(fenced, AfterRefusal::Over(ClientError::Fenced { by: newer, .. }) if newer == by)
    );
}

/// A new attachment that goes on from an earlier one asks as if it were that one.
#[test]
fn who_begins_by_going_on_may_be_fenced_at_once() {
    let mut failover: Failover<()> = Failover::new(Attach {
        owner: OWN,
        kind: AttachKind::Exclusive { join: None },
        take_over: false,
        continues: Some(Generation(5)),
    });
    assert_eq!(failover.attach().continues, Some(Generation(5)));
    let by = Generation(7);
    let fenced = failover.refused(AttachRefusal::Fenced { by });
    assert!(
        matches!(fenced, AfterRefusal::Over(ClientError::Fenced { by: newer, .. }) if newer == by)
    );
    failover.granted(exclusive(8, OWN), ROOMY).unwrap();
    assert_eq!(failover.attach().continues, Some(Generation(8)));
}

#[test]
fn only_the_first_attach_takes_over() {
    let mut failover: Failover<()> = new(AttachKind::Shared, true);
    assert!(failover.attach().take_over);
    failover.granted(shared(5), ROOMY).unwrap();
    assert!(!failover.attach().take_over);
}

#[test]
fn the_credit_is_kept() {
    let mut failover = alone();
    let tight = Credit {
        requests: SET_ASIDE.requests + 2,
        bytes: SET_ASIDE.bytes + BYTES_MAX,
    };
    failover.granted(exclusive(5, OWN), tight).unwrap();
    for first in [0, 300, 600, 900] {
        failover.ask(write(first, 1), "small");
    }
    failover.ask(write(2000, 256), "large");
    failover.ask(
        Work::Discard {
            first: 5000,
            count: 60_000,
        },
        "discard",
    );
    assert_eq!(sends(&mut failover), [0, 300]);
    failover.done(RequestNumber(1)).unwrap();
    assert_eq!(sends(&mut failover), [600]);
    failover.done(RequestNumber(0)).unwrap();
    failover.done(RequestNumber(2)).unwrap();
    assert_eq!(
        sends(&mut failover),
        [900],
        "the large one waits for all room"
    );
    failover.done(RequestNumber(3)).unwrap();
    assert_eq!(sends(&mut failover), [2000, 5000]);
    let little = Credit {
        bytes: tight.bytes - 1,
        ..tight
    };
    assert_eq!(alone().granted(exclusive(1, OWN), little), Err(Unfitting));
}

#[test]
fn answers_that_do_not_fit_are_noticed() {
    let mut failover = alone();
    failover.granted(exclusive(5, OWN), ROOMY).unwrap();
    failover.ask(Work::Read { first: 0, count: 2 }, "read");
    failover.ask(write(0, 1), "write");
    assert_eq!(failover.done(RequestNumber(1)), Err(Unfitting), "not sent");
    assert_eq!(sends(&mut failover), [0, 0]);
    assert_eq!(failover.done(RequestNumber(0)), Err(Unfitting));
    let short = [SectorValues::Zeroes(1)];
    assert_eq!(failover.values(RequestNumber(0), &short), Err(Unfitting));
    let whole = [SectorValues::Zeroes(2)];
    assert_eq!(failover.values(RequestNumber(1), &whole), Err(Unfitting));
    assert_eq!(failover.values(RequestNumber(0), &whole), Ok("read"));
    assert_eq!(failover.values(RequestNumber(0), &whole), Err(Unfitting));
    let failed = failover.failed(RequestNumber(1));
    assert_eq!(failed, Ok((write(0, 1), "write")));
    assert_eq!(failover.failed(RequestNumber(2)), Err(Unfitting));
}

#[test]
fn the_end_tells_what_may_have_happened() {
    let mut failover = alone();
    failover.granted(exclusive(5, OWN), ROOMY).unwrap();
    failover.ask(write(0, 1), "sent");
    failover.ask(Work::Read { first: 0, count: 1 }, "read");
    assert_eq!(sends(&mut failover), [0, 0]);
    failover.ask(write(0, 1), "waits");
    failover.lost();
    let ended = failover.end();
    assert_eq!(ended, [("sent", true), ("read", false), ("waits", false)]);
    assert!(!failover.is_busy());
}

/// What may happen to an attachment.
#[derive(Clone, Debug)]
enum Event {
    Ask { first: u64, count: u8, read: bool },
    Answer(usize),
    Lose,
    Attach,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let ask = (0_u64..10, 1_u8..5, any::<bool>());
    let event = prop_oneof![
        4 => ask.prop_map(|(first, count, read)| Event::Ask { first, count, read }),
        4 => any::<usize>().prop_map(Event::Answer),
        1 => Just(Event::Lose),
        2 => Just(Event::Attach),
    ];
    prop::collection::vec(event, 1..120)
}

proptest! {
    /// Whatever happens: never two overlapping changes under way, none overtakes an earlier one
    /// that overlaps it, also over sessions, and everything is answered in the end.
    #[test]
    fn changes_of_a_sector_take_effect_one_after_another(events in events()) {
        let mut failover = alone();
        let mut asked: Vec<Work> = Vec::new();
        let mut answered = Vec::new();
        let mut under_way: Vec<usize> = Vec::new();
        let mut generation = 0;
        let mut attached = false;
        let finish = [Event::Attach].into_iter().chain(
            std::iter::repeat_n(Event::Answer(0), 200),
        );
        for event in events.into_iter().chain(finish) {
            match event {
                Event::Ask { first, count, read } => {
                    let work = if read {
                        Work::Read { first, count: u32::from(count) }
                    } else {
                        write(first, usize::from(count))
                    };
                    asked.push(work.clone());
                    answered.push(false);
                    failover.ask(work, "");
                }
                Event::Answer(index) if !under_way.is_empty() => {
                    let place = under_way.swap_remove(index % under_way.len());
                    let number = RequestNumber(u64::try_from(place).unwrap());
                    prop_assert!(failover.failed(number).is_ok());
                    answered[place] = true;
                }
                Event::Lose => {
                    attached = false;
                    under_way.clear();
                    failover.lost();
                }
                Event::Attach if !attached => {
                    generation += 1;
                    attached = true;
                    failover.granted(exclusive(generation, OWN), ROOMY).unwrap();
                }
                Event::Answer(_) | Event::Attach => {}
            }
            while let Some(question) = failover.next_question() {
                let (SessionQuestion::Read { number, .. } | SessionQuestion::Write { number, .. })
                    = question else { panic!() };
                let place = usize::try_from(number.0).unwrap();
                if let Some((first, count)) = asked[place].changed() {
                    let earlier = asked[..place].iter().zip(&answered);
                    for (work, done) in earlier {
                        let conflict = work.changed().is_some_and(|(other, length)| {
                            other < first + count && first < other + length
                        });
                        prop_assert!(!conflict || *done, "{} overtakes", number.0);
                    }
                }
                under_way.push(place);
            }
        }
        prop_assert!(answered.iter().all(|done| *done));
        prop_assert!(!failover.is_busy());
    }
}
