//! Tests of several processes' workers at full depth against one another, with queues and credits
//! so tiny that all of them are full all the time.

use std::time::Duration;

use tokio::task::JoinSet;

use super::support::{Node, Pace, SECTORS, content, crowd, tiny};
use crate::domain::Content;

/// Many writers at every process that is given, on few sectors, all at the same time.
async fn write_everywhere(nodes: &[&Node], writes_each: u64) {
    let mut writers = JoinSet::new();
    for (byte, node) in (1..).zip(nodes) {
        for writer in 0..writes_each {
            let disk = node.disk.clone();
            writers.spawn(async move {
                let sector = (writer * 7) % SECTORS;
                disk.write(sector, content(byte)).await.unwrap();
                disk.read(sector, 1).await.unwrap();
            });
        }
    }
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test]
async fn full_depth_everywhere_with_tiny_queues_ends() {
    let nodes = crowd(&[Pace::Fast; 3], &tiny()).await;
    write_everywhere(&nodes.iter().collect::<Vec<_>>(), 400).await;
    let mut values = Vec::new();
    for node in &nodes {
        values.push(node.disk.read(0, 64).await.unwrap());
    }
    assert_eq!(values[0], values[1]);
    assert_eq!(values[0], values[2]);
    assert!(
        values[0]
            .iter()
            .any(|extent| matches!(extent.content, Content::Data(_)))
    );
}

#[tokio::test]
async fn a_stopped_and_a_slow_peer_hold_nobody_up() {
    let paces = [
        Pace::Fast,
        Pace::Fast,
        Pace::Fast,
        Pace::Slow,
        Pace::Stopped,
    ];
    let nodes = crowd(&paces, &tiny()).await;
    let coordinators: Vec<&Node> = nodes[..4].iter().collect();
    write_everywhere(&coordinators, 150).await;
    let to_stopped = |node: &Node| node.links[4].as_ref().unwrap().state();
    for node in &nodes[..3] {
        let state = to_stopped(node);
        assert!(state.in_flight <= 4, "the credit is kept: {state:?}");
        assert!(
            state.queued <= 200,
            "what is finished is dropped: {state:?}"
        );
    }
    let before = to_stopped(&nodes[0]).queued;
    write_everywhere(&coordinators[..3], 300).await;
    let after = to_stopped(&nodes[0]).queued;
    assert!(after <= before.max(8), "it grew from {before} to {after}");
    let waiting = nodes[4].store.loads_waiting() + nodes[4].store.stores_waiting();
    assert!(
        waiting <= 4 * 4 + 2,
        "{waiting} requests wait in the stopped process"
    );
}

#[tokio::test]
async fn reads_go_on_where_nothing_can_be_stored() {
    let nodes = crowd(&[Pace::Fast, Pace::Full, Pace::Stopped], &tiny()).await;
    let mut writers = JoinSet::new();
    for sector in 0..20 {
        let disk = nodes[0].disk.clone();
        writers.spawn(async move { disk.write(sector, content(1)).await });
    }
    // As many stores as may come have come, and nothing will become of them.
    let waits = || nodes[1].store.stores_waiting() >= 2;
    for _ in 0..2000 {
        if waits() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(waits());
    for sector in 20..SECTORS {
        let read = nodes[0].disk.read(sector, 1);
        let read = tokio::time::timeout(Duration::from_secs(30), read).await;
        read.expect("it is answered").unwrap();
    }
}
