//! What a number was measured on.
//!
//! Here: one line that belongs beside every result. Not here: results.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use serde::Serialize;

/// The host of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Kernel release.
    pub kernel: String,
    /// Model of the first processor.
    pub cpu: String,
    /// Processors that this process may use.
    pub cores: u64,
    /// Congestion control of sockets that do not choose.
    pub congestion: String,
    /// What decides the processor's frequency; absent where the host does not say, as in most virtual
    /// machines.
    pub governor: Option<String>,
    /// Open files of this process.
    pub files_max: Option<u64>,
    /// Kernel settings that decide how many connections there can be, by the name that `sysctl` uses.
    pub settings: BTreeMap<&'static str, String>,
    /// Version of this program.
    pub version: String,
}

/// The settings that belong beside a result about connections.
const SETTINGS: [&str; 10] = [
    "net.core.netdev_max_backlog",
    "net.core.somaxconn",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_max_orphans",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_max_tw_buckets",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_tw_reuse",
];

const GOVERNOR: &str = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";

impl Machine {
    /// Looks at this host.
    #[must_use]
    pub fn look() -> Self {
        let uname = rustix::system::uname();
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let congestion = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control");
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            kernel: uname.release().to_string_lossy().into_owned(),
            cpu: model(&cpuinfo).unwrap_or("unknown processor").to_owned(),
            cores: u64::try_from(cores).unwrap_or(u64::MAX),
            congestion: congestion.map_or_else(|_| "unknown".into(), |text| text.trim().into()),
            governor: fs::read_to_string(GOVERNOR)
                .ok()
                .map(|text| text.trim().to_owned()),
            files_max: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
            settings: SETTINGS
                .into_iter()
                .filter_map(|name| setting(name).map(|value| (name, value)))
                .collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Linux {}, {}, {} cores, {}, version {}",
            self.kernel, self.cpu, self.cores, self.congestion, self.version
        )
    }
}

/// Reads a kernel setting; several words are one space apart.
fn setting(name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
    Some(text.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
}

fn model(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, model)| model.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_found() {
        assert_eq!(
            model("processor\t: 0\nmodel name\t: A Processor\n"),
            Some("A Processor")
        );
        assert_eq!(model(""), None);
    }

    #[test]
    fn this_host_can_be_described() {
        let machine = Machine::look();
        assert!(machine.cores > 0);
        assert!(machine.to_string().starts_with("Linux "));
        let range = &machine.settings["net.ipv4.ip_local_port_range"];
        assert_eq!(range.split(' ').count(), 2, "{range}");
        assert!(machine.files_max.is_none_or(|files| files > 0));
    }
}
