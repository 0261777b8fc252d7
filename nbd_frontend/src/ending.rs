//! What ends a connection from this side: the server's word, or the loss of the device.

use std::future::Future;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Fuse};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

/// How long requests under way may take when the device is lost: they fail by themselves, and this
/// is for those that don't.
const LOST_GRACE: Duration = Duration::from_secs(1);

/// What the server says to a connection.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Close {
    /// Leave at once: another client needs the seat.
    MakeRoom,
    /// Take no more requests, and finish those under way until then.
    Drain { deadline: Instant },
}

/// Why a connection is ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The server said so.
    Closed,
    /// The device is lost to the client.
    Lost,
}

/// Both ends a connection can come to; one may follow the other, and the earlier deadline counts.
pub(crate) struct Ending<'a> {
    close: Fuse<oneshot::Receiver<Close>>,
    lost: Fuse<BoxFuture<'a, ()>>,
    deadline: Option<Instant>,
}

impl<'a> Ending<'a> {
    /// The end that comes with a word on `close`, or when `lost` returns.
    pub(crate) fn new(
        close: oneshot::Receiver<Close>,
        lost: impl Future<Output = ()> + Send + 'a,
    ) -> Self {
        Self {
            close: close.fuse(),
            lost: lost.boxed().fuse(),
            deadline: None,
        }
    }

    /// Returns when the connection is to take no more requests, or to be done sooner than it knew.
    pub(crate) async fn begins(&mut self) -> End {
        let (end, deadline) = tokio::select! {
            biased;
            close = &mut self.close => (End::Closed, deadline(&close)),
            () = &mut self.lost => (End::Lost, Instant::now() + LOST_GRACE),
        };
        self.deadline = Some(self.deadline.map_or(deadline, |known| known.min(deadline)));
        end
    }

    /// Returns when requests under way may take no longer.
    pub(crate) async fn is_due(&mut self) {
        loop {
            let Some(deadline) = self.deadline else {
                self.begins().await;
                continue;
            };
            tokio::select! {
                biased;
                () = sleep_until(deadline) => return,
                _ = self.begins() => {}
            }
        }
    }
}

fn deadline(close: &Result<Close, oneshot::error::RecvError>) -> Instant {
    match close {
        Ok(Close::Drain { deadline }) => *deadline,
        // Without a server there is nobody to wait for.
        Ok(Close::MakeRoom) | Err(_) => Instant::now(),
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::{sleep, timeout};

    use super::*;

    const LONG: Duration = Duration::from_secs(100);

    #[tokio::test(start_paused = true)]
    async fn nothing_ends_by_itself() {
        let (_server, close) = oneshot::channel();
        let mut ending = Ending::new(close, pending());
        assert!(timeout(LONG, ending.begins()).await.is_err());
        assert!(timeout(LONG, ending.is_due()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_device_leaves_a_second() {
        let (_server, close) = oneshot::channel();
        let mut ending = Ending::new(close, sleep(LONG));
        let begin = Instant::now();
        assert_eq!(ending.begins().await, End::Lost);
        assert_eq!(begin.elapsed(), LONG);
        ending.is_due().await;
        assert_eq!(begin.elapsed(), LONG + LOST_GRACE);
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_deadline_counts() {
        for (lost_after, grace, expected) in [(10, 50, 11), (50, 10, 10), (9, 10, 10)] {
            let (server, close) = oneshot::channel();
            let begin = Instant::now();
            let mut ending = Ending::new(close, sleep(Duration::from_secs(lost_after)));
            let deadline = begin + Duration::from_secs(grace);
            server.send(Close::Drain { deadline }).unwrap();
            assert_eq!(ending.begins().await, End::Closed);
            ending.is_due().await;
            assert_eq!(begin.elapsed(), Duration::from_secs(expected));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_shortens_the_end_of_a_lost_device() {
        let (server, close) = oneshot::channel();
        let begin = Instant::now();
        let mut ending = Ending::new(close, std::future::ready(()));
        assert_eq!(ending.begins().await, End::Lost);
        let deadline = begin + LOST_GRACE / 2;
        let say = async { server.send(Close::Drain { deadline }).unwrap() };
        tokio::join!(ending.is_due(), say);
        assert_eq!(begin.elapsed(), LOST_GRACE / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_ends_by_itself_still_hears_of_both() {
        let (server, close) = oneshot::channel();
        let mut ending = Ending::new(close, sleep(LONG));
        let begin = Instant::now();
        ending.is_due().await;
        assert_eq!(begin.elapsed(), LONG + LOST_GRACE);
        drop(server);
        // There is no going back.
        ending.is_due().await;
        assert_eq!(begin.elapsed(), LONG + LOST_GRACE);
    }
}
