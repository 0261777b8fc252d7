//! A server on a thread of its own, for the length of a test.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nbd_frontend::memory::MemoryDevice;
use nbd_frontend::{Address, AlwaysOpen, Options, SectorDevice, SectorExport, Server};
use tokio::sync::oneshot;

use crate::client::Client;
use crate::log::Log;

pub(crate) const SIZE: u64 = 128 << 20;

/// A running server; dropping it shuts it down and waits for its end.
pub(crate) struct Served<D = MemoryDevice> {
    /// What the test looks at: the device, or the export.
    pub(crate) device: Arc<D>,
    pub(crate) address: Address,
    pub(crate) uri: String,
    /// What the server said.
    pub(crate) log: Log,
    shutdown: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

pub(crate) fn options() -> Options {
    Options {
        grace: Duration::from_secs(10),
        ..Options::default()
    }
}

/// A memory device of [`SIZE`] bytes, served on TCP.
pub(crate) fn serve() -> Served {
    serve_with(options())
}

pub(crate) fn serve_with(options: Options) -> Served {
    serve_device(MemoryDevice::new(SIZE / 4096), options, &any_port(), 1)
}

pub(crate) fn any_port() -> Address {
    Address::from(SocketAddr::from(([127, 0, 0, 1], 0)))
}

pub(crate) fn serve_device<D: SectorDevice>(
    device: D,
    options: Options,
    address: &Address,
    threads: usize,
) -> Served<D> {
    let device = Arc::new(device);
    let export = AlwaysOpen::new(Arc::clone(&device));
    start(device, Arc::new(export), options, address, threads)
}

/// An export that the test watches, served on TCP.
pub(crate) fn serve_export<E: SectorExport>(export: E, options: Options) -> Served<E> {
    let export = Arc::new(export);
    start(Arc::clone(&export), export, options, &any_port(), 1)
}

fn start<D, E: SectorExport>(
    device: Arc<D>,
    export: Arc<E>,
    options: Options,
    address: &Address,
    threads: usize,
) -> Served<D> {
    let mut builder = if threads == 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    let runtime = builder
        .worker_threads(threads)
        .enable_all()
        .build()
        .unwrap();
    let server = runtime
        .block_on(Server::bind(address, options, export))
        .unwrap();
    let (address, uri) = (server.address().clone(), server.uri());
    let (shutdown, stopped) = oneshot::channel();
    let log = Log::default();
    let log_of_thread = log.clone();
    let thread = std::thread::spawn(move || {
        // Complete only where the runtime has no other threads.
        let _logging = tracing::subscriber::set_default(log_of_thread);
        runtime.block_on(server.run(async { stopped.await.unwrap_or_default() }));
    });
    Served {
        device,
        address,
        uri,
        log,
        shutdown: Some(shutdown),
        thread: Some(thread),
    }
}

/// Waits for something that another thread is about to do.
pub(crate) fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !happened() {
        assert!(
            begin.elapsed() < Duration::from_secs(30),
            "{what} does not happen"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl<D> Served<D> {
    /// Whether a new client is admitted, or would be in a moment when this one has gone again.
    pub(crate) fn has_a_free_seat(&self) -> bool {
        matches!(Client::connect(self).stream.peek(&mut [0]), Ok(1))
    }

    pub(crate) fn socket_address(&self) -> SocketAddr {
        match &self.address {
            Address::Tcp { host, port } => SocketAddr::new(host.parse().unwrap(), *port),
            Address::Unix(path) => panic!("{} is a unix socket", path.display()),
        }
    }

    pub(crate) fn socket_path(&self) -> PathBuf {
        match &self.address {
            Address::Unix(path) => path.clone(),
            Address::Tcp { .. } => panic!("{} is a TCP port", self.address),
        }
    }

    /// Begins the shutdown.
    pub(crate) fn stop(&mut self) {
        self.shutdown
            .take()
            .expect("stopped once")
            .send(())
            .expect("the server runs");
    }

    /// Waits for the end of the server.
    pub(crate) fn join(&mut self) {
        self.thread
            .take()
            .expect("joined once")
            .join()
            .expect("the server does not panic");
    }
}

impl<D> Drop for Served<D> {
    fn drop(&mut self) {
        drop(self.shutdown.take());
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            assert!(
                result.is_ok() || std::thread::panicking(),
                "the server panicked"
            );
        }
    }
}
