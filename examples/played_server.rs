//! A process that plays a part: it speaks the classic protocol's extension and keeps its disk in
//! memory, and in one point it is what real processes are not, or not when a test wants it.
//! `scripts/vm.sh driver` shows it to the kernel module.
//!
//! Connections have a thread each, and what the disk and the part know is behind one lock.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use atdd::domain::{Generation, Rank, SECTOR_SIZE};
use atdd::wire::{
    AttachAnswer, ClientCommand, ClientKey, ClientKind, ClientRequest, ClientResponse,
    ClientStatus, ConnectionSession, DATA_SECTORS_MAX, DISCARD_SECTORS_MAX, Decoded, Tagger,
    decode_request, seal_pieces,
};
use bytes::{Bytes, BytesMut};
use clap::{Parser, ValueEnum};

/// Play a process that is wrong in one point
#[derive(Parser)]
struct Options {
    /// The client key's file
    #[arg(long, value_name = "FILE")]
    key: PathBuf,

    /// What it does
    #[arg(long, value_enum)]
    part: Part,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Never answers anything
    Silent,
    /// Attaches and answers heartbeats, and no reads, as without a majority
    Mute,
    /// Lets the first write of sector 192 lie for seconds, and says then that the one of sector 128
    /// before it has timed out
    Late,
    /// Ends all connections at the first write, and lets that lie for seconds, in which it attaches
    /// whoever comes under the same generation again
    SameGeneration,
    /// Answers a read once under the number of the one before
    OldNumber,
    /// Answers the second HELLO with the bytes of the first one's answer
    OldHello,
    /// Does and answers the first write of sector 128 seconds later, and all that comes meanwhile at once
    Overtaking,
    /// Answers the first read of sector 128 after twenty seconds, and heartbeats meanwhile
    Slow,
    /// Sends what is read a sector at a time, at the pace of a slow link
    Trickling,
    /// Knows the classic protocol only, and never answers the first write
    Forgetful,
}

/// So many sectors has the disk.
const SECTORS: u64 = 16384;

/// What sector the parts are about, but for the write that is late: it is one of the module's
/// pieces, and so is what comes before.
const PLAYED: u64 = 128;

const IS_LATE: u64 = 192;

/// Longer than a client takes to attach again and to write anew.
const LATE: Duration = Duration::from_secs(4);

/// Longer than a client takes to send another write.
const OVERTAKEN: Duration = Duration::from_secs(2);

/// Longer than anything may take at the start of a client.
const SLOW: Duration = Duration::from_secs(20);

/// Between sectors: a piece of 64 takes longer than a server may be silent.
const TRICKLE: Duration = Duration::from_millis(40);

/// What all connections share.
struct Server {
    key: ClientKey,
    part: Part,
    disk: Mutex<Disk>,
}

#[derive(Default)]
struct Disk {
    sectors: BTreeMap<u64, Bytes>,
    generation: u64,
    /// Those that are attached under this generation.
    attached: BTreeMap<usize, TcpStream>,
    /// Whether the part was played.
    is_played: bool,
    /// Until when the generation stays what it is.
    stays: Option<Instant>,
    /// The answer to the first HELLO.
    greeting: Vec<u8>,
}

/// A write that lies with the process, or before it.
struct Late {
    generation: u64,
    /// What it depends on, unless it has arrived.
    connection: Option<usize>,
    first: u64,
    content: Bytes,
}

struct Connection {
    server: Arc<Server>,
    index: usize,
    stream: TcpStream,
    of_requests: Box<dyn Tagger + Send>,
    of_responses: Box<dyn Tagger + Send>,
    session: Option<ConnectionSession>,
    /// The number of the last read.
    last_read: Option<u64>,
    /// The number of the write that is to time out.
    times_out: Option<u64>,
}

impl Disk {
    fn change(&mut self, first: u64, content: &Bytes) {
        for (sector, at) in (first..).zip((0..content.len()).step_by(SECTOR_SIZE)) {
            self.sectors
                .insert(sector, content.slice(at..at + SECTOR_SIZE));
        }
    }

    fn read(&self, first: u64, count: u32) -> Vec<Bytes> {
        let zeroes = Bytes::from_static(&[0; SECTOR_SIZE]);
        let range = first..first + u64::from(count);
        range
            .map(|sector| self.sectors.get(&sector).unwrap_or(&zeroes).clone())
            .collect()
    }

    /// Whether this is the first occasion to play the part.
    fn plays(&mut self) -> bool {
        !std::mem::replace(&mut self.is_played, true)
    }
}

impl Server {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does this change after a while, if it is not fenced by then.
    fn change_late(self: &Arc<Self>, late: Late) {
        let server = Arc::clone(self);
        thread::spawn(move || {
            thread::sleep(LATE);
            let mut disk = server.disk();
            let arrives = late
                .connection
                .is_none_or(|it| disk.attached.contains_key(&it));
            if arrives && disk.generation == late.generation {
                disk.change(late.first, &late.content);
            }
        });
    }
}

impl Connection {
    fn serve(&mut self) -> Result<()> {
        let mut input = BytesMut::new();
        let mut chunk = vec![0; 1 << 16];
        loop {
            while let Some(decoded) = decode_request(&*self.of_requests, &mut input) {
                let Decoded::Request(request) = decoded else {
                    bail!("no request: {decoded:?}");
                };
                if self.server.part != Part::Silent {
                    self.obey(request)?;
                }
            }
            match self.stream.read(&mut chunk)? {
                0 => return Ok(()),
                length => input.extend_from_slice(&chunk[..length]),
            }
        }
    }

    fn obey(&mut self, request: ClientRequest) -> Result<()> {
        let kind = request.kind();
        let ClientRequest {
            number,
            sector,
            command,
        } = request;
        match command {
            ClientCommand::Hello if self.server.part == Part::Forgetful => Ok(()),
            ClientCommand::Hello => self.greet(number),
            ClientCommand::Attach { session, .. } => self.attach(number, session),
            ClientCommand::Read => self.read(number, kind, sector, 1),
            ClientCommand::ReadRange { count } => self.read(number, kind, sector, count),
            ClientCommand::Write(content) | ClientCommand::WriteRange(content) => {
                self.write(number, kind, sector, &content)
            }
            ClientCommand::Discard { count } => {
                let range = sector..sector + u64::from(count);
                self.server
                    .disk()
                    .sectors
                    .retain(|sector, _| !range.contains(sector));
                self.answer(number, kind, ClientStatus::Ok)
            }
            ClientCommand::Heartbeat | ClientCommand::Detach => {
                self.answer(number, kind, ClientStatus::Ok)
            }
        }
    }

    fn greet(&mut self, number: u64) -> Result<()> {
        let session = self.session.insert(ConnectionSession(rand::random()));
        let response = ClientResponse::hello(number, *session);
        let mut bytes = encoded(response, &*self.of_responses);
        if self.server.part == Part::OldHello {
            let mut disk = self.server.disk();
            if disk.greeting.is_empty() {
                disk.greeting.clone_from(&bytes);
            } else if disk.plays() {
                bytes.clone_from(&disk.greeting);
            }
        }
        Ok(self.stream.write_all(&bytes)?)
    }

    fn attach(&mut self, number: u64, session: ConnectionSession) -> Result<()> {
        if self.session != Some(session) {
            bail!("an ATTACH of a session that is not this connection's");
        }
        let mut disk = self.server.disk();
        let stays = disk.stays.is_some_and(|until| Instant::now() < until);
        if disk.attached.is_empty() && !stays {
            disk.generation += 1;
        }
        disk.attached.insert(self.index, self.stream.try_clone()?);
        let answer = AttachAnswer {
            generation: Generation(disk.generation),
            sectors: SECTORS,
            data_sectors_max: DATA_SECTORS_MAX,
            discard_sectors_max: DISCARD_SECTORS_MAX,
            heartbeat_ms: 500,
            process: Rank::new(1).context("a rank")?,
            holder: String::new(),
        };
        let response = ClientResponse {
            number,
            kind: ClientKind::Attach,
            status: ClientStatus::Ok,
            content: answer.encode(),
        };
        drop(disk);
        self.send(response)?;
        self.of_requests = Box::new(session.of_requests(&self.server.key));
        self.of_responses = Box::new(session.of_responses(&self.server.key));
        Ok(())
    }

    fn read(&mut self, number: u64, kind: ClientKind, first: u64, count: u32) -> Result<()> {
        let mut disk = self.server.disk();
        let content = disk.read(first, count);
        let before = self.last_read.replace(number);
        let under = match (self.server.part, before) {
            (Part::Mute, _) => return Ok(()),
            (Part::OldNumber, Some(before)) if disk.plays() => before,
            _ => number,
        };
        let is_slow = self.server.part == Part::Slow && first == PLAYED && disk.plays();
        drop(disk);
        let (head, tag) = seal_pieces(under, kind, &content, &*self.of_responses);
        let bytes = [&head[..], &content.concat(), &tag].concat();
        if is_slow {
            return self.answer_later(SLOW, bytes, None);
        }
        if self.server.part == Part::Trickling {
            for chunk in bytes.chunks(SECTOR_SIZE) {
                self.stream.write_all(chunk)?;
                thread::sleep(TRICKLE);
            }
            return Ok(());
        }
        Ok(self.stream.write_all(&bytes)?)
    }

    /// Changes the disk and answers after a while.
    fn answer_later(
        &self,
        after: Duration,
        bytes: Vec<u8>,
        change: Option<(u64, Bytes)>,
    ) -> Result<()> {
        let server = Arc::clone(&self.server);
        let mut stream = self.stream.try_clone()?;
        thread::spawn(move || {
            thread::sleep(after);
            if let Some((first, content)) = change {
                server.disk().change(first, &content);
            }
            // The client may have gone.
            stream.write_all(&bytes).ok();
        });
        Ok(())
    }

    fn write(&mut self, number: u64, kind: ClientKind, first: u64, content: &Bytes) -> Result<()> {
        let mut disk = self.server.disk();
        let generation = disk.generation;
        let late = |connection| Late {
            generation,
            connection,
            first,
            content: content.clone(),
        };
        match self.server.part {
            Part::Late if first == PLAYED && !disk.is_played => self.times_out = Some(number),
            Part::Late if first == IS_LATE && disk.plays() => {
                self.server.change_late(late(Some(self.index)));
                drop(disk);
                let number = self.times_out.context("no write of before")?;
                return self.answer(number, kind, ClientStatus::TimedOut);
            }
            Part::Overtaking if first == PLAYED && disk.plays() => {
                let response = ClientResponse::bare(number, kind, ClientStatus::Ok);
                let bytes = encoded(response, &*self.of_responses);
                self.answer_later(OVERTAKEN, bytes, Some((first, content.clone())))?;
            }
            Part::Forgetful if disk.plays() => {}
            Part::SameGeneration if disk.plays() => {
                self.server.change_late(late(None));
                disk.stays = Some(Instant::now() + LATE);
                for stream in disk.attached.values() {
                    stream.shutdown(Shutdown::Both)?;
                }
            }
            _ => {
                disk.change(first, content);
                drop(disk);
                return self.answer(number, kind, ClientStatus::Ok);
            }
        }
        Ok(())
    }

    fn answer(&mut self, number: u64, kind: ClientKind, status: ClientStatus) -> Result<()> {
        self.send(ClientResponse::bare(number, kind, status))
    }

    fn send(&mut self, response: ClientResponse) -> Result<()> {
        let bytes = encoded(response, &*self.of_responses);
        Ok(self.stream.write_all(&bytes)?)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.server.disk().attached.remove(&self.index);
    }
}

fn encoded(response: ClientResponse, tagger: &dyn Tagger) -> Vec<u8> {
    let encoded = response.encode(tagger);
    [&encoded.head[..], &encoded.content, &encoded.tag].concat()
}

fn main() -> Result<()> {
    let Options { key, part } = Options::parse();
    let key = atdd::config::ClientKey::load(&key)?;
    let server = Arc::new(Server {
        key: ClientKey::new(key.bytes()),
        part,
        disk: Mutex::default(),
    });
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    for (index, stream) in listener.incoming().enumerate() {
        let mut connection = Connection {
            index,
            stream: stream?,
            of_requests: Box::new(server.key.clone()),
            of_responses: Box::new(server.key.clone()),
            session: None,
            last_read: None,
            times_out: None,
            server: Arc::clone(&server),
        };
        thread::spawn(move || {
            if let Err(error) = connection.serve() {
                eprintln!("connection {index}: {error:#}");
            }
        });
    }
    Ok(())
}
