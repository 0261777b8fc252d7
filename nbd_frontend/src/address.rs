//! Where a server listens.

use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The port that IANA gave to NBD.
pub const DEFAULT_PORT: u16 = 10809;

const UNIX_PREFIX: &str = "unix:";

/// Where a server listens: parsed from `HOST:PORT` or `unix:PATH`, displayed as the URI that
/// clients take, `nbd://HOST:PORT` or `nbd+unix:///?socket=PATH`
/// ([the NBD URI specification](https://github.com/NetworkBlockDevice/nbd/blob/master/doc/uri.md)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP port. The host is a name or a number, an IPv6 number without its brackets; port 0
    /// lets the system choose.
    Tcp {
        /// The host's name or number.
        host: String,
        /// The port's number.
        port: u16,
    },
    /// A socket in the file system.
    Unix(PathBuf),
}

/// A text is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no port, or the text is empty.
    #[error("{0:?} is not an address: write HOST:PORT, as 127.0.0.1:10809, or unix:PATH")]
    Shape(String),
    /// What follows the last colon is no port.
    #[error("{0:?} is not a port: write a number from 0 to 65535 after the host")]
    Port(String),
    /// An IPv6 number needs brackets.
    #[error("{0:?} has more than one colon: write an IPv6 address as [::1]:10809")]
    Brackets(String),
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let shape = || AddressError::Shape(text.to_owned());
        if let Some(path) = text.strip_prefix(UNIX_PREFIX) {
            return if path.is_empty() {
                Err(shape())
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(shape)?;
        let port = port
            .parse()
            .map_err(|_| AddressError::Port(port.to_owned()))?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let name = bare.unwrap_or(host);
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || "/[]".contains(c)) {
            return Err(shape());
        }
        if bare.is_none() && name.contains(':') {
            return Err(AddressError::Brackets(text.to_owned()));
        }
        Ok(Self::Tcp {
            host: name.to_owned(),
            port,
        })
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

impl Address {
    /// The URI of an export at this address; the empty name is that of the default export.
    pub fn uri(&self, export_name: &str) -> String {
        let mut export = String::new();
        percent_encode(export_name.as_bytes(), &mut export);
        match self {
            Self::Tcp { host, port } => {
                let host = if host.contains(':') {
                    format!("[{host}]")
                } else {
                    host.clone()
                };
                let slash = if export.is_empty() { "" } else { "/" };
                format!("nbd://{host}:{port}{slash}{export}")
            }
            Self::Unix(path) => {
                let mut socket = String::new();
                percent_encode(path_bytes(path), &mut socket);
                format!("nbd+unix:///{export}?socket={socket}")
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri(""))
    }
}

fn path_bytes(path: &Path) -> &[u8] {
    std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())
}

/// Appends the bytes as they may stand in a URI's path or query; slashes are kept.
fn percent_encode(bytes: &[u8], out: &mut String) {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a string takes whatever is written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn addresses_are_parsed_and_shown_as_uris() {
        for (text, address, uri) in [
            (
                "127.0.0.1:10809",
                tcp("127.0.0.1", 10809),
                "nbd://127.0.0.1:10809",
            ),
            ("[::1]:0", tcp("::1", 0), "nbd://[::1]:0"),
            (
                "disk.example:1",
                tcp("disk.example", 1),
                "nbd://disk.example:1",
            ),
            (
                "unix:/a b",
                Address::Unix("/a b".into()),
                "nbd+unix:///?socket=/a%20b",
            ),
        ] {
            let parsed: Address = text.parse().unwrap();
            assert_eq!(parsed, address);
            assert_eq!(parsed.to_string(), uri);
        }
        assert_eq!(tcp("h", 1).uri("a b/c"), "nbd://h:1/a%20b/c");
        assert_eq!(
            Address::Unix("/s".into()).uri("x"),
            "nbd+unix:///x?socket=/s"
        );
    }

    #[test]
    fn faults_are_named() {
        for text in [
            "",
            "localhost",
            "unix:",
            ":10809",
            "nbd://host:1",
            "a b:1",
            "[]:1",
        ] {
            assert!(
                matches!(text.parse::<Address>(), Err(AddressError::Shape(_))),
                "{text}: {:?}",
                text.parse::<Address>()
            );
        }
        for text in [
            "host:",
            "host:port",
            "host:65536",
            "host:-1",
            "10.0.0.1:80/x",
        ] {
            assert!(
                matches!(text.parse::<Address>(), Err(AddressError::Port(_))),
                "{text}"
            );
        }
        assert!(matches!(
            "::1:10809".parse::<Address>(),
            Err(AddressError::Brackets(_))
        ));
    }
}
