//! Options of sockets.

use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::sockopt;
use tokio::net::TcpStream;

/// For a session: small messages go at once, and unacknowledged ones end the connection in time.
pub(super) fn prepare_session(stream: &TcpStream, dead_after: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let timeout_ms = u32::try_from(dead_after.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(stream, timeout_ms)?;
    Ok(())
}

/// For a classic connection, which may be silent for as long as it likes: the system finds out
/// whether the other end is still there.
pub(super) fn prepare_classic(stream: &TcpStream) -> io::Result<()> {
    const IDLE: Duration = Duration::from_secs(60);
    const INTERVAL: Duration = Duration::from_secs(10);
    const PROBES: u32 = 3;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, IDLE)?;
    sockopt::set_tcp_keepintvl(stream, INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, PROBES)?;
    Ok(())
}

/// Whether the other end has closed its direction, whatever is still to be read of it.
pub(super) fn nothing_follows(stream: &TcpStream) -> io::Result<bool> {
    let mut asked = [PollFd::new(stream, PollFlags::RDHUP)];
    rustix::event::poll(&mut asked, Some(&Timespec::default()))?;
    Ok(asked[0]
        .revents()
        .intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR))
}
