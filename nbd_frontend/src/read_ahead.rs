//! What a client sends while it has to wait.
//!
//! A client that waits for its export to be opened sends nothing as a rule, and whether it is
//! still there shows only in reading. What it does send is kept, for whoever reads next.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

/// A client that sends more than this ahead is no longer watched until its export is open.
const AHEAD_BYTES_MAX: usize = 16 << 10;

/// A stream, after the bytes that were read ahead of their time.
#[derive(Debug)]
pub(crate) struct ReadAhead<S> {
    stream: S,
    ahead: BytesMut,
}

impl<S: AsyncRead + Unpin> ReadAhead<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            ahead: BytesMut::new(),
        }
    }

    /// What the future gives, or `None` when the client closes its side before.
    pub(crate) async fn unless_closed<T>(
        &mut self,
        future: impl Future<Output = T>,
    ) -> io::Result<Option<T>> {
        let mut future = pin!(future);
        loop {
            tokio::select! {
                // A future that is ready needs no look at the client, as it needed none before.
                biased;
                output = &mut future => return Ok(Some(output)),
                read = self.fill(), if self.ahead.len() < AHEAD_BYTES_MAX => {
                    if read? == 0 {
                        return Ok(None);
                    }
                }
            }
        }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        let room = AHEAD_BYTES_MAX - self.ahead.len();
        let mut ahead = (&mut self.ahead).limit(room);
        self.stream.read_buf(&mut ahead).await
    }

    /// To write to it.
    pub(crate) fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// What was read ahead and is still to be used.
    pub(crate) fn into_ahead(self) -> BytesMut {
        self.ahead
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, target);
        }
        let length = self.ahead.len().min(target.remaining());
        target.put_slice(&self.ahead[..length]);
        self.ahead.advance(length);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn what_came_ahead_is_read_first() {
        let (mut client, server) = duplex(100);
        let mut server = ReadAhead::new(server);
        client.write_all(b"one").await.unwrap();
        let (go_on, went_on) = tokio::sync::oneshot::channel();
        let (waited, ()) = tokio::join!(server.unless_closed(went_on), async {
            // The other side of the join reads it before it is polled again.
            tokio::task::yield_now().await;
            client.write_all(b"two").await.unwrap();
            tokio::task::yield_now().await;
            go_on.send(7).unwrap();
        });
        assert_eq!(waited.unwrap(), Some(Ok(7)));
        client.write_all(b"three").await.unwrap();
        let mut found = [0; 11];
        server.read_exact(&mut found[..2]).await.unwrap();
        server.read_exact(&mut found[2..]).await.unwrap();
        assert_eq!(&found, b"onetwothree");
        assert!(server.into_ahead().is_empty());
    }

    #[tokio::test]
    async fn a_client_that_leaves_is_noticed_whatever_it_sent() {
        let (mut client, server) = duplex(100);
        let mut server = ReadAhead::new(server);
        client.write_all(b"goodbye").await.unwrap();
        drop(client);
        assert_eq!(server.unless_closed(pending::<()>()).await.unwrap(), None);
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"goodbye");
    }

    #[tokio::test]
    async fn no_more_is_kept_than_allowed() {
        let (mut client, server) = duplex(4 * AHEAD_BYTES_MAX);
        let mut server = ReadAhead::new(server);
        client
            .write_all(&vec![1; 2 * AHEAD_BYTES_MAX])
            .await
            .unwrap();
        let limit = std::time::Duration::from_millis(20);
        let waiting = server.unless_closed(pending::<()>());
        assert!(tokio::time::timeout(limit, waiting).await.is_err());
        assert_eq!(server.into_ahead().len(), AHEAD_BYTES_MAX);
    }

    #[tokio::test]
    async fn what_is_ready_needs_no_client() {
        let (client, server) = duplex(100);
        drop(client);
        let ready = ReadAhead::new(server).unless_closed(async { 1 }).await;
        assert_eq!(ready.unwrap(), Some(1));
    }
}
