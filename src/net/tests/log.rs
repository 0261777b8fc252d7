//! What is logged, for tests to look at.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::timeout;
use tracing::Level;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

use super::support::{PATIENCE, eventually};

/// The lines that were logged while it lives, by tasks on this thread.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Keeps what is logged at this level and above until the guard is dropped.
    pub(crate) fn start(level: Level) -> (Self, DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_max_level(level)
            .with_writer(log.clone())
            .finish();
        let guard = tracing::subscriber::set_default(subscriber);
        (log, guard)
    }

    /// The lines since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let bytes = self.0.lock().unwrap().clone();
        String::from_utf8(bytes)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// Waits for a line with these words.
    pub(crate) async fn some_line(&self, words: &str) {
        eventually(|| self.lines().iter().any(|line| line.contains(words))).await;
    }

    /// Waits for a line with these words, and asserts that it is the only one so far.
    #[track_caller]
    pub(crate) fn only_line(&self, words: &str) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let waiting = async {
                while self.lines().is_empty() {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            assert!(
                timeout(PATIENCE, waiting).await.is_ok(),
                "no line at {caller}"
            );
            let lines = self.lines();
            let fits = matches!(&lines[..], [line] if line.contains(words));
            assert!(
                fits,
                "not one line with \"{words}\" at {caller}: {lines:#?}"
            );
            self.0.lock().unwrap().clear();
        }
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
