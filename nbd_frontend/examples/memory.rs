//! Serves a disk in memory: `memory MEBIBYTES ADDRESS [THREADS]`, where the address is HOST:PORT or
//! unix:PATH. One thread is enough for one client; the measurements use it so.

use std::error::Error;
use std::sync::Arc;

use nbd_frontend::memory::MemoryDevice;
use nbd_frontend::{Address, AlwaysOpen, Options, Server};

const SECTORS_PER_MEBIBYTE: u64 = 256;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (mebibytes, address, threads) = match arguments.as_slice() {
        [mebibytes, address] => (mebibytes, address, 1),
        [mebibytes, address, threads] => (mebibytes, address, threads.parse()?),
        _ => return Err("usage: memory MEBIBYTES HOST:PORT|unix:PATH [THREADS]".into()),
    };
    let device = MemoryDevice::new(mebibytes.parse::<u64>()? * SECTORS_PER_MEBIBYTE);
    let export = Arc::new(AlwaysOpen::new(Arc::new(device)));
    let address: Address = address.parse()?;
    let runtime = if threads == 1 {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
    } else {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()?
    };
    runtime.block_on(async {
        let server = Server::bind(&address, Options::default(), export).await?;
        println!("{}", server.uri());
        server
            .run(async { tokio::signal::ctrl_c().await.unwrap_or_default() })
            .await;
        Ok(())
    })
}
