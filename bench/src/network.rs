//! A network of its own for the contest.
//!
//! Here: entering a private namespace, the same congestion control for everybody in it. Not here: who
//! uses it.
//!
//! The host's congestion control may be one that costs twice the processor time on a loopback (bbr,
//! docs/internals/uring.md finding 1), and some contenders cannot choose theirs. A namespace has its
//! own default; where the kernel does not let an unprivileged namespace choose, its only route does,
//! which connecting and accepted sockets follow alike. What they really use is asked of two connected
//! sockets and reported.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use socket2::SockRef;

/// Set for the process inside the namespace.
const INSIDE: &str = "RINGWAY_BENCH_INSIDE";

/// Returns whether this process runs in the private namespace.
#[must_use]
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Replaces this process by itself in a private network namespace. Returns only if that failed: why, and
/// what to do about it.
#[must_use]
pub fn enter() -> String {
    let error = match std::env::current_exe() {
        Ok(exe) => Command::new("unshare")
            .args(["-r", "-n", "--"])
            .arg(exe)
            .args(std::env::args_os().skip(1))
            .env(INSIDE, "1")
            .exec(),
        Err(error) => error,
    };
    format!(
        "cannot enter a private network namespace (unshare -rn, package util-linux): {error}; allow user \
         namespaces (kernel.unprivileged_userns_clone, user.max_user_namespaces)"
    )
}

/// Brings the loopback up and sets `congestion` for every socket; returns what sockets then use.
///
/// # Errors
/// When `ip` fails, or sockets do not connect.
pub fn prepare(congestion: &str) -> Result<String, String> {
    ip(&["link", "set", "lo", "up"])?;
    let sysctl = Path::new("/proc/sys/net/ipv4/tcp_congestion_control");
    if std::fs::write(sysctl, congestion).is_err() {
        // The route to exactly this address would win over the one with the option.
        ip(&[
            "route",
            "del",
            "local",
            "127.0.0.1",
            "dev",
            "lo",
            "table",
            "local",
        ])?;
        ip(&[
            "route",
            "replace",
            "local",
            "127.0.0.0/8",
            "dev",
            "lo",
            "congctl",
            congestion,
            "table",
            "local",
        ])?;
    }
    in_use().map_err(|error| format!("cannot connect over the loopback: {error}"))
}

/// Returns the congestion control that connected and accepted sockets use here.
///
/// # Errors
/// When sockets do not connect.
pub fn in_use() -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let connected = TcpStream::connect(listener.local_addr()?)?;
    let (accepted, _) = listener.accept()?;
    let names = [
        name_of(SockRef::from(&connected).tcp_congestion()?),
        name_of(SockRef::from(&accepted).tcp_congestion()?),
    ];
    let [connected, accepted] = names;
    if connected == accepted {
        Ok(connected)
    } else {
        Ok(format!("{connected} (accepted sockets: {accepted})"))
    }
}

fn name_of(bytes: Vec<u8>) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let text = arguments.join(" ");
    match Command::new("ip").args(arguments).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr);
            Err(format!("'ip {text}' failed: {}", why.trim()))
        }
        Err(error) => Err(format!("cannot run 'ip' (package iproute2): {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_say_what_they_use() {
        assert!(!in_use().unwrap().is_empty());
    }

    #[test]
    fn names_end_at_the_first_zero() {
        assert_eq!(name_of(b"cubic\0\0\0bbr".to_vec()), "cubic");
    }
}
