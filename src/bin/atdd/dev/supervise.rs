//! Keeps all processes running until it is told to end, and then ends them in order.

use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nbd_frontend::Address;
use rustix::process::Signal;
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::announce::{self, Readiness};
use super::data_dir::DataDir;
use super::member::Member;
use crate::output::notice;

/// Runs the cluster until SIGINT or SIGTERM.
pub(super) async fn run(mut members: Vec<Member>, data: &DataDir, nbd: &Address) -> Result<()> {
    let mut stop = Stop::new().context("signals cannot be received")?;
    let supervised = supervise(&mut members, &mut stop, data, nbd).await;
    // Whatever happened, nobody is left behind.
    end(&mut members, &mut stop).await;
    supervised
}

/// The wish to end.
struct Stop {
    interrupt: SignalStream,
    terminate: SignalStream,
}

impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

async fn supervise(
    members: &mut [Member],
    stop: &mut Stop,
    data: &DataDir,
    nbd: &Address,
) -> Result<()> {
    let cluster = data.file().cluster()?;
    for member in &mut *members {
        member.start()?;
    }
    let mut readiness = Readiness::Starting;
    let mut waiting = pin!(announce::wait_until_served(&cluster, data));
    let mut settling = pin!(announce::wait_until_settled(&cluster));
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.requested() => return Ok(()),
            () = &mut waiting, if readiness == Readiness::Starting => {
                readiness = Readiness::Served;
                let pids: Vec<_> = members.iter().filter_map(Member::pid).collect();
                announce::print(data, nbd, &pids);
            }
            () = &mut settling, if readiness == Readiness::Served => {
                // While the processes look for one another, each misses the others.
                for member in &mut *members {
                    member.show_log(false);
                }
                readiness = Readiness::Settled;
            }
            _ = tick.tick() => {
                for member in &mut *members {
                    member.tend();
                    member.show_log(readiness == Readiness::Settled);
                }
            }
        }
    }
}

/// Ends the process that serves the disk first, while the others can still complete what it has
/// under way, then the others.
async fn end(members: &mut [Member], stop: &mut Stop) {
    let (first, others) = members.split_at_mut(1);
    for group in [first, others] {
        for member in &mut *group {
            member.signal(Signal::TERM);
        }
        tokio::select! {
            () = all_ended(group) => continue,
            () = stop.requested() => {}
            () = sleep(GRACE) => {}
        }
        for member in &mut *group {
            if member.is_running() {
                notice(&format!(
                    "atdd: process {} does not end and is killed",
                    member.rank()
                ));
                member.signal(Signal::KILL);
            }
        }
        all_ended(group).await;
    }
}

/// How often children are looked after.
const TICK: Duration = Duration::from_millis(100);

/// How long a process may take to end in good order.
const GRACE: Duration = Duration::from_secs(10);

/// After so long it is said who is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

async fn all_ended(members: &mut [Member]) {
    let begin = Instant::now();
    let mut said = false;
    loop {
        let running = members
            .iter_mut()
            .filter_map(|member| member.is_running().then(|| member.rank()));
        let running: Vec<_> = running.map(|rank| rank.to_string()).collect();
        if running.is_empty() {
            return;
        }
        if !said && begin.elapsed() >= PATIENCE {
            said = true;
            notice(&format!(
                "atdd: waiting for process {} to end",
                running.join(", ")
            ));
        }
        sleep(Duration::from_millis(10)).await;
    }
}
