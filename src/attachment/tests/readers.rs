//! Attaches that only read: whom they wait for, where they are sent, and what they open.

use super::bench::*;
use super::{exclusive, holder, rank, reading};
use crate::attachment::{AttachmentId, Input, Output};
use crate::domain::{Answer, Attach, AttachKind, AttachRefusal, Fence, Generation};

#[test]
fn readers_go_where_the_writer_is() {
    let mut bench = Bench::new(3);
    let held = holder(2, 9, exclusive(4, 2, 9));
    bench.attach(0, attach(7, AttachKind::ReadOnly));
    bench.heard(2, 0, exclusive(4, 2, 9), &[held]);
    let process = rank(2);
    let refusal = AttachRefusal::Elsewhere { process };
    assert_eq!(bench.outcomes(), [refused(0, refusal)]);

    bench.attach(1, attach(7, AttachKind::ReadOnly));
    bench.heard(2, 1, exclusive(4, 2, 9), &[]);
    bench.complete();
    bench.answer(2, id(1, 1), Answer::Opened);
    let id = AttachmentId(1);
    let fence = reading(5, 9);
    assert_eq!(bench.outcomes(), [Output::Granted { id, fence }]);
    assert_eq!(bench.keeper.attachments().len(), 1);
}

/// It may say that it is about to be used, and then the reader goes there.
#[test]
fn a_reader_waits_for_the_word_of_the_newest_coordinator() {
    let fence = exclusive(4, 2, 9);
    for ending in 0..4 {
        let mut bench = Bench::new(3);
        let rank = rank(2);
        bench.step(Input::PeerConnected { rank });
        bench.attach(0, attach(7, AttachKind::ReadOnly));
        bench.heard(3, 0, fence, &[]);
        assert_eq!(bench.keeper.accepted(), Fence::INITIAL);
        let reader = AttachmentId(0);
        match ending {
            0 => {
                for _ in 0..4 {
                    assert_eq!(bench.keeper.accepted(), Fence::INITIAL, "it overtakes");
                    bench.step(Input::StopWaiting { id: reader });
                }
            }
            1 => bench.step(Input::PeerDisconnected { rank }),
            2 => bench.heard(2, 0, fence, &[]),
            _ => bench.heard(2, 0, fence, &[holder(2, 9, fence)]),
        }
        if ending < 3 {
            assert_eq!(bench.keeper.accepted(), reading(5, 9));
        } else {
            let refusal = AttachRefusal::Elsewhere { process: rank };
            assert_eq!(bench.outcomes(), [refused(0, refusal)]);
        }
    }
}

#[test]
fn a_reader_waits_for_a_writer_of_its_own_process_that_is_about_to_come() {
    for granted in [true, false] {
        let mut bench = Bench::new(3);
        let before = exclusive(4, 3, 9);
        bench.attach(0, attach(7, EXCLUSIVE));
        bench.heard(2, 0, before, &[]);
        let fence = own(5, 7, 0);
        bench.attach(1, attach(8, AttachKind::ReadOnly));
        bench.complete();
        bench.heard(2, 1, fence, &[]);
        assert_eq!(bench.outcomes(), []);
        assert_eq!(bench.keeper.accepted(), fence);
        if granted {
            bench.answer(2, id(0, 1), Answer::Opened);
            let granted = [0, 1].map(|number| Output::Granted {
                id: AttachmentId(number),
                fence,
            });
            assert_eq!(bench.outcomes(), granted);
        } else {
            bench.step(Input::Detach {
                id: AttachmentId(0),
            });
            assert_eq!(bench.keeper.accepted(), reading(6, 7));
        }
    }
}

/// Whoever had the disk was away while it was read, and comes back.
#[test]
fn a_generation_that_is_only_read_breaks_nothing_off_for_the_owner_before() {
    let continues = |owner| Attach {
        continues: Some(Generation(4)),
        ..attach(owner, EXCLUSIVE)
    };
    let mut bench = Bench::new(3);
    bench.step(Input::Raise {
        fence: exclusive(4, 2, 7),
    });
    bench.complete();
    bench.step(Input::Raise {
        fence: reading(5, 7),
    });
    bench.complete();
    bench.attach(0, continues(8));
    bench.heard(2, 0, reading(5, 7), &[]);
    let by = Generation(5);
    assert_eq!(
        bench.outcomes(),
        [refused(0, AttachRefusal::Fenced { by })],
        "he was not the one"
    );
    bench.attach(1, continues(7));
    bench.heard(2, 1, reading(5, 7), &[]);
    bench.complete();
    bench.answer(2, id(1, 1), Answer::Opened);
    let fence = own(6, 7, 1);
    let id = AttachmentId(1);
    assert_eq!(bench.outcomes(), [Output::Granted { id, fence }]);
}

#[test]
fn a_reader_that_is_under_way_contends_with_nobody() {
    let mut bench = Bench::new(3);
    bench.attach(0, attach(7, AttachKind::ReadOnly));
    bench.heard(2, 0, exclusive(4, 3, 9), &[]);
    bench.complete();
    bench.attach(1, attach(8, EXCLUSIVE));
    bench.heard(2, 1, exclusive(4, 3, 9), &[]);
    assert_eq!(bench.keeper.accepted(), own(6, 8, 1));
    let refusal = AttachRefusal::Contended;
    assert_eq!(bench.outcomes(), [refused(0, refusal)]);
}
