//! Load over the classic protocol, for `scripts/bench.sh`: some connections, spread over the
//! processes, each with so many requests of random sectors under way. Prints one line of JSON.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use atdd::config::ClusterFile;
use atdd::domain::SECTOR_SIZE;
use atdd::wire::{ClientCommand, ClientKey, ClientRequest, ClientStatus, decode_response};
use bytes::{Bytes, BytesMut};
use clap::{Parser, ValueEnum};
use hdrhistogram::Histogram;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rustc_hash::FxHashMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A minute, in which everything is answered that ever will be.
const LATENCY_MAX_US: u64 = 60_000_000;

#[derive(Clone, Parser)]
struct Options {
    /// The cluster's file.
    #[arg(long)]
    config: PathBuf,
    #[arg(long, value_enum, default_value = "mixed")]
    mix: Mix,
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    #[arg(long, default_value_t = 8)]
    connections: u8,
    #[arg(long, default_value_t = 16)]
    depth: u16,
}

#[derive(Copy, Clone, ValueEnum)]
enum Mix {
    Read,
    Write,
    Mixed,
}

struct Load {
    key: ClientKey,
    sectors: u64,
    mix: Mix,
    random: StdRng,
    next_number: u64,
    sent: FxHashMap<u64, Instant>,
    latencies_us: Histogram<u64>,
}

impl Load {
    fn send(&mut self, out: &mut BytesMut) {
        let writes = match self.mix {
            Mix::Read => false,
            Mix::Write => true,
            Mix::Mixed => self.random.random(),
        };
        let number = self.next_number;
        self.next_number += 1;
        let command = if writes {
            let mut content = vec![0; SECTOR_SIZE];
            content[..8].copy_from_slice(&number.to_be_bytes());
            ClientCommand::Write(Bytes::from(content))
        } else {
            ClientCommand::Read
        };
        let sector = self.random.random_range(0..self.sectors);
        ClientRequest {
            number,
            sector,
            command,
        }
        .encode(&self.key, out);
        self.sent.insert(number, Instant::now());
    }

    async fn run(mut self, address: String, depth: u16, until: Instant) -> Result<Histogram<u64>> {
        let mut stream = TcpStream::connect(&address).await.context(address)?;
        stream.set_nodelay(true)?;
        let mut out = BytesMut::new();
        for _ in 0..depth {
            self.send(&mut out);
        }
        let mut input = BytesMut::new();
        while !self.sent.is_empty() {
            stream.write_all_buf(&mut out).await?;
            ensure!(
                stream.read_buf(&mut input).await? > 0,
                "the process closed the connection"
            );
            while let Some(response) = decode_response(&self.key, &mut input)? {
                ensure!(
                    response.status == ClientStatus::Ok,
                    "refused: {:?}",
                    response.status
                );
                let sent = self.sent.remove(&response.number).context("asked for")?;
                let latency = u64::try_from(sent.elapsed().as_micros())?;
                self.latencies_us.saturating_record(latency);
                if Instant::now() < until {
                    self.send(&mut out);
                }
            }
        }
        Ok(self.latencies_us)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse();
    let cluster = ClusterFile::load(&options.config)?.cluster()?;
    let addresses = cluster.processes.addresses();
    let begin = Instant::now();
    let until = begin + Duration::from_secs(options.seconds);
    let mut tasks = tokio::task::JoinSet::new();
    for connection in 0..options.connections {
        let load = Load {
            key: ClientKey::new(cluster.client_key.bytes()),
            sectors: cluster.size.sectors(),
            mix: options.mix,
            random: StdRng::seed_from_u64(u64::from(connection)),
            next_number: 0,
            sent: FxHashMap::default(),
            latencies_us: Histogram::new_with_bounds(1, LATENCY_MAX_US, 3)?,
        };
        let address = addresses[usize::from(connection) % addresses.len()].to_string();
        tasks.spawn(load.run(address, options.depth, until));
    }
    let mut total = Histogram::<u64>::new_with_bounds(1, LATENCY_MAX_US, 3)?;
    while let Some(latencies) = tasks.join_next().await {
        total.add(latencies??)?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        r#"{{"operations": {}, "seconds": {seconds}, "p50_us": {}, "p99_us": {}}}"#,
        total.len(),
        total.value_at_quantile(0.5),
        total.value_at_quantile(0.99)
    );
    Ok(())
}
