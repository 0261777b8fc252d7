use futures_util::task::noop_waker;
use proptest::prelude::*;

use super::*;
use crate::budget::Budget;
use crate::proto::ErrorCode;

/// A socket that takes at most so many bytes in one write, and none every other time.
struct Narrow {
    width: usize,
    blocked: bool,
    taken: Vec<u8>,
}

impl AsyncWrite for Narrow {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.blocked = !self.blocked;
        if self.blocked {
            return Poll::Pending;
        }
        let before = self.taken.len();
        let width = self.width;
        self.taken
            .extend(slices.iter().flat_map(|slice| slice.iter()).take(width));
        let taken = self.taken.len() - before;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn read_heading(cookie: u64, length: usize) -> Heading {
    let range = ByteRange {
        offset: 0,
        length: u64::try_from(length).unwrap(),
    };
    Heading {
        cookie,
        shape: Shape::Data {
            range,
            single_chunk: false,
        },
    }
}

#[test]
fn memory_is_kept_until_the_last_byte_of_a_reply_is_out() {
    let budget = Budget::new(1 << 20);
    let all = || budget.try_reserve(1 << 20).is_some();
    let mut outgoing = Outgoing::new(false);
    for cookie in 0..2 {
        let data = Bytes::from(vec![1; 5000]);
        let reservation = budget.try_reserve(5000);
        outgoing.succeed(read_heading(cookie, 5000), &[Run::Data(data)], reservation);
    }
    let mut socket = Narrow {
        width: 16 + 5000 + 16 + 4999,
        blocked: true,
        taken: Vec::new(),
    };
    let waker = noop_waker();
    let mut cx = Context::from_waker(&waker);
    assert_eq!(outgoing.replies(), 2);
    assert!(outgoing.poll_write(&mut socket, &mut cx).is_pending());
    assert_eq!(outgoing.replies(), 1);
    assert!(!all());
    assert!(outgoing.poll_write(&mut socket, &mut cx).is_ready());
    assert_eq!(outgoing.replies(), 0);
    assert!(all());
}

#[test]
fn many_small_replies_go_out_in_one_write() {
    let mut outgoing = Outgoing::new(false);
    for cookie in 0..100 {
        outgoing.succeed(
            Heading {
                cookie,
                shape: Shape::Status,
            },
            &[],
            None,
        );
    }
    assert!(outgoing.slices.is_empty());
    let mut socket = Narrow {
        width: usize::MAX,
        blocked: true,
        taken: Vec::new(),
    };
    let waker = noop_waker();
    assert!(
        outgoing
            .poll_write(&mut socket, &mut Context::from_waker(&waker))
            .is_ready()
    );
    assert_eq!(socket.taken.len(), 1600);
}

proptest! {
    /// However little the socket takes at a time, every byte goes out once and in order.
    #[test]
    fn replies_survive_narrow_sockets(
        lengths in prop::collection::vec(
            prop_oneof![Just(0_usize), 1..100_usize, 500..520_usize, 4000..6000_usize],
            1..40,
        ),
        width in prop_oneof![20..100_usize, 100..20_000_usize],
    ) {
        let mut outgoing = Outgoing::new(false);
        let mut socket = Narrow { width, blocked: true, taken: Vec::new() };
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        let mut expected = Vec::new();
        for (cookie, length) in (0_u64..).zip(lengths) {
            let fill = u8::try_from(cookie).unwrap();
            let data = Bytes::from(vec![fill; length]);
            if length == 0 {
                outgoing.fail(cookie, &Refusal::new(ErrorCode::Io, "no"), None);
            } else {
                outgoing.succeed(read_heading(cookie, length), &[Run::Data(data)], None);
            }
            expected.extend([0x67, 0x44, 0x66, 0x98, 0, 0, 0, if length == 0 { 5 } else { 0 }]);
            expected.extend(cookie.to_be_bytes());
            expected.extend(vec![fill; length]);
            if cookie % 3 == 0 {
                prop_assert!(!matches!(outgoing.poll_write(&mut socket, &mut cx), Poll::Ready(Err(_))));
            }
        }
        while outgoing.poll_write(&mut socket, &mut cx).is_pending() {}
        prop_assert_eq!(outgoing.replies(), 0);
        prop_assert_eq!(outgoing.written_bytes(), u64::try_from(expected.len()).unwrap());
        prop_assert!(socket.taken == expected);
    }
}
