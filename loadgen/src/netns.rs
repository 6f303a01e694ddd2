//! A run in a network namespace of its own: its ports, its `TIME_WAIT`, its settings, and no root.
//!
//! Here: starting this program again inside, and what is set there. Not here: what runs inside.
//!
//! A namespace has no other processes' sockets in it, so a narrow range of ports runs out at a known number,
//! in seconds, and nothing of the host is touched. The kernel makes namespaces for everybody only where
//! `user.max_user_namespaces` and the distribution's policy allow it.
//! Source: `unshare(1)`, `user_namespaces(7)`, `network_namespaces(7)`.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::process::{Command, ExitStatus};

use crate::sources::PortRange;

/// What is set inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The ephemeral range.
    pub ports: PortRange,
    /// `net.ipv4.tcp_tw_reuse`: 0 keeps ports in `TIME_WAIT` for a minute, as between two hosts; the
    /// kernel's default, 2, takes them again after a second on loopback.
    pub tw_reuse: u8,
}

/// Why there is no namespace.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetnsError {
    /// It cannot be made.
    #[error(
        "no network namespace: {0}; it takes unshare (util-linux) and a kernel that makes namespaces for \
         everybody (sysctl user.max_user_namespaces), or root"
    )]
    Make(io::Error),
    /// Something cannot be set in it.
    #[error("cannot set {what} in the namespace: {source}")]
    Set {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Runs this program with `arguments` in a new namespace.
///
/// # Errors
/// [`NetnsError::Make`] when there is none.
pub fn run_again(arguments: &[OsString]) -> Result<ExitStatus, NetnsError> {
    let program = std::env::current_exe().map_err(NetnsError::Make)?;
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--"])
        .arg(program)
        .args(arguments)
        .status();
    status.map_err(NetnsError::Make)
}

/// Makes the namespace that this process is in ready: its loopback, its settings.
///
/// # Errors
/// [`NetnsError::Set`].
pub fn set_up(settings: &Settings) -> Result<(), NetnsError> {
    let set = |what| move |source| NetnsError::Set { what, source };
    let lo = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    match lo {
        Ok(status) if status.success() => {}
        Ok(status) => {
            let source = io::Error::other(format!("ip link set lo up: {status}"));
            return Err(set("the loopback")(source));
        }
        Err(source) => return Err(set("the loopback (it takes ip of iproute2)")(source)),
    }
    let PortRange { first, last } = settings.ports;
    let range = format!("{first} {last}");
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", range)
        .map_err(set("the range of ports"))?;
    let reuse = settings.tw_reuse.to_string();
    fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", reuse).map_err(set("tcp_tw_reuse"))
}
