use futures_util::task::noop_waker;
use proptest::prelude::*;
use tokio::io::ReadBuf;

use super::*;
use crate::proto::ErrorCode;

const TERMS: Terms = Terms {
    size_bytes: 1 << 30,
    read_only: false,
    structured_replies: false,
    payload_bytes_max: 1 << 20,
};

/// A socket from which bytes come in pieces of given sizes, with nothing to read in between.
struct Dripping {
    bytes: Vec<u8>,
    at: usize,
    pieces: Vec<usize>,
    next: usize,
    blocked: bool,
}

impl Dripping {
    fn new(bytes: Vec<u8>, pieces: Vec<usize>) -> Self {
        Self {
            bytes,
            at: 0,
            pieces,
            next: 0,
            blocked: true,
        }
    }
}

impl AsyncRead for Dripping {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.blocked = !self.blocked;
        if self.blocked {
            return Poll::Pending;
        }
        let piece = self.pieces[self.next % self.pieces.len()];
        self.next += 1;
        let end = (self.at + piece.min(buf.remaining())).min(self.bytes.len());
        buf.put_slice(&self.bytes[self.at..end]);
        self.at = end;
        Poll::Ready(Ok(()))
    }
}

fn request(kind: u16, cookie: u64, length: usize) -> Vec<u8> {
    let mut bytes = 0x2560_9513_u32.to_be_bytes().to_vec();
    bytes.extend(0_u16.to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend(cookie.to_be_bytes());
    bytes.extend(4096_u64.to_be_bytes());
    bytes.extend(u32::try_from(length).unwrap().to_be_bytes());
    bytes
}

fn write(cookie: u64, length: usize) -> Vec<u8> {
    let fill = u8::try_from(cookie).unwrap();
    [request(1, cookie, length), vec![fill; length]].concat()
}

/// Everything that arrives until the end or an error; `None` where nothing more would ever come.
fn receive(incoming: &mut Incoming, socket: &mut Dripping) -> Vec<Result<Arrival, IncomingError>> {
    let waker = noop_waker();
    let mut cx = Context::from_waker(&waker);
    let mut arrivals = Vec::new();
    let mut idle = 0;
    while idle < 4 {
        match incoming.poll_next(&TERMS, &mut cx) {
            Poll::Ready(arrival) => {
                let is_last = matches!(arrival, Err(_) | Ok(Arrival::Goodbye | Arrival::End));
                arrivals.push(arrival);
                if is_last {
                    break;
                }
            }
            Poll::Pending => match incoming.poll_fill(socket, &mut cx) {
                Poll::Ready(result) => {
                    result.unwrap();
                    idle = 0;
                }
                Poll::Pending => idle += 1,
            },
        }
    }
    arrivals
}

impl Incoming {
    /// What the buffer takes of memory, for tests of its owner.
    pub(crate) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}

fn incoming() -> Incoming {
    Incoming::new(Arc::new(Budget::new(1 << 30)), BytesMut::new())
}

#[test]
fn an_end_between_requests_is_an_end_and_one_within_is_not() {
    let stream = write(1, 3000);
    for cut in 0..=stream.len() {
        let mut socket = Dripping::new(stream[..cut].to_vec(), vec![10_000]);
        let arrivals = receive(&mut incoming(), &mut socket);
        let expected = match cut {
            0 => matches!(arrivals[..], [Ok(Arrival::End)]),
            n if n == stream.len() => {
                matches!(
                    arrivals[..],
                    [Ok(Arrival::Request { .. }), Ok(Arrival::End)]
                )
            }
            _ => matches!(arrivals[..], [Err(IncomingError::Truncated)]),
        };
        assert!(expected, "cut at {cut}: {arrivals:?}");
    }
}

#[test]
fn nothing_is_read_after_a_disconnect() {
    let stream = [request(2, 1, 0), write(2, 10)].concat();
    let mut socket = Dripping::new(stream, vec![28]);
    let arrivals = receive(&mut incoming(), &mut socket);
    assert!(
        matches!(arrivals[..], [Ok(Arrival::Goodbye)]),
        "{arrivals:?}"
    );
    assert_eq!(socket.at, 28);
}

#[test]
fn a_payload_waits_for_its_memory_and_the_buffer_does_not_grow_meanwhile() {
    let budget = Arc::new(Budget::new(1 << 20));
    let held = budget.try_reserve(1 << 20).unwrap();
    let mut incoming = Incoming::new(Arc::clone(&budget), BytesMut::new());
    let stream = [write(1, 500_000), write(2, 10)].concat();
    let mut socket = Dripping::new(stream, vec![1 << 20]);
    assert!(receive(&mut incoming, &mut socket).is_empty());
    assert!(
        socket.at <= 2 * BUFFER_BYTES_MIN,
        "{} bytes were read",
        socket.at
    );
    assert!(!incoming.awaits_payload());
    drop(held);
    let arrivals = receive(&mut incoming, &mut socket);
    assert!(matches!(arrivals.len(), 3), "{arrivals:?}");
}

#[test]
fn an_idle_connection_gives_its_buffer_back() {
    let mut incoming = incoming();
    let stream = (0..200)
        .map(|cookie| write(cookie, 4096))
        .collect::<Vec<_>>()
        .concat();
    receive(&mut incoming, &mut Dripping::new(stream, vec![1 << 20]));
    assert_eq!(incoming.buffer_bytes, BUFFER_BYTES_MAX);
    incoming.shrink();
    assert_eq!(
        (incoming.buffer.capacity(), incoming.buffer_bytes),
        (0, BUFFER_BYTES_MIN)
    );
}

proptest! {
    /// However the stream is cut into pieces, the same requests come out of it.
    #[test]
    fn requests_survive_any_fragmentation(
        lengths in prop::collection::vec(
            prop_oneof![
                Just(0_usize), 1..40_usize, 2000..2100_usize, 4090..4100_usize, 30_000..140_000_usize
            ],
            1..30,
        ),
        pieces in prop::collection::vec(
            prop_oneof![1..30_usize, 4000..5000_usize, Just(1_usize << 20)],
            1..10,
        ),
    ) {
        let mut stream = Vec::new();
        for (cookie, length) in (0..).zip(&lengths) {
            // Every third one is refused, and its payload must vanish.
            let kind = if cookie % 3 == 2 { 0xff01 } else { 1 };
            stream.extend(request(1, cookie, *length));
            if kind == 1 {
                stream.extend(vec![u8::try_from(cookie).unwrap(); *length]);
            } else {
                let flags = stream.len() - REQUEST_HEADER_BYTES + 4;
                stream[flags] = 0xff;
                stream.extend(vec![0x25; *length]);
            }
        }
        let arrivals = receive(&mut incoming(), &mut Dripping::new(stream, pieces));
        prop_assert_eq!(arrivals.len(), lengths.len() + 1);
        for ((cookie, length), arrival) in (0..).zip(lengths).zip(arrivals) {
            match arrival.unwrap() {
                Arrival::Request { cookie: found, payload, .. } => {
                    prop_assert!(found == cookie && cookie % 3 != 2);
                    prop_assert!(payload == vec![u8::try_from(cookie).unwrap(); length]);
                }
                Arrival::Refused { cookie: found, refusal } => {
                    prop_assert!(found == cookie && cookie % 3 == 2);
                    prop_assert_eq!(refusal.code, ErrorCode::Invalid);
                }
                Arrival::Goodbye | Arrival::End => prop_assert!(false, "the end came early"),
            }
        }
    }
}
