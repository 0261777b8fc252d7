use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::sync::{Semaphore, oneshot};

use super::*;
use crate::command::ByteRange;
use crate::ending::Close;
use crate::seats::{Admission, Seats};

const PIPE_BYTES: usize = 1000;

fn rules(budget: &Arc<Budget>) -> Rules {
    let terms = Terms {
        size_bytes: 1 << 30,
        read_only: false,
        structured_replies: false,
        payload_bytes_max: 1 << 26,
    };
    Rules {
        terms,
        requests_max: 16,
        budget: Arc::clone(budget),
    }
}

fn link(stream: DuplexStream) -> Link<DuplexStream> {
    Link {
        peer: Peer::Unknown,
        stream,
        ahead: BytesMut::new(),
    }
}

/// A connection over a narrow pipe to a device of ones that is always ready.
fn connect(
    budget: &Arc<Budget>,
) -> (
    DuplexStream,
    impl Future<Output = Result<(), ConnectionError>> + use<>,
    oneshot::Sender<Close>,
) {
    let (client, server) = duplex(PIPE_BYTES);
    let Admission { seat, .. } = Seats::new(1).admit().unwrap();
    let connection = Connection::new(link(server), rules(budget), seat);
    let (sender, close) = oneshot::channel();
    let ending = Ending::new(close, pending());
    let run = connection.run(ending, |command, _| async move {
        match command {
            Command::Read {
                range: ByteRange { length, .. },
                ..
            } => Ok(vec![Run::Data(Bytes::from(vec![
                1;
                usize::try_from(length)
                    .unwrap()
            ]))]),
            _ => Ok(Vec::new()),
        }
    });
    (client, run, sender)
}

fn request(kind: u16, length: u32) -> Vec<u8> {
    let mut bytes = 0x2560_9513_u32.to_be_bytes().to_vec();
    bytes.extend(0_u16.to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0; 16]);
    bytes.extend(length.to_be_bytes());
    bytes
}

#[tokio::test(start_paused = true)]
async fn a_client_that_keeps_memory_from_others_loses_its_connection() {
    // One owes a payload, the other does not take its reply.
    for (kind, length) in [(1, 1 << 20), (0, 1 << 20)] {
        let budget = Arc::new(Budget::new(1 << 20));
        let (mut client, run, _close) = connect(&budget);
        client.write_all(&request(kind, length)).await.unwrap();
        let mut run = std::pin::pin!(run);
        // Nobody else wants the memory: a slow client may be as slow as it likes.
        assert!(
            timeout(Duration::from_secs(3600), run.as_mut())
                .await
                .is_err()
        );
        let mut other = std::pin::pin!(Arc::clone(&budget).reserve(0));
        assert!(timeout(Duration::ZERO, other.as_mut()).await.is_err());
        let ended = timeout(3 * LOOK_INTERVAL, run)
            .await
            .expect("the connection ends");
        assert!(matches!(ended, Err(ConnectionError::Stalled)), "{ended:?}");
        drop(other.await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_slow_but_moves_keeps_its_connection() {
    let budget = Arc::new(Budget::new(1 << 20));
    let (mut client, run, _close) = connect(&budget);
    let run = tokio::spawn(run);
    client.write_all(&request(1, 1 << 20)).await.unwrap();
    let other = tokio::spawn(Arc::clone(&budget).reserve(0));
    let piece = vec![1; 1 << 16];
    for _ in 0..16 {
        client.write_all(&piece).await.unwrap();
        tokio::time::sleep(LOOK_INTERVAL.mul_f64(0.99)).await;
    }
    assert_eq!(client.read_u32().await.unwrap(), 0x6744_6698);
    drop(other.await.unwrap());
    drop(client);
    run.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_keeps_no_timer_and_no_large_buffer() {
    let budget = Arc::new(Budget::new(1 << 20));
    let (client, server) = duplex(PIPE_BYTES);
    let Admission { seat, .. } = Seats::new(1).admit().unwrap();
    let mut connection = Connection::new(link(server), rules(&budget), seat);
    let mut start = |_: Command, _: Bytes| async { Ok(Vec::new()) };
    let mut client = client;
    let mut step = async |limit| {
        let poll = poll_fn(|cx| connection.poll(cx, &mut start));
        assert!(timeout(limit, poll).await.is_err());
        (connection.look.running, connection.incoming.capacity())
    };
    let before = step(LOOK_INTERVAL).await;
    assert!(!before.0, "nothing was said, and nothing is looked at");
    let payload = vec![1; 30_000];
    let send = async {
        client
            .write_all(&[&request(1, 30_000)[..], &payload].concat())
            .await
            .unwrap();
    };
    let (busy, ()) = tokio::join!(step(Duration::from_millis(1)), send);
    assert!(busy.0 && busy.1 > 30_000, "{busy:?}");
    // A poll that finds nothing leaves a small buffer to read into.
    let after = step(3 * LOOK_INTERVAL).await;
    assert!(!after.0 && after.1 <= before.1, "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_device_ends_the_connection_when_nothing_is_under_way_or_after_a_second() {
    const LOST_AFTER: Duration = Duration::from_secs(100);
    for (kind, expected) in [(None, LOST_AFTER), (Some(0), LOST_AFTER + FAREWELL)] {
        let budget = Arc::new(Budget::new(1 << 20));
        let (mut client, server) = duplex(PIPE_BYTES);
        let Admission { seat, .. } = Seats::new(1).admit().unwrap();
        let connection = Connection::new(link(server), rules(&budget), seat);
        let (_server, close) = oneshot::channel();
        let ending = Ending::new(close, tokio::time::sleep(LOST_AFTER));
        let run = connection.run(ending, |_, _| pending());
        let begin = Instant::now();
        let talk = async move {
            if let Some(kind) = kind {
                client.write_all(&request(kind, 4096)).await.unwrap();
            }
            assert_eq!(client.read_to_end(&mut Vec::new()).await.unwrap(), 0);
            begin.elapsed()
        };
        let (ended, elapsed) = tokio::join!(run, talk);
        ended.unwrap();
        assert_eq!(elapsed, expected);
    }
}

/// How a client goes away that has requests under way.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Goes {
    /// It closes its socket, which is noticed when it is answered.
    Away,
    /// The same while the server ends.
    AwayAtShutdown,
    /// It says something that is no request.
    OutOfStep,
}

/// What was read of a client is carried out whether it is still there or not: whoever comes next
/// must not find its writes half under way, nor see them happen later.
#[tokio::test(start_paused = true)]
async fn the_writes_of_a_client_that_has_gone_are_carried_out() {
    const WRITES: usize = 3;
    for goes in [Goes::Away, Goes::AwayAtShutdown, Goes::OutOfStep] {
        let (mut client, server) = duplex(PIPE_BYTES);
        let Admission { seat, .. } = Seats::new(1).admit().unwrap();
        let budget = Arc::new(Budget::new(1 << 20));
        let connection = Connection::new(link(server), rules(&budget), seat);
        let (server, close) = oneshot::channel();
        let (may_write, written) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let device = (Arc::clone(&may_write), Arc::clone(&written));
        let ending = Ending::new(close, pending());
        let run = tokio::spawn(connection.run(ending, move |_, _| {
            let (may_write, written) = device.clone();
            async move {
                may_write.acquire().await.unwrap().forget();
                written.fetch_add(1, Ordering::Relaxed);
                Ok(Vec::new())
            }
        }));
        for _ in 0..WRITES {
            let write = [&request(1, 512)[..], &[1; 512]].concat();
            client.write_all(&write).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        match goes {
            Goes::OutOfStep => client.write_all(&[0; 28]).await.unwrap(),
            Goes::Away => drop(client),
            Goes::AwayAtShutdown => {
                let deadline = Instant::now() + Duration::from_secs(10);
                server.send(Close::Drain { deadline }).unwrap();
                drop(client);
            }
        }
        may_write.add_permits(1);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!run.is_finished(), "{goes:?}: it waits for the others");
        may_write.add_permits(WRITES - 1);
        let ended = run.await.unwrap();
        assert!(ended.is_err(), "{goes:?}: {ended:?}");
        assert_eq!(written.load(Ordering::Relaxed), WRITES, "{goes:?}");
    }
}
