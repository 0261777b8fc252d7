//! What can go wrong with a store.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::domain::Rank;

/// Why a store can not be opened, or can not go on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused. What was not acknowledged by then may be lost.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, and with what.
        doing: String,
        /// Why it failed.
        source: Arc<io::Error>,
    },
    /// Another process uses the directory.
    #[error(
        "{directory} is in use by {holder}; stop that process first, a store is served by one at a time",
        directory = .directory.display()
    )]
    Locked {
        /// The store's directory.
        directory: PathBuf,
        /// The process that holds the lock, as far as it is known.
        holder: String,
    },
    /// There is no store in the directory, or no directory.
    #[error(
        "{directory} is no store: it has no file `sectors`; give the directory that a process \
         stores in, such as the process-1 in that of `atdd dev`",
        directory = .directory.display()
    )]
    NoStore {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory holds something else.
    #[error(
        "{directory} is no store: it has no file `sectors`, but it has `{found}`; give an empty directory or a store's",
        directory = .directory.display()
    )]
    NotAStore {
        /// The directory.
        directory: PathBuf,
        /// Something that is in it.
        found: String,
    },
    /// The file was written by another version of this program.
    #[error(
        "the store has format {found}, and this program knows formats up to {known}; use the program version that wrote it"
    )]
    UnknownFormat {
        /// The format of the file.
        found: u32,
        /// The highest format that is known here.
        known: u32,
    },
    /// The store belongs to another cluster.
    #[error(
        "the store belongs to cluster {found}, not to {expected}; check which directory is given to which cluster"
    )]
    OtherCluster {
        /// The cluster that the directory belongs to, in hex digits.
        found: String,
        /// The cluster that was asked for.
        expected: String,
    },
    /// The store belongs to another process of the cluster.
    #[error(
        "the store belongs to process {found}, not to {expected}; check which directory is given to which rank"
    )]
    OtherRank {
        /// The rank that the directory belongs to.
        found: Rank,
        /// The rank that was asked for.
        expected: Rank,
    },
    /// Both copies of the identity are damaged.
    #[error("both copies of the store's identity are damaged; {REPLACE}")]
    IdentityDamaged,
    /// No root is left from which everything acknowledged can be reached.
    #[error("the store's roots are damaged; {REPLACE}")]
    RootDamaged,
    /// Both copies of the free map are damaged.
    #[error("both copies of the free map are damaged; {REPLACE}")]
    SpaceDamaged,
    /// A batch that was acknowledged can not be read any more.
    #[error(
        "the journal is damaged: the batch after {after} was acknowledged, and can not be read any more; {REPLACE}"
    )]
    JournalDamaged {
        /// The sequence of the last batch before the one that is missing.
        after: u64,
    },
    /// What was read is whole and can not be true: a fault of this program.
    #[error("the store contradicts itself: {what}; {REPLACE}")]
    Inconsistent {
        /// The contradiction.
        what: String,
    },
    /// The birth was recorded before, and differently.
    #[error("the store was already told that its cluster is born, with other stores")]
    AlreadyBorn,
    /// The identity is whole, and has fences that mean nothing here.
    #[error(
        "the store has fences that this program does not know, or that can not be; use the program version that wrote it"
    )]
    FencesUnknown,
    /// The fence is of a generation that nobody can have counted to.
    #[error("generation {generation} is not recorded: no volume was ever attached so often")]
    FenceTooHigh {
        /// The generation.
        generation: u64,
    },
    /// The identity has no room for another volume's fence.
    #[error("no room for a fence of volume {volume}: the store has those of {most} volumes")]
    TooManyFences {
        /// The volume.
        volume: u16,
        /// How many there is room for.
        most: usize,
    },
    /// The store was started more often than can be counted.
    #[error("the store was started 2^32 times; {REPLACE}")]
    IncarnationsExhausted,
    /// The store failed before, or was closed.
    #[error("the store takes nothing more: {why}")]
    Stopped {
        /// What happened.
        why: String,
    },
}

/// What to do about a directory that can not vote any more.
const REPLACE: &str = "nothing of it can be believed to be up to date, so it must not vote: \
    keep the directory aside, and have this process rebuilt from the others";

impl StoreError {
    /// An error of the operating system, with what was being done.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io {
            doing,
            source: Arc::new(source),
        }
    }

    /// Two things that exclude one another.
    pub(crate) fn inconsistent(what: impl Into<String>) -> Self {
        Self::Inconsistent { what: what.into() }
    }

    /// Whether the file system had no room.
    pub(crate) fn is_full(&self) -> bool {
        let Self::Io { source, .. } = self else {
            return false;
        };
        matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        )
    }
}
