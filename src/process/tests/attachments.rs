//! Attachments of several processes' clients: who gets the volume, who is refused, who is fenced.

use std::sync::Arc;
use std::time::Duration;

use nbd_frontend::{SectorDevice, SectorExport};

use super::support::{Node, Pace, SECTORS, content, crowd};
use crate::domain::{
    Attach, AttachKind, AttachRefusal, Content, Extent, Generation, OperationError, OwnerId, Rank,
    ReportedKind, SectorAddress, SectorRange, Volume, Vote,
};
use crate::net::{Settings, Stage};
use crate::process::AttachedDisk;
use crate::process::disk::DiskError;
use crate::process::export::NbdExport;
use crate::register::RegisterError;
use crate::store::{Completion, Completions, SectorsManager};

async fn three() -> Vec<Node> {
    crowd(&[Pace::Fast; 3], &Settings::default()).await
}

fn owner(number: u8) -> OwnerId {
    OwnerId([number; 16])
}

fn attach(number: u8, kind: AttachKind) -> Attach {
    Attach {
        owner: owner(number),
        kind,
        take_over: false,
        continues: None,
    }
}

fn exclusive(number: u8) -> Attach {
    attach(number, AttachKind::Exclusive { join: None })
}

fn take_over(number: u8) -> Attach {
    Attach {
        take_over: true,
        ..exclusive(number)
    }
}

async fn attached(node: &Node, attach: Attach) -> AttachedDisk {
    let attached = node.attachments.attach(attach, "a test").await;
    attached.expect("nobody is in the way")
}

/// Attaches as soon as nobody holds the volume any more.
async fn attached_in_time(node: &Node, attach: Attach) -> AttachedDisk {
    let attaching = async {
        loop {
            match node.attachments.attach(attach, "a test").await {
                Ok(attached) => return attached,
                Err(AttachRefusal::Held(_) | AttachRefusal::Contended) => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(refusal) => panic!("{refusal}"),
            }
        }
    };
    within_reason(attaching).await
}

async fn within_reason<T>(work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(Duration::from_secs(30), work).await;
    done.expect("it does not take as long")
}

async fn until(what: &str, mut met: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if met() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what} does not come");
}

/// The processes tell one another who holds the volume; an attach that begins before they have heard
/// may find that nobody does.
async fn heard_of() {
    tokio::time::sleep(Duration::from_millis(200)).await;
}

fn first_byte(extents: &[Extent]) -> u8 {
    match &extents[0].content {
        Content::Data(data) => data[0],
        _ => 0,
    }
}

#[tokio::test]
async fn an_exclusive_attachment_is_everybody_elses_refusal_until_it_is_dropped() {
    let nodes = three().await;
    let first = within_reason(attached(&nodes[0], exclusive(1))).await;
    assert_eq!(net_generation(&first), Generation(1));
    first.write(3, content(1)).await.unwrap();
    heard_of().await;
    for node in &nodes[1..] {
        let refused = node.attachments.attach(exclusive(2), "another").await;
        let Err(AttachRefusal::Held(holder)) = refused else {
            panic!("it is refused: {refused:?}");
        };
        assert_eq!(holder.process, Rank::new(1).unwrap());
        assert_eq!(holder.owner, owner(1));
        assert_eq!(holder.client, "a test");
    }
    drop(first);
    let second = attached_in_time(&nodes[1], exclusive(2)).await;
    assert_eq!(first_byte(&second.read(3, 1).await.unwrap()), 1);
    second.write(3, content(2)).await.unwrap();
    assert_eq!(first_byte(&second.read(3, 1).await.unwrap()), 2);
}

fn net_generation(disk: &AttachedDisk) -> Generation {
    crate::net::Attached::fence(disk).generation
}

#[tokio::test]
async fn who_is_taken_over_hears_of_it_and_writes_no_more() {
    let nodes = three().await;
    let first = within_reason(attached(&nodes[0], exclusive(1))).await;
    first.write(3, content(1)).await.unwrap();
    let second = within_reason(attached(&nodes[1], take_over(2))).await;
    second.write(3, content(2)).await.unwrap();
    assert!(net_generation(&second) > net_generation(&first));
    let by = crate::net::Attached::fence(&second);
    assert_eq!(within_reason(first.fenced()).await, by);
    assert_eq!(
        first.write(3, content(3)).await,
        Err(OperationError::Fenced { by })
    );
    assert_eq!(
        first.read(3, 1).await.unwrap_err(),
        OperationError::Fenced { by }
    );
    assert_eq!(first_byte(&second.read(3, 1).await.unwrap()), 2);
}

#[tokio::test]
async fn who_does_not_attach_is_kept_out_while_the_volume_is_held_and_holds_nothing() {
    let nodes = three().await;
    nodes[2].disk.write(5, content(1)).await.unwrap();
    let holder = within_reason(attached(&nodes[0], exclusive(1))).await;
    heard_of().await;
    holder.write(5, content(2)).await.unwrap();
    for node in &nodes {
        let refused = within_reason(node.disk.write(5, content(9))).await;
        let out = matches!(
            refused,
            Err(DiskError::Held(AttachRefusal::Held(_))
                | DiskError::Register(RegisterError::Fenced { .. }))
        );
        assert!(out, "{refused:?}");
        let refused = within_reason(node.disk.read(5, 1)).await;
        let out = matches!(refused, Err(DiskError::Held(AttachRefusal::Held(_))));
        assert!(out, "{refused:?}");
    }
    assert_eq!(first_byte(&holder.read(5, 1).await.unwrap()), 2);
    drop(holder);
    let read = async {
        loop {
            match nodes[2].disk.read(5, 1).await {
                Ok(extents) => return first_byte(&extents),
                Err(DiskError::Held(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    assert_eq!(within_reason(read).await, 2);
    nodes[2].disk.write(5, content(3)).await.unwrap();
    nodes[1].disk.write(6, content(3)).await.unwrap();
    // They are served, all of them under one shared generation, and are in nobody's way.
    let generation = nodes[2].attachments.generation();
    assert_eq!(nodes[1].attachments.generation(), generation);
    let next = within_reason(attached(&nodes[0], exclusive(4))).await;
    assert!(net_generation(&next) > generation);
    assert_eq!(first_byte(&next.read(5, 1).await.unwrap()), 3);
}

#[tokio::test]
async fn shared_attachments_and_clients_without_one_live_side_by_side() {
    let nodes = three().await;
    drop(within_reason(attached(&nodes[0], exclusive(1))).await);
    let one = attached_in_time(&nodes[0], attach(2, AttachKind::Shared)).await;
    let other = attached_in_time(&nodes[1], attach(3, AttachKind::Shared)).await;
    assert_eq!(net_generation(&one), net_generation(&other));
    one.write(1, content(1)).await.unwrap();
    other.write(1, content(2)).await.unwrap();
    within_reason(nodes[2].disk.write(1, content(3)))
        .await
        .unwrap();
    assert_eq!(first_byte(&one.read(1, 1).await.unwrap()), 3);
    heard_of().await;
    let refused = within_reason(nodes[2].attachments.attach(exclusive(4), "another")).await;
    assert!(
        matches!(refused, Err(AttachRefusal::Held(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_reader_changes_nothing_and_fences_nobody() {
    let nodes = three().await;
    nodes[1].disk.write(1, content(1)).await.unwrap();
    let reader = within_reason(attached(&nodes[0], attach(1, AttachKind::ReadOnly))).await;
    assert_eq!(first_byte(&reader.read(1, 1).await.unwrap()), 1);
    assert_eq!(
        reader.write(1, content(2)).await,
        Err(OperationError::ReadOnly)
    );
    assert_eq!(reader.discard(1, 1).await, Err(OperationError::ReadOnly));
    nodes[1].disk.write(1, content(3)).await.unwrap();
    assert_eq!(first_byte(&reader.read(1, 1).await.unwrap()), 3);
    within_reason(attached(&nodes[2], exclusive(2))).await;
}

#[tokio::test]
async fn what_is_reported_is_what_there_is_and_may_be_released() {
    let nodes = three().await;
    let disk = within_reason(attached(&nodes[0], exclusive(7))).await;
    let report = nodes[0].attachments.report(Rank::new(1).unwrap());
    assert_eq!(report.attachments.len(), 1);
    let only = &report.attachments[0];
    assert_eq!((only.owner, only.kind), (owner(7), ReportedKind::Exclusive));
    assert_eq!(only.generation, Generation(1));
    assert_eq!(only.client, "a test");
    assert!(!within_reason(nodes[0].attachments.release(owner(8))).await);
    assert!(within_reason(nodes[0].attachments.release(owner(7))).await);
    let by = within_reason(disk.fenced()).await;
    assert_eq!(
        disk.write(1, content(1)).await,
        Err(OperationError::Fenced { by })
    );
    let attachments = &nodes[0].attachments;
    until("the end of it", || {
        let report = attachments.report(Rank::new(1).unwrap());
        report.attachments.is_empty()
    })
    .await;
    attached_in_time(&nodes[1], exclusive(9)).await;
}

#[tokio::test]
async fn an_attach_waits_for_a_majority_and_leaves_nothing_when_it_is_given_up() {
    let mut nodes = three().await;
    nodes[1].kill().await;
    nodes[2].kill().await;
    let attaching = nodes[0].attachments.attach(exclusive(1), "a test");
    let waited = tokio::time::timeout(Duration::from_secs(1), attaching).await;
    assert!(waited.is_err(), "it waits: {waited:?}");
    assert_eq!(nodes[0].attachments.generation(), Generation(0));
    nodes[0].stage.send_replace(Stage::Draining);
    let refused = within_reason(nodes[0].attachments.attach(exclusive(1), "a test")).await;
    assert_eq!(refused.unwrap_err(), AttachRefusal::ShuttingDown);
}

#[tokio::test]
async fn an_export_is_held_from_its_first_client_to_its_last() {
    let nodes = three().await;
    let exports: Vec<NbdExport> = nodes
        .iter()
        .map(|node| NbdExport::new(node.attachments.clone()))
        .collect();
    for (number, export) in exports.iter().enumerate() {
        export.served_at(format!("nbd://node-{number}"));
    }
    let (first, second) = tokio::join!(exports[0].open(), exports[0].open());
    let (first, second) = (first.unwrap(), second.unwrap());
    let one = Arc::ptr_eq(&first.disk, &second.disk);
    assert!(one, "they share one attachment");
    SectorDevice::write(&first, 1, content(1)).await.unwrap();
    heard_of().await;
    let refused = within_reason(exports[1].open()).await.unwrap_err();
    assert_eq!(
        refused.0,
        "the disk is held by NBD at nbd://node-0 through process 1; detach it there, or end its \
         attachment with `atdd attachments --release`"
    );
    drop(first);
    assert!(within_reason(exports[1].open()).await.is_err());
    drop(second);
    let open = async {
        loop {
            if let Ok(opened) = exports[1].open().await {
                return opened;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let taken = within_reason(open).await;
    assert_eq!(first_byte(&taken.disk.read(1, 1).await.unwrap()), 1);
    // Somebody takes the disk over: the clients are told, and nobody is let in any more.
    let other = within_reason(attached(&nodes[2], take_over(9))).await;
    within_reason(SectorDevice::lost(&taken)).await;
    heard_of().await;
    assert!(SectorDevice::read(&taken, 1, 1).await.is_err());
    drop(other);
    heard_of().await;
    for taken in [Some(taken), None] {
        let refused = within_reason(exports[1].open()).await.unwrap_err();
        assert!(refused.0.contains("start the process again"), "{refused}");
        drop(taken);
    }
    let other = within_reason(exports[2].open()).await.unwrap();
    SectorDevice::read(&other, 1, 1).await.unwrap();
}

/// What followed is the owner's own, so nobody has written in between.
#[tokio::test]
async fn an_export_that_was_overtaken_by_its_own_goes_on_unless_another_followed() {
    for another in [false, true] {
        let nodes = three().await;
        let export = NbdExport::new(nodes[0].attachments.clone());
        let first = within_reason(export.open()).await.unwrap();
        let fence = crate::net::Attached::fence(&*first.disk);
        let continuing = Attach {
            owner: fence.owner().expect("it is exclusive"),
            continues: Some(fence.generation),
            ..exclusive(1)
        };
        drop(within_reason(attached(&nodes[1], continuing)).await);
        within_reason(SectorDevice::lost(&first)).await;
        if another {
            drop(within_reason(attached(&nodes[1], take_over(9))).await);
        }
        heard_of().await;
        let second = within_reason(export.open()).await;
        if another {
            let refused = second.unwrap_err();
            assert!(refused.0.contains("start the process again"), "{refused}");
            assert!(within_reason(export.open()).await.is_err());
        } else {
            assert!(!Arc::ptr_eq(&first.disk, &second.unwrap().disk));
        }
    }
}

/// Nothing fenced the export, since nobody had it when another host came and went; yet a kernel that
/// had written and lost its connection would have put that on top of what the other one wrote.
#[tokio::test]
async fn whoever_left_an_export_without_goodbye_comes_back_only_if_nobody_had_the_disk() {
    for (goodbye, another) in [(false, true), (false, false), (true, true)] {
        let nodes = three().await;
        let export = NbdExport::new(nodes[0].attachments.clone());
        let first = within_reason(export.open()).await.unwrap();
        first.asked_for_change();
        first.write(1, content(1)).await.unwrap();
        if goodbye {
            first.said_goodbye();
        }
        drop(first);
        if another {
            drop(attached_in_time(&nodes[1], exclusive(9)).await);
        }
        heard_of().await;
        for _ in 0..2 {
            let second = within_reason(export.open()).await;
            assert_eq!(second.is_err(), another && !goodbye, "{second:?}");
        }
    }
}

/// To the export the last client had gone as soon as nobody had its device, and to the keeper only
/// when it heard so. Who opened in between could be refused for the sake of a client of the same
/// export that had left.
#[tokio::test]
async fn who_opens_an_export_that_is_being_left_waits_until_it_is() {
    let nodes = three().await;
    let export = NbdExport::new(nodes[0].attachments.clone());
    let first = within_reason(export.open()).await.unwrap();
    // Without an `Arc`, and not dropped yet: as a thread has it that is about to drop it.
    let leaving = Arc::into_inner(first.disk).expect("nobody else has it");
    let mut opening = std::pin::pin!(export.open());
    let early = tokio::time::timeout(Duration::from_millis(300), &mut opening).await;
    assert!(early.is_err(), "it does not wait: {early:?}");
    drop(leaving);
    let second = within_reason(opening).await.unwrap();
    assert_eq!(second.disk.ended(), None);
    let report = nodes[0].attachments.report(Rank::new(1).unwrap());
    assert_eq!(report.attachments.len(), 1, "{report:?}");
}

/// A client that gave up while it attached, or whose attachment was over, is nobody's to wait for.
#[tokio::test]
async fn nobody_waits_for_whoever_never_had_the_export() {
    let nodes = three().await;
    let export = NbdExport::new(nodes[0].attachments.clone());
    for _ in 0..20 {
        let opening = std::pin::pin!(export.open());
        // Polled once, it has asked the keeper.
        assert!(futures_util::FutureExt::now_or_never(opening).is_none());
    }
    let first = within_reason(export.open()).await.unwrap();
    assert!(nodes[0].attachments.release(net_owner(&first.disk)).await);
    let refused = within_reason(export.open()).await.unwrap_err();
    assert!(refused.0.contains("or released"), "{refused}");
}

fn net_owner(disk: &AttachedDisk) -> OwnerId {
    let owner = crate::net::Attached::fence(disk).owner();
    owner.expect("it is exclusive")
}

/// Nobody waits for it: what is in memory is answered at once.
struct Nowhere;

impl Completions for Nowhere {
    fn complete(&self, _completions: Vec<Completion>) {}
}

/// How many sectors of the node's store are settled under this generation or a later one.
fn settled(node: &Node, generation: Generation) -> u64 {
    let first = SectorAddress::new(Volume(0), 0).unwrap();
    let range = SectorRange::new(first, u32::try_from(SECTORS).unwrap()).unwrap();
    let nowhere: Arc<dyn Completions> = Arc::new(Nowhere);
    let held = node.store.load(0, range, None, &nowhere);
    let votes = held.expect("it is in memory").votes;
    let is_settled = |vote: Vote| {
        vote.stamp()
            .is_some_and(|stamp| stamp.settled >= generation)
    };
    let settled = votes.iter().filter(|(_, vote)| is_settled(*vote));
    settled.map(|(count, _)| u64::from(count)).sum()
}

#[tokio::test]
async fn while_a_process_is_away_the_disk_is_settled_ahead_of_need() {
    let mut nodes = three().await;
    for sector in [0, 7, 20] {
        nodes[1].disk.write(sector, content(1)).await.unwrap();
    }
    let disk = within_reason(attached(&nodes[0], exclusive(1))).await;
    let generation = net_generation(&disk);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(settled(&nodes[0], generation), 0, "everybody is there");
    nodes[2].kill().await;
    until("the sweep", || {
        nodes[..2]
            .iter()
            .all(|node| settled(node, generation) == SECTORS)
    })
    .await;
    assert_eq!(first_byte(&disk.read(7, 1).await.unwrap()), 1);
}

/// Under a new generation a read of an older sector would be spared a store if all processes
/// answered, and waits a moment for the last of them: not for ever.
#[tokio::test]
async fn a_process_that_does_not_answer_keeps_no_read_waiting() {
    let paces = [Pace::Fast, Pace::Fast, Pace::Stopped];
    let nodes = crowd(&paces, &Settings::default()).await;
    nodes[0].disk.write(1, content(1)).await.unwrap();
    let disk = within_reason(attached(&nodes[0], exclusive(1))).await;
    until("the link", || {
        let link = nodes[0].links[2].as_ref().unwrap();
        link.state().connected.is_some()
    })
    .await;
    assert_eq!(
        first_byte(&within_reason(disk.read(1, 1)).await.unwrap()),
        1
    );
    assert!(settled(&nodes[0], net_generation(&disk)) >= 1);
}
