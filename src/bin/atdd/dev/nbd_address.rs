//! Whether the disk can be served where it is asked for, before any process is started.

use std::net::TcpListener;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, bail};
use atdd::config::NbdAddress;

/// Refuses an address on which another program serves. The socket file of a program that is gone
/// is no hindrance: `serve` replaces it.
pub(super) fn check_free(address: &NbdAddress) -> Result<()> {
    match address {
        NbdAddress::Tcp(address) => {
            TcpListener::bind(address.to_string()).with_context(|| {
                format!(
                    "NBD cannot be served on {address}; end the program that listens there, or \
                     choose another place, such as --nbd 127.0.0.1:10810 or --nbd unix:/tmp/disk.sock"
                )
            })?;
            Ok(())
        }
        NbdAddress::Unix(path) => check_socket(path),
    }
}

fn check_socket(path: &Path) -> Result<()> {
    let shown = path.display();
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            bail!(
                "{shown} is there already and is no socket; choose another path for --nbd unix:PATH"
            )
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            bail!(
                "another program serves on {shown}; end it, or choose another path for --nbd unix:PATH"
            )
        }
        _ => Ok(()),
    }
}
