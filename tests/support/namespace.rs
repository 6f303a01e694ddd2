//! A network of its own for one test: the test's process runs itself again in a new user and network
//! namespace, where it may set the range of local ports and nobody else takes any.
//!
//! Invariant: nothing outside the namespace is touched; what runs inside ends with the test.

use std::fs;
use std::process::Command;

/// Set for the process inside the namespace.
const INSIDE: &str = "RINGWAY_TEST_INSIDE";

/// Set by people whose host allows no namespaces, and who accept that these tests prove nothing there.
const WITHOUT: &str = "RINGWAY_NO_NETNS";

/// Runs `body` of the test called `name` in a namespace whose local ports are `range`.
pub(crate) fn inside(name: &str, range: &str, body: fn()) {
    if std::env::var_os(INSIDE).is_some() {
        ip(&["link", "set", "lo", "up"]);
        set_range(range);
        body();
        return;
    }
    if std::env::var_os(WITHOUT).is_some() {
        println!("{name}: NOT RUN, because {WITHOUT} is set: this host has no network namespaces");
        return;
    }
    let exe = std::env::current_exe().expect("the test's own path");
    let status = Command::new("unshare")
        .args(["-r", "-n", "--"])
        .arg(exe)
        .args(["--exact", name, "--nocapture", "--test-threads", "1"])
        .env(INSIDE, "1")
        .status();
    let advice = "allow unprivileged user namespaces (kernel.unprivileged_userns_clone, or \
                  kernel.apparmor_restrict_unprivileged_userns=0), install util-linux and iproute2, or \
                  set RINGWAY_NO_NETNS=1 to go without this test";
    match status {
        Ok(status) => assert!(
            status.success(),
            "{name} failed in its namespace, or 'unshare -rn' did not work: then {advice}"
        ),
        Err(error) => panic!("cannot run 'unshare -rn': {error}; {advice}"),
    }
}

/// Sets the range that the kernel chooses local ports from, such as `40000 40063`.
pub(crate) fn set_range(range: &str) {
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", range)
        .expect("the namespace's own setting");
}

/// One line of `/proc/net/tcp`.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) local_port: u16,
    pub(crate) state: u8,
}

/// `TCP_TIME_WAIT` of the kernel.
pub(crate) const TIME_WAIT: u8 = 6;

/// Returns every TCP socket of the namespace, IPv6 included.
pub(crate) fn sockets() -> Vec<Socket> {
    let mut sockets = Vec::new();
    for path in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(path).expect("the kernel's list of sockets");
        for line in text.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let port = |word: &str| {
                let (_, port) = word.rsplit_once(':').expect("address and port");
                u16::from_str_radix(port, 16).expect("a port in hex")
            };
            sockets.push(Socket {
                local_port: port(words[1]),
                state: u8::from_str_radix(words[3], 16).expect("a state in hex"),
            });
        }
    }
    sockets
}

/// Runs `ip` in the namespace; returns what it prints.
pub(crate) fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .expect("'ip' of package iproute2");
    assert!(output.status.success(), "ip {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("'ip' prints text")
}
