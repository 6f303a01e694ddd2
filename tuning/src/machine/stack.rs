//! Settings and counters of the kernel's TCP.
//!
//! Here: sysctls and `/proc/net/netstat`. Not here: sockets one by one (`sockets`), network cards (`cards`).
//!
//! Counters are those of the network namespace since it was made, which is the host's start where it is the
//! host's.

use super::files::Files;
use crate::parse;

/// What the kernel's TCP is set to and what it has counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stack {
    /// `tcp_tw_reuse`: 0 never, 1 always, 2 over loopback.
    pub(crate) wait_reuse: Option<u64>,
    /// `tcp_tw_reuse_delay`, ms; kernels before 6.14 wait 1 s and have no setting.
    pub(crate) wait_reuse_delay_ms: Option<u64>,
    /// `tcp_timestamps`: without them a port in `TIME_WAIT` is not used again.
    pub(crate) timestamps: Option<u64>,
    /// `tcp_max_tw_buckets`.
    pub(crate) waiting_max: Option<u64>,
    /// Connections in `TIME_WAIT` now.
    pub(crate) waiting: Option<u64>,
    /// `TCPTimeWaitOverflow`: connections that were closed at once for want of room.
    pub(crate) waiting_overflows: Option<u64>,
    /// `tcp_fin_timeout`, s.
    pub(crate) fin_timeout_s: Option<u64>,
    /// `ip_local_port_range`.
    pub(crate) port_range: Option<(u16, u16)>,
    /// `tcp_rmem`, bytes: least, at first, most.
    pub(crate) receive_buffer: Option<[u64; 3]>,
    /// `tcp_wmem`, bytes: least, at first, most.
    pub(crate) send_buffer: Option<[u64; 3]>,
    /// `TCPMemoryPressures`: how often all buffers together became too much.
    pub(crate) memory_pressures: Option<u64>,
    /// `TCPAbortOnMemory`: connections that were cut for it.
    pub(crate) memory_aborts: Option<u64>,
    /// `net.core.optmem_max`, bytes.
    pub(crate) option_bytes_max: Option<u64>,
    /// `tcp_notsent_lowat`, bytes.
    pub(crate) unsent_bytes_max: Option<u64>,
    /// `net.core.default_qdisc`.
    pub(crate) queue_discipline: Option<String>,
    /// `tcp_congestion_control`.
    pub(crate) congestion: Option<String>,
    /// `tcp_allowed_congestion_control`: what everybody may choose.
    pub(crate) congestion_allowed: Vec<String>,
    /// `ListenOverflows`: connections that found a listener's queue full.
    pub(crate) listen_overflows: Option<u64>,
    /// `ListenDrops`: these and those that failed for another reason.
    pub(crate) listen_drops: Option<u64>,
    /// `tcp_ehash_entries`: places in the table of connections; negative where a namespace shares the host's.
    pub(crate) table_entries: Option<i64>,
    /// `nf_conntrack_buckets`.
    pub(crate) tracking_buckets: Option<u64>,
    /// `nf_conntrack_tcp_timeout_established`, s.
    pub(crate) tracking_timeout_s: Option<u64>,
    /// `tcp_keepalive_time`, s.
    pub(crate) keepalive_s: Option<u64>,
    /// Kernel modules; `None` where the kernel has none or hides them.
    pub(crate) modules: Option<Vec<String>>,
}

impl Stack {
    pub(super) fn read(files: Files<'_>) -> Self {
        let number = |name: &str| files.number(&format!("proc/sys/net/{name}"));
        let three = |name: &str| files.three(&format!("proc/sys/net/{name}"));
        let word = |name: &str| files.word(&format!("proc/sys/net/{name}"));
        let counters = files.text("proc/net/netstat").unwrap_or_default();
        let counter = |name: &str| parse::netstat(&counters, "TcpExt", name);
        let sockets = files.text("proc/net/sockstat").unwrap_or_default();
        Self {
            wait_reuse: number("ipv4/tcp_tw_reuse"),
            wait_reuse_delay_ms: number("ipv4/tcp_tw_reuse_delay"),
            timestamps: number("ipv4/tcp_timestamps"),
            waiting_max: number("ipv4/tcp_max_tw_buckets"),
            waiting: parse::sockstat(&sockets, "TCP", "tw"),
            waiting_overflows: counter("TCPTimeWaitOverflow"),
            fin_timeout_s: number("ipv4/tcp_fin_timeout"),
            port_range: files
                .text("proc/sys/net/ipv4/ip_local_port_range")
                .and_then(|text| parse::port_range(&text)),
            receive_buffer: three("ipv4/tcp_rmem"),
            send_buffer: three("ipv4/tcp_wmem"),
            memory_pressures: counter("TCPMemoryPressures"),
            memory_aborts: counter("TCPAbortOnMemory"),
            option_bytes_max: number("core/optmem_max"),
            unsent_bytes_max: number("ipv4/tcp_notsent_lowat"),
            queue_discipline: word("core/default_qdisc"),
            congestion: word("ipv4/tcp_congestion_control"),
            congestion_allowed: files
                .text("proc/sys/net/ipv4/tcp_allowed_congestion_control")
                .map_or_else(Vec::new, |text| parse::words(&text)),
            listen_overflows: counter("ListenOverflows"),
            listen_drops: counter("ListenDrops"),
            table_entries: files.number("proc/sys/net/ipv4/tcp_ehash_entries"),
            tracking_buckets: number("netfilter/nf_conntrack_buckets"),
            tracking_timeout_s: number("netfilter/nf_conntrack_tcp_timeout_established"),
            keepalive_s: number("ipv4/tcp_keepalive_time"),
            modules: files
                .text("proc/modules")
                .map(|text| parse::first_words(&text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::tests::Tree;

    #[test]
    fn settings_and_counters_are_read() {
        let tree = Tree::new(&[
            (
                "proc/net/netstat",
                include_str!("../../testdata/netstat.txt"),
            ),
            (
                "proc/net/sockstat",
                include_str!("../../testdata/sockstat.txt"),
            ),
            ("proc/modules", include_str!("../../testdata/modules.txt")),
            ("proc/sys/net/ipv4/tcp_tw_reuse", "2\n"),
            ("proc/sys/net/ipv4/tcp_tw_reuse_delay", "1000\n"),
            ("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t33554432\n"),
            ("proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t4194304\n"),
            ("proc/sys/net/ipv4/tcp_notsent_lowat", "4294967295\n"),
            ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
            ("proc/sys/net/ipv4/tcp_ehash_entries", "-262144\n"),
            ("proc/sys/net/core/default_qdisc", "pfifo_fast\n"),
        ]);
        let expected = Stack {
            wait_reuse: Some(2),
            wait_reuse_delay_ms: Some(1_000),
            waiting: Some(7),
            waiting_overflows: Some(0),
            port_range: Some((32_768, 60_999)),
            receive_buffer: Some([4_096, 131_072, 33_554_432]),
            send_buffer: Some([4_096, 16_384, 4_194_304]),
            memory_pressures: Some(0),
            memory_aborts: Some(0),
            unsent_bytes_max: Some(4_294_967_295),
            queue_discipline: Some("pfifo_fast".to_owned()),
            listen_overflows: Some(129),
            listen_drops: Some(135),
            table_entries: Some(-262_144),
            modules: Some(vec!["nf_tables".to_owned(), "x_tables".to_owned()]),
            ..Stack::default()
        };
        assert_eq!(Stack::read(tree.files()), expected);
        assert_eq!(Stack::read(Tree::new(&[]).files()), Stack::default());
    }
}
