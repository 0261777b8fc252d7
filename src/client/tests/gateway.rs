//! The disk as an NBD export.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use nbd_frontend::{DeviceError, Piece, SectorDevice, SectorExport, Unavailable};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::support::*;
use crate::client::{AttachOptions, Attachment, Gateway, GatewayDevice};
use crate::domain::{AttachRefusal, Generation, OwnerId};
use crate::wire::{SectorValues, SessionAnswer, SessionQuestion};

fn gateway(stage: &Stage, options: AttachOptions) -> Arc<Gateway> {
    let network = stage.network.clone();
    let attach = move |options| {
        let attachment = Attachment::start(network.clone(), &options);
        async move {
            attachment.granted().await?;
            Ok(attachment)
        }
        .boxed()
    };
    Arc::new(Gateway::with(Box::new(attach), 77, options))
}

/// A gateway, its first client's device, and the process that granted it to this owner.
async fn opened(
    stage: &mut Stage,
    options: AttachOptions,
) -> (Arc<Gateway>, GatewayDevice, Process, OwnerId) {
    let gateway = gateway(stage, options);
    let opening = open(&gateway);
    let mut process = stage.session().await;
    let owner = process.admit(1).await;
    (gateway, opening.await.unwrap(), process, owner)
}

fn open(gateway: &Arc<Gateway>) -> JoinHandle<GatewayDevice> {
    let gateway = Arc::clone(gateway);
    tokio::spawn(async move { gateway.open().await.unwrap() })
}

fn try_to_open(gateway: &Arc<Gateway>) -> JoinHandle<Result<GatewayDevice, Unavailable>> {
    let gateway = Arc::clone(gateway);
    tokio::spawn(async move { gateway.open().await })
}

fn begin_write(device: &Arc<GatewayDevice>) -> JoinHandle<Result<(), DeviceError>> {
    let device = Arc::clone(device);
    tokio::spawn(async move { device.write(0, data(1)).await })
}

/// Another host takes the disk over.
async fn is_taken_over(process: &Process) {
    let by = fence(2, OwnerId([7; 16]));
    process.answer(SessionAnswer::Fenced { by }).await;
}

/// A client of a gateway that was attached under generation 1 opens it again: that attachment may
/// only go on.
async fn comes_back(
    stage: &mut Stage,
    gateway: &Arc<Gateway>,
    owner: OwnerId,
) -> (JoinHandle<Result<GatewayDevice, Unavailable>>, Process) {
    let opening = try_to_open(gateway);
    let mut process = stage.session().await;
    let attach = process.attach().await;
    let going_on = (owner, Some(Generation(1)));
    assert_eq!((attach.owner, attach.continues), going_on);
    (opening, process)
}

/// Asserts that a client which hears that another host had the disk is turned away, and everybody
/// after it.
async fn assert_turned_away(
    stage: &mut Stage,
    gateway: &Gateway,
    opening: JoinHandle<Result<GatewayDevice, Unavailable>>,
    process: &Process,
) {
    let refusal = AttachRefusal::Fenced { by: Generation(5) };
    process.answer(SessionAnswer::AttachRefused(refusal)).await;
    let refused = opening.await.unwrap().unwrap_err();
    assert!(refused.0.contains("generation 5"), "{refused}");
    assert!(gateway.open().await.is_err());
    stage.no_session();
}

#[tokio::test(start_paused = true)]
async fn all_clients_share_an_attachment_that_the_last_gives_back() {
    let mut stage = stage(3);
    let gateway = gateway(&stage, AttachOptions::exclusive());
    assert_eq!(gateway.sectors(), 77);
    sleep(Duration::from_secs(1)).await;
    stage.no_session();

    let (first, second) = (open(&gateway), open(&gateway));
    let mut process = stage.session().await;
    let owner = process.admit(1).await;
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_eq!(first.sectors(), SECTORS);
    let reading = tokio::spawn(async move { (first.read(3, 2).await, first) });
    let question = process.question().await;
    let values = vec![SectorValues::Zeroes(1), SectorValues::Data(data(1))];
    let number = number(&question);
    process
        .answer(SessionAnswer::Values { number, values })
        .await;
    let (read, first) = reading.await.unwrap();
    assert_eq!(read.unwrap(), [Piece::Zeroes(1), Piece::Data(data(1))]);

    drop(first);
    assert_eq!(in_words(&process.questions().await), "");
    drop(second);
    assert_eq!(process.question().await, SessionQuestion::Detach);
    // Who comes now waits until nobody counts the disk as held, least of all by this gateway.
    let again = open(&gateway);
    sleep(Duration::from_millis(100)).await;
    stage.no_session();
    process.answer(SessionAnswer::Detached).await;
    let mut process = stage.session().await;
    let newer = process.admit(2).await;
    assert_ne!(newer, owner, "a new attachment");
    drop(again.await.unwrap());
    process.take_back().await;
    gateway.returned().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_is_told_who_holds_the_disk() {
    let mut stage = stage(3);
    let gateway = gateway(&stage, AttachOptions::exclusive());
    let opening = try_to_open(&gateway);
    let mut process = stage.session().await;
    process.attach().await;
    process.answer(SessionAnswer::AttachRefused(held())).await;
    let text = opening.await.unwrap().unwrap_err().to_string();
    assert_eq!(
        text,
        "the disk is held by 10.0.0.9:5000 through process 2 since 2001-09-09 01:46:40 UTC; \
         detach it there, or take it over by starting the gateway with --take-over"
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_while_it_waits_lets_the_next_one_try() {
    let mut stage = stage(3);
    let gateway = gateway(&stage, AttachOptions::exclusive());
    let leaving = open(&gateway);
    let mut process = stage.session().await;
    process.attach().await;
    let next = open(&gateway);
    leaving.abort();
    assert_eq!(process.anything().await, None);
    let mut process = stage.session().await;
    process.admit(1).await;
    next.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn whoever_was_fenced_is_lost_and_nobody_is_let_in_any_more() {
    let mut stage = stage(3);
    let options = AttachOptions::exclusive();
    let (gateway, device, process, _) = opened(&mut stage, options).await;
    let quiet = timeout(Duration::from_secs(1), device.lost()).await;
    assert!(quiet.is_err());
    is_taken_over(&process).await;
    device.lost().await;
    let silent = timeout(Duration::from_secs(9), device.write(0, data(1))).await;
    assert!(silent.is_err(), "the end of the connection is its answer");

    for device in [Some(device), None] {
        let refused = gateway.open().await.unwrap_err();
        assert!(refused.0.contains("start the gateway again"), "{refused}");
        drop(device);
    }
    stage.no_session();
}

/// Its last client had gone when nobody had come back yet.
#[tokio::test(start_paused = true)]
async fn whoever_was_fenced_and_left_at_once_is_not_let_in_either() {
    let mut stage = stage(3);
    let options = AttachOptions::exclusive();
    let (gateway, device, process, _) = opened(&mut stage, options).await;
    is_taken_over(&process).await;
    device.lost().await;
    drop(device);
    let refused = gateway.open().await.unwrap_err();
    assert!(refused.0.contains("generation 2"), "{refused}");
}

/// A gateway of a joined device that has lost its attachment, in which way soever, does not know by
/// itself who has had the disk since; and what its client sends may be what another path was sent
/// before. It let clients in who undid what another host had written.
#[tokio::test(start_paused = true)]
async fn a_gateway_of_a_joined_device_goes_on_only_if_nobody_had_the_disk() {
    let options = AttachOptions::join("disk", b"secret");
    for (own, fenced) in [(None, false), (None, true), (Some(true), false)] {
        let mut stage = stage(3);
        let (gateway, device, process, owner) = opened(&mut stage, options).await;
        if own.is_some() {
            // Another gateway of the device went on through another process.
            let by = fence(2, owner);
            process.answer(SessionAnswer::Fenced { by }).await;
        } else {
            drop(process);
        }
        device.lost().await;
        drop(device);
        let (opening, process) = comes_back(&mut stage, &gateway, owner).await;
        if fenced {
            assert_turned_away(&mut stage, &gateway, opening, &process).await;
        } else {
            process.grant(fence(3, owner)).await;
            opening.await.unwrap().unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_of_a_joined_device_that_another_host_fenced_lets_nobody_in() {
    let mut stage = stage(3);
    let options = AttachOptions::join("disk", b"secret");
    let (gateway, device, process, _) = opened(&mut stage, options).await;
    is_taken_over(&process).await;
    device.lost().await;
    let refused = gateway.open().await.unwrap_err();
    assert!(refused.0.contains("generation 2"), "{refused}");
    stage.no_session();
}

/// It has said that it sends nothing again, over whichever gateway.
#[tokio::test(start_paused = true)]
async fn a_gateway_of_a_joined_device_whose_clients_said_goodbye_begins_anew() {
    let mut stage = stage(3);
    let options = AttachOptions::join("disk", b"secret");
    let (gateway, device, mut process, owner) = opened(&mut stage, options).await;
    device.said_goodbye();
    drop(device);
    process.take_back().await;
    let _opening = open(&gateway);
    let attach = stage.session().await.attach().await;
    assert_eq!((attach.owner, attach.continues), (owner, None));
}

/// Its clients have left, with writes that are never done.
#[tokio::test(start_paused = true)]
async fn a_gateway_gives_the_disk_back_though_its_process_only_says_how_it_stands() {
    let mut stage = stage(3);
    let options = AttachOptions::exclusive();
    let (gateway, device, mut process, _) = opened(&mut stage, options).await;
    let device = Arc::new(device);
    let writing = [(); 2].map(|()| begin_write(&device));
    assert_eq!(in_words(&process.questions().await), "write 0+1");
    for writing in writing {
        writing.abort();
        writing.await.unwrap_err();
    }
    drop(device);
    let _stalls = tokio::spawn(process.stall());
    let returned = timeout(Duration::from_secs(4), gateway.returned());
    assert!(returned.await.is_ok());
    // So the next client waits no longer, either.
    let _opening = open(&gateway);
    stage.session().await.attach().await;
}

#[tokio::test(start_paused = true)]
async fn a_gateway_takes_the_disk_over_once() {
    let mut stage = stage(3);
    let mut options = AttachOptions::exclusive();
    options.take_over = true;
    let gateway = gateway(&stage, options);
    for first in [true, false] {
        let opening = open(&gateway);
        let mut process = stage.session().await;
        let attach = process.attach().await;
        assert_eq!(attach.take_over, first);
        process.grant(fence(1, attach.owner)).await;
        drop(opening.await.unwrap());
        process.take_back().await;
    }
}

/// The first client leaves when the disk is granted to it, and nobody knows whether that was heard.
/// The next one took the disk over again, from whoever had come since.
#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_in_the_middle_of_a_take_over_has_had_it() {
    let mut stage = stage(3);
    let mut options = AttachOptions::exclusive();
    options.take_over = true;
    let gateway = gateway(&stage, options);
    let leaving = open(&gateway);
    let mut process = stage.session().await;
    let attach = process.attach().await;
    assert!(attach.take_over);
    leaving.abort();
    assert!(leaving.await.is_err());
    let _next = open(&gateway);
    assert!(!stage.session().await.attach().await.take_over);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_unknown_outcome_closes_joined_connections_and_fails_on_shared_ones() {
    for shared in [false, true] {
        let mut stage = stage(3);
        let options = if shared {
            AttachOptions::shared()
        } else {
            AttachOptions::join("disk", b"secret")
        };
        let fence = if shared {
            shared_fence(1)
        } else {
            fence(1, OwnerId([9; 16]))
        };
        let gateway = gateway(&stage, options);
        let opening = open(&gateway);
        let mut process = stage.session().await;
        process.attach().await;
        process.grant(fence).await;
        let device = Arc::new(opening.await.unwrap());
        let writing = begin_write(&device);
        process.question().await;
        drop(process);
        if shared {
            let mut process = stage.session().await;
            process.attach().await;
            process.grant(fence).await;
            let failed = writing.await.unwrap();
            assert!(matches!(failed, Err(DeviceError::Io(_))));
        } else {
            device.lost().await;
            assert!(!writing.is_finished());
        }
    }
}

/// A client that leaves with a write under way; its device, and the write.
async fn leaves(device: GatewayDevice, process: &mut Process) {
    let device = Arc::new(device);
    device.asked_for_change();
    let writing = begin_write(&device);
    assert_eq!(in_words(&process.questions().await), "write 0+1");
    writing.abort();
    writing.await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_take_over_is_noticed_while_the_disk_is_given_back() {
    let mut stage = stage(3);
    let options = AttachOptions::exclusive();
    let (gateway, device, mut process, _) = opened(&mut stage, options).await;
    leaves(device, &mut process).await;
    sleep(Duration::from_millis(10)).await;
    is_taken_over(&process).await;
    let refused = gateway.open().await.unwrap_err();
    assert!(refused.0.contains("start the gateway again"), "{refused}");
    stage.no_session();
}

/// Whoever had the disk meanwhile, and gave it back, wrote something newer than what the client was
/// not answered.
#[tokio::test(start_paused = true)]
async fn whoever_left_unanswered_comes_back_only_if_nobody_had_the_disk() {
    for fenced in [false, true] {
        let mut stage = stage(3);
        let options = AttachOptions::exclusive();
        let (gateway, device, mut process, owner) = opened(&mut stage, options).await;
        stage.set_all(Meets::Refuses);
        leaves(device, &mut process).await;
        drop(process);
        gateway.returned().await;
        stage.set_all(Meets::Opens);
        let (opening, mut process) = comes_back(&mut stage, &gateway, owner).await;
        if fenced {
            assert_turned_away(&mut stage, &gateway, opening, &process).await;
        } else {
            process.grant(fence(2, owner)).await;
            drop(opening.await.unwrap().unwrap());
            process.take_back().await;
            // It may have been another client, which only looked at the disk.
            let _opening = open(&gateway);
            let attach = stage.session().await.attach().await;
            assert_eq!(attach.continues, Some(Generation(2)));
        }
    }
}

/// What a client changed, was answered, and perhaps never heard: it says so itself when it has.
#[tokio::test(start_paused = true)]
async fn whoever_changed_something_and_left_without_goodbye_comes_back_by_the_same_rule() {
    for (change, goodbye) in [(true, false), (true, true), (false, false)] {
        let mut stage = stage(3);
        let options = AttachOptions::exclusive();
        let (gateway, device, mut process, owner) = opened(&mut stage, options).await;
        let device = Arc::new(device);
        if change {
            device.asked_for_change();
            let writing = begin_write(&device);
            let question = process.question().await;
            process.done(&question).await;
            writing.await.unwrap().unwrap();
        }
        if goodbye {
            device.said_goodbye();
        }
        drop(device);
        process.take_back().await;
        let _opening = open(&gateway);
        let attach = stage.session().await.attach().await;
        let unsettled = change && !goodbye;
        let continues = unsettled.then_some(Generation(1));
        assert_eq!(attach.continues, continues);
        assert_eq!(attach.owner == owner, unsettled);
    }
}

/// It was answered; only what is not answered at all is owed to anybody. An error used to count for
/// ever.
#[tokio::test(start_paused = true)]
async fn a_client_that_was_answered_with_an_error_and_says_goodbye_owes_nothing() {
    let mut stage = stage(3);
    let mut options = AttachOptions::exclusive();
    options.deadline = Some(Duration::from_secs(1));
    let (gateway, device, mut process, _) = opened(&mut stage, options).await;
    let device = Arc::new(device);
    device.asked_for_change();
    let writing = begin_write(&device);
    let question = process.question().await;
    for _ in 0..11 {
        sleep(Duration::from_millis(100)).await;
        process.answer(SessionAnswer::Heartbeat).await;
    }
    assert!(matches!(writing.await.unwrap(), Err(DeviceError::Io(_))));
    process.done(&question).await;
    device.said_goodbye();
    drop(device);
    process.take_back().await;
    let _opening = open(&gateway);
    let attach = stage.session().await.attach().await;
    assert_eq!(attach.continues, None);
}
