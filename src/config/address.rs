//! Where processes listen.

use std::fmt;
use std::str::FromStr;

/// `HOST:PORT`: a name or address, resolved only when it is used, and a port that is not 0.
///
/// An IPv6 address stands in brackets. Equality is of the text, letters in lower case.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    host: String,
    port: u16,
}

impl HostPort {
    /// The host, an IPv6 address in its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, never 0.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for HostPort {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let malformed = |fault| AddressError::Malformed {
            text: text.to_owned(),
            fault,
        };
        let (host, port) = text.rsplit_once(':').ok_or(malformed("has no port"))?;
        let host = host.to_ascii_lowercase();
        check_host(&host).map_err(malformed)?;
        match port.parse() {
            Ok(0) | Err(_) => Err(malformed("has a port that is not from 1 to 65535")),
            Ok(port) => Ok(Self { host, port }),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Something of the form is wrong.
    #[error(
        "`{text}` {fault}; write HOST:PORT, for example 10.0.0.1:7000, disk1.example:7000 or \
         [::1]:7000"
    )]
    Malformed {
        /// What was given.
        text: String,
        /// What is wrong with it.
        fault: &'static str,
    },
}

fn check_host(host: &str) -> Result<(), &'static str> {
    if host.is_empty() {
        return Err("has no host");
    }
    if let Some(inside) = host.strip_prefix('[') {
        let address = inside.strip_suffix(']').unwrap_or_default();
        return match address.parse::<std::net::Ipv6Addr>() {
            Ok(_) => Ok(()),
            Err(_) => Err("has no IPv6 address in its brackets"),
        };
    }
    if host.contains(':') {
        return Err("has an IPv6 address without brackets");
    }
    let of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if host.bytes().all(of_a_name) {
        Ok(())
    } else {
        Err("has a character in its host that belongs in no name")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written_back() {
        for text in ["127.0.0.1:7000", "disk-1.example:1", "[::1]:65535"] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
        assert_eq!("HOST:7".parse::<HostPort>(), "host:7".parse());
    }

    #[test]
    fn what_is_no_address_is_refused_with_an_example() {
        let faulty = [
            "",
            ":7000",
            "host",
            "host:",
            "host:0",
            "host:65536",
            "host:x",
            "::1:7000",
            "[::1:7000",
            "[]:7",
            "a b:7",
            "[1.2.3.4]:7",
            "unix:/tmp/x",
        ];
        for text in faulty {
            let error = text.parse::<HostPort>().unwrap_err().to_string();
            assert!(error.contains("for example"), "{text}: {error}");
        }
    }
}
