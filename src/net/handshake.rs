//! The key exchange over a stream.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::NetError;
use crate::wire::{
    Acceptor, Connector, EPHEMERAL_BYTES, EXCHANGE_BYTES, Established, HELLO_BYTES, Unproven,
};

/// How long the connector of a refused hello may take to read ours.
const LINGER: Duration = Duration::from_millis(500);

/// Opens a session as its connector.
pub(super) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    (connector, hello): (Connector, [u8; HELLO_BYTES]),
) -> Result<Established, NetError> {
    stream.write_all(&hello).await?;
    let theirs = receive::<HELLO_BYTES>(stream).await?;
    let (connecting, exchange) = connector.hello(&theirs, ephemeral())?;
    stream.write_all(&exchange).await?;
    let theirs = receive::<EXCHANGE_BYTES>(stream).await?;
    Ok(connecting.exchange(&theirs)?)
}

/// Takes a session as its listener. The connector has proven nothing until its first message was
/// opened.
pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    acceptor: &Acceptor,
) -> Result<Unproven, NetError> {
    let theirs = receive::<HELLO_BYTES>(stream).await?;
    let (hello, accepting) = acceptor.hello(&theirs, ephemeral());
    stream.write_all(&hello).await?;
    let accepting = match accepting {
        Ok(accepting) => accepting,
        Err(error) => {
            // The connector's message of the exchange may be on its way: closing without having
            // read it would reset the connection, and our hello, which says what differs, be lost.
            stream.shutdown().await?;
            let mut unread = [0; EXCHANGE_BYTES];
            if timeout(LINGER, stream.read_exact(&mut unread))
                .await
                .is_err()
            {
                tracing::trace!("the connector waits for more");
            }
            return Err(error.into());
        }
    };
    let theirs = receive::<EXCHANGE_BYTES>(stream).await?;
    let (unproven, exchange) = accepting.exchange(&theirs)?;
    stream.write_all(&exchange).await?;
    Ok(unproven)
}

async fn receive<const N: usize>(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<[u8; N], NetError> {
    let mut bytes = [0; N];
    match stream.read_exact(&mut bytes).await {
        Ok(_) => Ok(bytes),
        Err(error) if ended(&error) => Err(NetError::Rejected),
        Err(error) => Err(error.into()),
    }
}

fn ended(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
    )
}

fn ephemeral() -> [u8; EPHEMERAL_BYTES] {
    rand::random()
}
