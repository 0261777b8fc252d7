//! The command line of Atomic Disk Drive: parses, calls the library, maps to an exit code.

mod attach;
mod attachments;
mod bench;
mod dev;
mod init;
mod io_timeout;
mod logging;
mod nbd;
mod nbd_address;
mod output;
mod progress;
mod read;
mod serve;
mod status;
mod store;
mod write;

use std::process::ExitCode;

use atdd::config::ConfigError;
use clap::{Parser, Subcommand};

use output::notice;

/// A replicated disk that survives the death of processes and machines.
///
/// Every sector is kept by all processes of a cluster, and any majority of them can read and write
/// it. A write is acknowledged once a majority has it on stable storage.
#[derive(Parser)]
#[command(name = "atdd", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Arguments {
    #[command(flatten)]
    logging: logging::Logging,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Dev(dev::Dev),
    Init(init::Init),
    Serve(serve::Serve),
    Status(status::Status),
    Nbd(nbd::Nbd),
    Read(read::Read),
    Write(write::Write),
    Attachments(attachments::Attachments),
    Bench(bench::Bench),
    Store(store::Store),
}

const EXAMPLES: &str = "\
Examples:
  atdd dev                                   a whole cluster on this machine, until Ctrl-C
  atdd init /etc/atdd --processes 10.0.0.1:7000,10.0.0.2:7000,10.0.0.3:7000 --size 100GiB
  atdd serve --config /etc/atdd/cluster.toml --rank 1 --data /var/lib/atdd
  atdd status --config /etc/atdd/cluster.toml
  atdd nbd --config /etc/atdd/cluster.toml   the disk at nbd://127.0.0.1:10809, on a client machine
  atdd write --config /etc/atdd/cluster.toml --sector 0 --input disk.img
  atdd read --config /etc/atdd/cluster.toml --sector 0 --count 8 | xxd
  atdd attachments --config /etc/atdd/cluster.toml     who uses the disk
  atdd bench --config /etc/atdd/cluster.toml           how fast it is, reading

Exit codes: 0 done, 1 failed, 64 wrong usage, 78 wrong configuration; those of `status`, of
`attachments` and of `store check` are in their own help.";

/// The usage was wrong: `EX_USAGE` of sysexits(3), since `status` has its own meaning for clap's 2.
const EXIT_USAGE: u8 = 64;

/// The configuration was wrong: `EX_CONFIG` of sysexits(3).
const EXIT_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    if let Err(error) = arguments.logging.start(matches!(
        arguments.command,
        Command::Serve(_) | Command::Nbd(_)
    )) {
        return failed(&error, EXIT_USAGE);
    }
    let outcome = match arguments.command {
        Command::Dev(command) => command.run(&arguments.logging),
        Command::Init(command) => command.run(),
        Command::Serve(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Store(command) => command.run(),
        Command::Nbd(command) => command.run(),
        Command::Read(command) => command.run(),
        Command::Write(command) => command.run(),
        Command::Attachments(command) => command.run(),
        Command::Bench(command) => command.run(),
    };
    match outcome {
        Ok(code) => code,
        Err(error)
            if error
                .chain()
                .any(<dyn std::error::Error>::is::<ConfigError>) =>
        {
            failed(&error, EXIT_CONFIG)
        }
        Err(error) => failed(&error, 1),
    }
}

/// Help and version go to stdout with success; everything else that clap says is wrong usage.
fn usage(error: &clap::Error) -> ExitCode {
    let printed = error.print();
    match (error.use_stderr(), printed) {
        (false, Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::from(EXIT_USAGE),
    }
}

fn failed(error: &anyhow::Error, code: u8) -> ExitCode {
    notice(&format!("atdd: {}", in_words(error)));
    ExitCode::from(code)
}

/// The error with its causes, but for those that it names itself.
fn in_words(error: &anyhow::Error) -> String {
    let mut words = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !words.contains(&cause) {
            words.push_str(": ");
            words.push_str(&cause);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cause_is_said_twice() {
        let io = || std::io::Error::other("the disk is full");
        let error = anyhow::Error::new(io()).context("opening x: the disk is full");
        assert_eq!(in_words(&error), "opening x: the disk is full");
        let error = anyhow::Error::new(io()).context("opening x");
        assert_eq!(in_words(&error), "opening x: the disk is full");
        let advised = "the disk is full; make room";
        let error = anyhow::Error::new(io()).context(advised);
        assert_eq!(in_words(&error), advised, "with what to do about it behind");
    }
}
