//! Who belongs to the cluster: its birth, the recognition of stores, and whether there is a
//! majority.
//!
//! One task owns all of it and takes the links' news in order. It relies on [`super::birth`] for
//! the rules, and on the store for making records durable before they count.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::birth::{Met, Recognition, Unborn, Verdict, adopt, recognize};
use super::run::ProcessError;
use super::switchboard::{Connection, News, Switchboard};
use super::timer::sleep_until;
use crate::domain::{Birth, Holder, ProcessState, Rank, StoreId};
use crate::store::DiskSectors;
use crate::wire::Introduction;

/// A majority that is missed for less is not worth a line in the log: a restart takes as long.
const WARN_AFTER: Duration = Duration::from_secs(2);

/// The membership's own state.
pub(crate) struct Membership {
    unborn: Unborn,
    birth: Option<Birth>,
    met: BTreeMap<Rank, Met>,
    /// Over which they were met.
    connections: BTreeMap<Rank, Connection>,
    /// Those that came with another directory, and over which connection that was said last.
    strangers: BTreeMap<Rank, Connection>,
    /// What they say of the attachments that they run, and the keeper has not heard yet.
    holders: BTreeMap<Rank, Vec<Holder>>,
    store: Arc<DiskSectors>,
    switchboard: Arc<Switchboard>,
    introduction: watch::Sender<Introduction>,
    state: watch::Sender<Standing>,
    warned: bool,
}

/// Where the process stands in its cluster, for `status` and for those who wait to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not born: these processes have not been met.
    Unborn { missing: Vec<Rank> },
    /// A majority is there.
    Serving,
    /// Born, but without a majority since then.
    Alone { since: Instant },
}

impl Standing {
    pub(crate) fn is_born(&self) -> bool {
        !matches!(self, Self::Unborn { .. })
    }

    /// The same for `atdd status`.
    pub(crate) fn report(&self) -> ProcessState {
        match self {
            Self::Unborn { missing } => ProcessState::WaitingForBirth {
                missing: missing.clone(),
            },
            Self::Serving => ProcessState::Serving,
            Self::Alone { since } => ProcessState::WaitingForMajority {
                seconds: since.elapsed().as_secs(),
            },
        }
    }
}

impl Membership {
    pub(crate) fn new(
        unborn: Unborn,
        store: Arc<DiskSectors>,
        switchboard: Arc<Switchboard>,
        introduction: watch::Sender<Introduction>,
        state: watch::Sender<Standing>,
    ) -> Self {
        let birth = store.birth();
        let met = BTreeMap::new();
        Self {
            unborn,
            birth,
            met,
            connections: BTreeMap::new(),
            strangers: BTreeMap::new(),
            holders: BTreeMap::new(),
            store,
            switchboard,
            introduction,
            state,
            warned: false,
        }
    }

    /// Follows the links until the switchboard's news are closed; ends early when this directory
    /// must not serve.
    pub(crate) async fn run(mut self) -> Result<(), ProcessError> {
        self.consider().await?;
        let mut news = Vec::new();
        let switchboard = Arc::clone(&self.switchboard);
        loop {
            let warn_at = self.warn_at();
            tokio::select! {
                open = switchboard.news().take(&mut news) => {
                    if !open {
                        return Ok(());
                    }
                    for item in news.drain(..) {
                        self.note(item)?;
                    }
                    self.consider().await?;
                }
                () = sleep_until(warn_at) => self.warn(),
            }
        }
    }

    fn note(&mut self, news: News) -> Result<(), ProcessError> {
        match news {
            News::Introduced {
                peer,
                connection,
                introduction:
                    Introduction {
                        store,
                        birth,
                        holders,
                        ..
                    },
            } => {
                self.met.insert(peer, Met { store, birth });
                self.connections.insert(peer, connection);
                self.holders.insert(peer, holders);
            }
            News::Disconnected(peer) => {
                self.met.remove(&peer);
                self.holders.remove(&peer);
            }
            News::Record { peer, birth } if self.birth.is_none() => {
                if let Some(Verdict::Refused { by, named }) = self.unborn.refusal(peer, &birth) {
                    return Err(self.refused(by, named));
                }
            }
            News::Record { .. } => {}
        }
        Ok(())
    }

    fn refused(&self, by: Rank, named: StoreId) -> ProcessError {
        let own = self.unborn.store;
        ProcessError::Refused { by, named, own }
    }

    async fn consider(&mut self) -> Result<(), ProcessError> {
        if self.birth.is_none() {
            match self.unborn.judge(&self.met) {
                Verdict::Wait { missing } => self.wait(missing),
                Verdict::Refused { by, named } => return Err(self.refused(by, named)),
                Verdict::Born(birth) => {
                    self.record(birth).await?;
                    info!(rank = %self.unborn.own, "the cluster is born");
                }
            }
        }
        if self.birth.is_some() {
            self.recognize_all().await?;
            // What a process says counts only after its store is recognized.
            for (peer, holders) in std::mem::take(&mut self.holders) {
                self.switchboard
                    .holders(peer, self.connections[&peer], holders);
            }
            self.count();
        }
        Ok(())
    }

    fn wait(&mut self, missing: Vec<Rank>) {
        let standing = Standing::Unborn { missing };
        self.state.send_if_modified(|state| {
            let changed = *state != standing;
            *state = standing;
            changed
        });
    }

    /// Makes a record durable; only then does anyone hear of it.
    async fn record(&mut self, birth: Birth) -> Result<(), ProcessError> {
        let store = Arc::clone(&self.store);
        let recorded = birth.clone();
        tokio::task::spawn_blocking(move || store.record_birth(&recorded))
            .await
            .expect("recording does not panic")?;
        self.birth = Some(birth.clone());
        self.introduction
            .send_modify(|introduction| introduction.birth = Some(birth));
        Ok(())
    }

    async fn recognize_all(&mut self) -> Result<(), ProcessError> {
        let met: Vec<(Rank, StoreId, Connection)> = self
            .met
            .iter()
            .map(|(rank, met)| (*rank, met.store, self.connections[rank]))
            .collect();
        for (peer, store, connection) in met {
            let birth = self.birth.as_ref().expect("asked of a born process only");
            match recognize(birth, peer, store) {
                Recognition::Known => self.switchboard.recognize(peer, connection),
                Recognition::Adopt => {
                    let adopted = adopt(birth, peer, store);
                    self.record(adopted).await?;
                    info!(%peer, %store, "recorded the store of a process that joined later");
                    self.switchboard.recognize(peer, connection);
                }
                // It has news of itself now and then, none of which changes this.
                Recognition::Stranger { recorded }
                    if self.strangers.insert(peer, connection) != Some(connection) =>
                {
                    error!(
                        %peer, %store, %recorded,
                        "process {peer} came with another directory than the cluster was born \
                         with; it has no vote: give it back its own directory"
                    );
                }
                Recognition::Stranger { .. } => {}
            }
        }
        Ok(())
    }

    fn count(&mut self) {
        let peers = Rank::all(self.unborn.processes).filter(|rank| *rank != self.unborn.own);
        let recognized = peers
            .filter(|rank| self.switchboard.is_recognized(*rank))
            .count();
        let majority = self.unborn.majority();
        let enough = recognized + 1 >= majority;
        if enough && self.warned {
            info!("a majority is there again; operations go on");
            self.warned = false;
        }
        self.state.send_if_modified(|state| match state {
            Standing::Alone { .. } if !enough => false,
            Standing::Serving if enough => false,
            _ if enough => {
                *state = Standing::Serving;
                true
            }
            _ => {
                *state = Standing::Alone {
                    since: Instant::now(),
                };
                true
            }
        });
    }

    fn warn_at(&self) -> Option<Instant> {
        match *self.state.borrow() {
            Standing::Alone { since } if !self.warned => Some(since + WARN_AFTER),
            _ => None,
        }
    }

    fn warn(&mut self) {
        self.warned = true;
        let missing: Vec<String> = Rank::all(self.unborn.processes)
            .filter(|rank| *rank != self.unborn.own && !self.switchboard.is_recognized(*rank))
            .map(|rank| rank.to_string())
            .collect();
        warn!(
            "no majority: operations wait until one of the processes {} is back",
            missing.join(", ")
        );
    }
}
