//! A slow link on one machine: a TCP relay that delivers every byte a fixed time after it came.
//! `scripts/failover.sh` puts it between processes whose round trips loopback would make too short.
//!
//! The rate is not limited: what comes while something else is under way is under way too. A
//! connection has two threads, one for each direction, which wait in the kernel for the next
//! arrival or the next delivery, whichever is first. Both end with their connection.
//!
//! The delay that a user sees is longer by what the relay itself takes to wake up; measure it.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Relay TCP connections, each byte a fixed time after it came
#[derive(Parser)]
struct Options {
    /// Where connections are relayed to
    #[arg(long, value_name = "ADDR")]
    to: String,

    /// How long each byte is under way, in either direction
    #[arg(long, value_name = "N")]
    delay_us: u64,

    /// The address to listen on; it is printed once connections are accepted
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: String,
}

/// What arrived together, and when it is to be delivered; no bytes are the end of the stream.
struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
}

/// One direction of a connection.
struct Direction<'a> {
    from: &'a TcpStream,
    to: &'a TcpStream,
    delay: Duration,
    under_way: VecDeque<Chunk>,
}

/// A chunk is no longer. It holds a whole message of the cluster, or most of one.
const CHUNK_BYTES_MAX: usize = 1 << 16;

/// While so many chunks are under way nothing more is read, and the sender feels it.
const CHUNKS_MAX: usize = 256;

/// How much later than asked the kernel may end a wait, to save wake-ups. Its default of 50 µs is
/// as long as what is to be measured.
const TIMER_SLACK_NS: &str = "1000";

impl Direction<'_> {
    /// Delivers until the stream has ended, or either side fails.
    fn run(mut self) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK_BYTES_MAX];
        loop {
            if self.wait()? {
                let length = self.from.read(&mut buffer)?;
                self.under_way.push_back(Chunk {
                    due: Instant::now() + self.delay,
                    bytes: buffer[..length].to_vec(),
                });
            }
            while let Some(chunk) = self.next_due() {
                if chunk.bytes.is_empty() {
                    return self.to.shutdown(Shutdown::Write);
                }
                self.to.write_all(&chunk.bytes)?;
            }
        }
    }

    /// Waits until something arrives or is due; whether something arrived.
    fn wait(&self) -> io::Result<bool> {
        let left = self.under_way.front();
        let left = left.map(|chunk| chunk.due.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec::try_from(left).expect("a delay is no century"));
        let ended = self
            .under_way
            .back()
            .is_some_and(|chunk| chunk.bytes.is_empty());
        let mut arrivals = [PollFd::new(self.from, PollFlags::IN)];
        let arrivals = if ended || self.under_way.len() >= CHUNKS_MAX {
            &mut arrivals[..0]
        } else {
            &mut arrivals[..]
        };
        match poll(arrivals, left.as_ref()) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn next_due(&mut self) -> Option<Chunk> {
        let is_due = self.under_way.front()?.due <= Instant::now();
        is_due.then(|| self.under_way.pop_front()).flatten()
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    // Threads have the slack of the thread that started them.
    fs::write("/proc/self/timerslack_ns", TIMER_SLACK_NS).context("cannot set the timer slack")?;
    let delay = Duration::from_micros(options.delay_us);
    let listener = TcpListener::bind(&options.listen).context(options.listen)?;
    println!("{}", listener.local_addr()?);
    for caller in listener.incoming() {
        let caller = caller?;
        match TcpStream::connect(&options.to) {
            Ok(target) => drop(thread::spawn(move || relay(&caller, &target, delay))),
            Err(error) => eprintln!("{}: {error}", options.to),
        }
    }
    Ok(())
}

/// Passes everything both ways until both directions have ended.
fn relay(caller: &TcpStream, target: &TcpStream, delay: Duration) {
    thread::scope(|scope| {
        scope.spawn(|| pass(caller, target, delay));
        pass(target, caller, delay);
    });
}

/// Passes everything one way. A failure ends the other way too.
fn pass(from: &TcpStream, to: &TcpStream, delay: Duration) {
    let direction = Direction {
        from,
        to,
        delay,
        under_way: VecDeque::new(),
    };
    let passed = to.set_nodelay(true).and_then(|()| direction.run());
    if let Err(error) = passed {
        eprintln!("a connection ends: {error}");
        for stream in [from, to] {
            // One that has ended already says so, which is as good.
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}
