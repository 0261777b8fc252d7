//! `--nbd`: where the disk is served.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Result, anyhow, bail, ensure};
use nbd_frontend::Address;

/// How `--nbd` is written, for its help.
pub(crate) const FORM: &str = "HOST:PORT | unix:PATH";

/// `sun_path` of unix(7) without the zero at its end.
const UNIX_PATH_BYTES_MAX: usize = 107;

/// How a command names an address, for what it advises.
#[derive(Copy, Clone)]
pub(crate) struct Wording {
    /// Other places that would do.
    pub(crate) elsewhere: &'static str,
    /// What names another socket in the file system.
    pub(crate) unix: &'static str,
}

/// The wording of `--nbd`.
pub(crate) const NBD: Wording = Wording {
    elsewhere: "--nbd 127.0.0.1:10810 or --nbd unix:/tmp/disk.sock",
    unix: "--nbd unix:PATH",
};

/// Reads the value of `--nbd`.
pub(crate) fn parse(text: &str) -> Result<Address> {
    let address: Address = text.parse()?;
    if let Address::Tcp { port, .. } = &address {
        ensure!(
            *port != 0,
            "nobody would know which port is served; write one from 1 to 65535"
        );
    }
    check_length(&address)?;
    Ok(address)
}

/// Refuses the path of a unix socket that the kernel has no room for.
pub(crate) fn check_length(address: &Address) -> Result<()> {
    if let Address::Unix(path) = address {
        let bytes = path.as_os_str().as_bytes().len();
        ensure!(
            bytes <= UNIX_PATH_BYTES_MAX,
            "the path of the unix socket has {bytes} bytes, and the kernel takes \
             {UNIX_PATH_BYTES_MAX}; choose a shorter one, for example in /run or /tmp"
        );
    }
    Ok(())
}

/// The value of `--nbd` that is read as this address.
pub(crate) fn argument(address: &Address) -> OsString {
    match address {
        Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}").into(),
        Address::Tcp { host, port } => format!("{host}:{port}").into(),
        Address::Unix(path) => {
            let mut argument = OsString::from("unix:");
            argument.push(path);
            argument
        }
    }
}

/// Refuses an address on which another program serves, or where nothing can be served. The socket
/// file of a program that is gone is no hindrance: `serve` replaces it.
pub(crate) fn check_free(address: &Address, wording: Wording) -> Result<()> {
    match address {
        Address::Tcp { host, port } => {
            let bound = TcpListener::bind((host.as_str(), *port));
            let remedy = match bound.as_ref().map_err(std::io::Error::kind) {
                Err(ErrorKind::AddrInUse) => "end the program that listens there",
                Err(ErrorKind::PermissionDenied) => "choose a port from 1024 on",
                _ => "see that the address is one of this machine",
            };
            let elsewhere = wording.elsewhere;
            bound.map(drop).map_err(|error| {
                anyhow!(
                    "{address} cannot be served: {error}; {remedy}, or choose another place, such \
                     as {elsewhere}"
                )
            })
        }
        Address::Unix(path) => check_socket(path, wording.unix),
    }
}

fn check_socket(path: &Path, option: &str) -> Result<()> {
    let shown = path.display();
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            bail!("{shown} is there already and is no socket; choose another path for {option}")
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            bail!("another program serves on {shown}; end it, or choose another path for {option}")
        }
        Ok(_) => Ok(()),
        Err(_) => {
            let directory = match path.parent() {
                Some(directory) if !directory.as_os_str().is_empty() => directory,
                _ => Path::new("."),
            };
            ensure!(
                directory.is_dir(),
                "{shown} cannot be made, since there is no directory {}; make it, or choose \
                 another path for {option}",
                directory.display()
            );
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_written_back() {
        for text in ["localhost:10809", "[::1]:1", "unix:/run/a b.sock"] {
            assert_eq!(argument(&parse(text).unwrap()), *text);
        }
        assert!(parse(&format!("unix:/{}", "x".repeat(106))).is_ok());
    }

    #[test]
    fn what_cannot_be_served_is_refused_with_a_remedy() {
        let long = format!("unix:/{}", "x".repeat(107));
        for text in ["", "10809", "unix:", "localhost:0", &long] {
            let error = parse(text).unwrap_err().to_string();
            assert!(
                error.contains("write") || error.contains("choose"),
                "{error}"
            );
        }
    }
}
