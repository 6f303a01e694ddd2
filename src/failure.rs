//! How a command ends when it does not succeed.
//!
//! Here: every way to fail, its exit code, and the one place that prints it. Not here: the texts of
//! the parts (each module's error says what happened and what to do).
//!
//! Exit codes: 1 the host, the network or the check said no; 2 the command line or the configuration
//! is wrong; 3 a drain passed its deadline and cut what was left.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error as ThisError;

use crate::config::Problems;
use crate::key_file::KeyFileError;

type Source = Box<dyn Error + Send + Sync>;

/// Why a command did not succeed.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Failure {
    /// The command ran to its end and the answer is no.
    #[error("{0}")]
    Check(String),
    /// The command line is wrong, or help was asked for.
    #[error(transparent)]
    CommandLine(#[from] clap::Error),
    /// The configuration is wrong.
    #[error(transparent)]
    Configuration(#[from] Problems),
    /// The drain's deadline passed with work left.
    #[error(
        "the drain ended after {} with {left}: cut. Raise drain.timeout to wait longer",
        humantime::format_duration(*.timeout)
    )]
    DrainDeadline {
        /// How long it was allowed to take.
        timeout: Duration,
        /// What was still there.
        left: String,
    },
    /// The host or the network refused something.
    #[error("{what}")]
    Host {
        /// What could not be done, and what to do about it.
        what: String,
        /// The cause.
        #[source]
        source: Option<Source>,
    },
    /// A key file could not be used.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// A value of the command line is wrong in a way that the parser cannot see.
    #[error("{0}")]
    Usage(String),
}

impl Failure {
    /// Returns a failure of the host with its cause.
    pub(crate) fn host(what: impl Into<String>, source: impl Into<Source>) -> Self {
        Self::Host {
            what: what.into(),
            source: Some(source.into()),
        }
    }

    /// Returns the failure of listening on `address`; `flag` is what moves it elsewhere.
    pub(crate) fn listen(address: SocketAddr, flag: &str, error: io::Error) -> Self {
        let what = match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "{address} is in use: see who holds it with `ss -ltnp 'sport = :{port}'`, stop it, or \
                 choose another address with {flag}",
                port = address.port()
            ),
            io::ErrorKind::AddrNotAvailable => format!(
                "{address} is no address of this host: see them with `ip -brief address`, and choose \
                 one with {flag}"
            ),
            io::ErrorKind::PermissionDenied => format!(
                "listening on {address} is not permitted: ports below 1024 need CAP_NET_BIND_SERVICE; \
                 choose a higher one with {flag}"
            ),
            _ => format!("cannot listen on {address} (change it with {flag})"),
        };
        Self::host(what, error)
    }

    /// Returns the exit code of the process.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Check(_) | Self::Host { .. } | Self::KeyFile(_) => 1,
            Self::CommandLine(error) => u8::try_from(error.exit_code()).unwrap_or(2),
            Self::Configuration(_) | Self::Usage(_) => 2,
            Self::DrainDeadline { .. } => 3,
        }
    }

    /// Prints the failure with its causes, once: help to standard output, the rest to standard error.
    pub fn report(&self) {
        if let Self::CommandLine(error) = self {
            // A closed standard error leaves nobody to tell.
            drop(error.print());
            return;
        }
        crate::output::complain(format_args!("ringway: {}", chain(self)));
    }
}

/// Returns the error and its causes in one line, each cause once.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_names_each_cause_once() {
        let failure = Failure::host("cannot do it", io::Error::other("because"));
        assert_eq!(chain(&failure), "cannot do it: because");
        let repeated = Failure::host("cannot do it: because", io::Error::other("because"));
        assert_eq!(chain(&repeated), "cannot do it: because");
    }

    #[test]
    fn address_in_use_names_the_address_the_holder_and_the_flag() {
        let address = "127.0.0.1:7100".parse().unwrap();
        let failure = Failure::listen(
            address,
            "--listen ADDRESS:PORT",
            io::ErrorKind::AddrInUse.into(),
        );
        let text = failure.to_string();
        for part in ["127.0.0.1:7100", "ss -ltnp 'sport = :7100'", "--listen"] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(failure.exit_code(), 1);
    }

    #[test]
    fn exit_codes_tell_usage_from_host_and_drain() {
        assert_eq!(Failure::Usage(String::new()).exit_code(), 2);
        assert_eq!(Failure::Check(String::new()).exit_code(), 1);
        let drain = Failure::DrainDeadline {
            timeout: Duration::from_secs(1),
            left: "2 sessions".into(),
        };
        assert_eq!(drain.exit_code(), 3);
    }
}
