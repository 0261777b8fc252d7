//! The keeper's task alone, the only process of its cluster, between a store and a worker that the
//! test plays.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::attachment::{self, AttachmentId, AttachmentKeeper};
use crate::domain::{
    Attach, AttachKind, AttachRefusal, Fence, Generation, Holder, Incarnation, Mode, OwnerId, Rank,
    StoreId, Tag,
};
use crate::net::PeerSessions;
use crate::process::attached_clients::Granted;
use crate::process::inbox::Inbox;
use crate::process::items::{Item, KeeperItem};
use crate::process::keeper_task::{KeeperSurroundings, KeeperTask, KeeperView};
use crate::process::shared_authority::SharedAuthority;
use crate::wire::Introduction;

struct Alone {
    keeper: Arc<Inbox<KeeperItem>>,
    worker: Arc<Inbox<Item>>,
    /// What the store is asked to record, in order.
    asked: Arc<Mutex<Vec<Fence>>>,
    /// Lets it record one.
    recorded: SyncSender<()>,
    authority: SharedAuthority,
    view: watch::Receiver<KeeperView>,
    introduction: watch::Receiver<Introduction>,
    task: JoinHandle<()>,
}

impl Alone {
    fn new() -> Self {
        let (keeper, worker) = (Arc::new(Inbox::new()), Arc::new(Inbox::new()));
        let (recorded, may_record) = sync_channel(16);
        let (asked, may_record) = (Arc::new(Mutex::new(Vec::new())), Mutex::new(may_record));
        let asks = Arc::clone(&asked);
        let authority = SharedAuthority::new(Fence::INITIAL, Arc::clone(&keeper));
        let (view, views) = watch::channel(KeeperView::default());
        let (introduction, introductions) = watch::channel(Introduction {
            store: StoreId([1; 16]),
            birth: None,
            empty: true,
            holders: Vec::new(),
        });
        let surroundings = KeeperSurroundings {
            inbox: Arc::clone(&keeper),
            workers: vec![Arc::clone(&worker)],
            links: vec![None],
            sessions: Arc::new(PeerSessions::new()),
            introduction,
            record: Arc::new(move |fence| {
                asks.lock().unwrap().push(fence);
                may_record.lock().unwrap().recv().unwrap();
                Ok(())
            }),
            authority: authority.clone(),
            next_id: Arc::default(),
            view,
        };
        let only = AttachmentKeeper::new(attachment::Config {
            own: Rank::new(1).unwrap(),
            processes: 1,
            incarnation: Incarnation(1),
            fence: Fence::INITIAL,
            shards: 1,
        });
        Self {
            keeper,
            worker,
            asked,
            recorded,
            authority,
            view: views,
            introduction: introductions,
            task: tokio::spawn(KeeperTask::new(only, surroundings).run()),
        }
    }

    fn attach(
        &self,
        id: u64,
        take_over: bool,
    ) -> oneshot::Receiver<Result<Granted, AttachRefusal>> {
        let (answer, answered) = oneshot::channel();
        let attach = Attach {
            owner: OwnerId([u8::try_from(id).unwrap(); 16]),
            kind: AttachKind::Exclusive { join: None },
            take_over,
            continues: None,
        };
        self.keeper.put(KeeperItem::Attach {
            id: AttachmentId(id),
            attach,
            client: "a test".to_owned(),
            answer,
        });
        answered
    }

    /// Asks for what whoever has no attachment may run under.
    fn confirm(&self) -> oneshot::Receiver<Result<Fence, AttachRefusal>> {
        let (answer, answered) = oneshot::channel();
        self.keeper.put(KeeperItem::Confirm { answer });
        answered
    }

    fn drained(&self, generation: u64) {
        self.keeper.put(KeeperItem::Drained {
            shard: 0,
            generation: Generation(generation),
        });
    }

    /// What the worker is told next.
    async fn told(&self) -> Vec<Item> {
        let mut items = Vec::new();
        let taking = self.worker.take(&mut items);
        tokio::time::timeout(Duration::from_secs(10), taking)
            .await
            .expect("it is told something");
        items
    }

    /// Long enough for whatever should not happen.
    async fn settle_down(&self) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    async fn end(self) {
        self.keeper.close();
        self.task.await.unwrap();
    }
}

#[tokio::test]
async fn nobody_is_attached_before_the_fence_is_recorded_and_the_registers_have_drained() {
    let alone = Alone::new();
    let mut granted = alone.attach(1, false);
    let told = alone.told().await;
    let [Item::Raise(fence)] = told[..] else {
        panic!("the registers are raised: {told:?}");
    };
    assert_eq!(alone.authority.now(), None, "it has seen a newer one");
    alone.settle_down().await;
    assert_eq!(*alone.asked.lock().unwrap(), [fence]);
    alone.drained(1);
    alone.settle_down().await;
    assert!(granted.try_recv().is_err(), "it is not recorded");
    assert_eq!(alone.view.borrow().fence, Fence::INITIAL);
    alone.recorded.send(()).unwrap();
    let granted = granted.await.unwrap().unwrap();
    assert_eq!(granted.fence, fence);
    let told = alone.told().await;
    assert!(
        matches!(told[..], [Item::Stable(stable)] if stable == fence),
        "{told:?}"
    );
    let mut introduction = alone.introduction.clone();
    let published = introduction.wait_for(|introduction| !introduction.holders.is_empty());
    assert_eq!(published.await.unwrap().holders[0].client, "a test");
    assert_eq!(alone.view.borrow().fence, fence);
    alone.end().await;
}

#[tokio::test]
async fn fences_are_recorded_one_after_another_and_none_is_left_out() {
    let alone = Alone::new();
    let first = alone.attach(1, false);
    alone.settle_down().await;
    alone.drained(1);
    // Others have opened newer generations meanwhile.
    let opened = |generation| Fence {
        generation: Generation(generation),
        mode: Mode::Shared,
    };
    for generation in [5, 7] {
        alone.keeper.put(KeeperItem::Raise(opened(generation)));
        alone.drained(generation);
    }
    alone.settle_down().await;
    assert_eq!(alone.asked.lock().unwrap().len(), 1, "one is under way");
    for _ in 0..3 {
        alone.recorded.send(()).unwrap();
    }
    let mut view = alone.view.clone();
    view.wait_for(|view| view.fence == opened(7)).await.unwrap();
    let asked = alone.asked.lock().unwrap().clone();
    let generations: Vec<u64> = asked.iter().map(|fence| fence.generation.0).collect();
    assert_eq!(generations, [1, 5, 7]);
    assert_eq!(first.await.unwrap().unwrap_err(), AttachRefusal::Contended);
    alone.end().await;
}

#[tokio::test]
async fn whoever_has_no_attachment_is_told_the_open_generation_and_holds_nothing() {
    let alone = Alone::new();
    for _ in 0..2 {
        alone.recorded.send(()).unwrap();
    }
    let granted = alone.attach(1, false);
    alone.drained(1);
    let granted = granted.await.unwrap().unwrap();
    let refused = alone.confirm().await.unwrap().unwrap_err();
    assert!(matches!(refused, AttachRefusal::Held(_)), "{refused:?}");
    alone.keeper.put(KeeperItem::Detach(AttachmentId(1)));
    let answered = alone.confirm();
    alone.settle_down().await;
    alone.drained(2);
    let fence = answered.await.unwrap().unwrap();
    assert_eq!(
        (fence.generation, fence.mode),
        (Generation(2), Mode::Shared)
    );
    assert_eq!(alone.authority.now(), Some(fence));
    alone.settle_down().await;
    assert!(alone.introduction.borrow().holders.is_empty());
    assert_eq!(granted.fence.generation, Generation(1));
    alone.end().await;
}

/// Its client is on the way to another process. To give the disk to whoever happens to read a sector
/// meanwhile would fence a filesystem that lives.
#[tokio::test]
async fn whoever_has_no_attachment_leaves_an_exclusive_holder_the_time_to_fail_over() {
    let alone = Alone::new();
    for _ in 0..2 {
        alone.recorded.send(()).unwrap();
    }
    let (process, owner) = (Rank::new(2).unwrap(), OwnerId([7; 16]));
    let generation = Generation(4);
    let holder = Holder {
        process,
        owner,
        kind: AttachKind::Exclusive { join: None },
        generation,
        client: "10.0.0.9:1".to_owned(),
        since: 0,
    };
    let tag = Tag {
        coordinator: process,
        incarnation: Incarnation(1),
        sequence: 0,
    };
    let mode = Mode::Exclusive { owner, tag };
    alone
        .keeper
        .put(KeeperItem::Raise(Fence { generation, mode }));
    alone.drained(4);
    let told = vec![holder.clone()];
    alone.keeper.put(KeeperItem::PeerHolders(process, told));
    alone.keeper.put(KeeperItem::PeerDisconnected(process));
    let refused = tokio::time::timeout(Duration::from_secs(10), alone.confirm());
    let refused = refused.await.expect("it is refused at once").unwrap();
    assert_eq!(refused, Err(AttachRefusal::Held(Box::new(holder))));
    assert_eq!(alone.authority.now(), None);
    alone.settle_down().await;
    assert_eq!(*alone.asked.lock().unwrap(), [Fence { generation, mode }]);

    // It has not come back.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(6)).await;
    tokio::time::resume();
    let answered = alone.confirm();
    alone.settle_down().await;
    alone.drained(5);
    let fence = answered.await.unwrap().unwrap();
    assert_eq!(
        (fence.generation, fence.mode),
        (Generation(5), Mode::Shared)
    );
    alone.end().await;
}
