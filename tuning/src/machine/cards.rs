//! Network cards: queues, interrupts, what they lost.
//!
//! Here: interfaces with a device behind them, real or of a virtual machine, that are not down. Not here:
//! what only ethtool tells (offloads, the length of the rings), which takes calls this crate does not make.
//!
//! `/sys/class/net` may show another network namespace than the own one, so only names that `/proc/net/dev`
//! has count.
//! Source: Documentation/ABI/testing/sysfs-class-net and sysfs-class-net-queues.

use super::files::Files;
use crate::parse;

/// One network card.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Card {
    /// Name of the interface.
    pub(crate) name: String,
    /// Receive queues.
    pub(crate) receive_queues: u64,
    /// Send queues.
    pub(crate) send_queues: u64,
    /// Whether the kernel spreads received packets over cores by itself (RPS).
    pub(crate) is_spread: bool,
    /// Whether send queues are given to cores (XPS).
    pub(crate) is_send_mapped: bool,
    /// Cores of each interrupt that was ever raised, such as `0-1`; `None` where they cannot be read.
    pub(crate) interrupts: Option<Vec<String>>,
    /// Largest packet, bytes.
    pub(crate) mtu: Option<u64>,
    /// Packets that came while the card had no memory to put them in.
    pub(crate) missed: Option<u64>,
    /// Packets that the kernel refused from the card, those of unknown protocols included.
    pub(crate) dropped: Option<u64>,
    /// `conf/NAME/rp_filter` or `conf/all/rp_filter`, whichever is stricter.
    pub(crate) reverse_path: Option<u64>,
}

/// Returns the cards of the own network namespace; `None` when they cannot be listed.
pub(super) fn read(files: Files<'_>) -> Option<Vec<Card>> {
    let own = files.text("proc/net/dev");
    let is_own = |name: &String| {
        own.as_ref()
            .is_none_or(|text| parse::has_interface(text, name))
    };
    let raised = files
        .text("proc/interrupts")
        .map(|text| parse::interrupts_raised(&text));
    let names = files.names(CLASS)?.into_iter().filter(is_own);
    let cards = names.filter(|name| files.path(&format!("{CLASS}/{name}/device")).exists());
    let up = cards.filter(|name| {
        let state = files.word(&format!("{CLASS}/{name}/operstate"));
        state.as_deref() != Some("down")
    });
    Some(
        up.map(|name| card(files, name, raised.as_deref()))
            .collect(),
    )
}

fn card(files: Files<'_>, name: String, raised: Option<&[String]>) -> Card {
    let path = format!("{CLASS}/{name}");
    let queues = format!("{path}/queues");
    let receive = files.names_of(&queues, "rx-");
    let send = files.names_of(&queues, "tx-");
    let is_set = |queue: &String, mask: &str| {
        let text = files.text(&format!("{queues}/{queue}/{mask}"));
        text.is_some_and(|text| parse::has_bits(&text))
    };
    let number = |file: &str| files.number(&format!("{path}/{file}"));
    let strict = |of: &str| files.number(&format!("proc/sys/net/ipv4/conf/{of}/rp_filter"));
    Card {
        receive_queues: count(&receive),
        send_queues: count(&send),
        is_spread: receive.iter().any(|queue| is_set(queue, "rps_cpus")),
        is_send_mapped: send.iter().any(|queue| is_set(queue, "xps_cpus")),
        interrupts: interrupts(files, &path, raised),
        mtu: number("mtu"),
        missed: number("statistics/rx_missed_errors"),
        dropped: number("statistics/rx_dropped"),
        reverse_path: strict("all").max(strict(&name)),
        name,
    }
}

/// Returns the cores of each interrupt of a card that was ever raised.
fn interrupts(files: Files<'_>, path: &str, raised: Option<&[String]>) -> Option<Vec<String>> {
    let raised = raised?;
    // A card of a virtual machine stands below the PCI device that has the interrupts.
    let numbers = files
        .names(&format!("{path}/device/msi_irqs"))
        .or_else(|| files.names(&format!("{path}/device/../msi_irqs")))?;
    let used = numbers.iter().filter(|number| raised.contains(number));
    let cores = |number: &String| {
        let list = |file: &str| files.word(&format!("proc/irq/{number}/{file}"));
        list("effective_affinity_list").or_else(|| list("smp_affinity_list"))
    };
    used.map(cores).collect()
}

fn count(names: &[String]) -> u64 {
    u64::try_from(names.len()).unwrap_or(u64::MAX)
}

const CLASS: &str = "sys/class/net";

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::machine::tests::Tree;

    /// The card of a virtual machine with two cores, and what else its host has.
    const HOST: [(&str, &str); 21] = [
        ("proc/net/dev", include_str!("../../testdata/net_dev.txt")),
        (
            "proc/interrupts",
            include_str!("../../testdata/interrupts.txt"),
        ),
        ("proc/irq/37/smp_affinity_list", "0-1\n"),
        ("proc/irq/38/smp_affinity_list", "0-1\n"),
        ("proc/irq/38/effective_affinity_list", "1\n"),
        ("proc/irq/39/smp_affinity_list", "0-1\n"),
        ("proc/sys/net/ipv4/conf/all/rp_filter", "0\n"),
        ("proc/sys/net/ipv4/conf/eth0/rp_filter", "2\n"),
        ("sys/devices/pci0/msi_irqs/37", "msix\n"),
        ("sys/devices/pci0/msi_irqs/38", "msix\n"),
        ("sys/devices/pci0/msi_irqs/39", "msix\n"),
        ("sys/devices/pci0/virtio2/device", "0x0001\n"),
        ("sys/class/net/lo/mtu", "65536\n"),
        ("sys/class/net/ifb0/operstate", "down\n"),
        ("sys/class/net/eth0/operstate", "up\n"),
        ("sys/class/net/eth0/mtu", "1500\n"),
        ("sys/class/net/eth0/queues/rx-0/rps_cpus", "0\n"),
        ("sys/class/net/eth0/queues/tx-0/tx_timeout", "0\n"),
        ("sys/class/net/eth0/statistics/rx_missed_errors", "0\n"),
        ("sys/class/net/eth0/statistics/rx_dropped", "12\n"),
        // Of the namespace that mounted the directory.
        ("sys/class/net/eth7/device/vendor", "0x1af4\n"),
    ];

    fn host() -> Tree {
        let tree = Tree::new(&HOST);
        let device = tree.root().join("sys/class/net/eth0/device");
        symlink("../../../devices/pci0/virtio2", device).unwrap();
        tree
    }

    #[test]
    fn a_card_of_a_virtual_machine_is_read() {
        let tree = host();
        let expected = Card {
            name: "eth0".to_owned(),
            receive_queues: 1,
            send_queues: 1,
            is_spread: false,
            is_send_mapped: false,
            interrupts: Some(vec!["1".to_owned(), "0-1".to_owned()]),
            mtu: Some(1_500),
            missed: Some(0),
            dropped: Some(12),
            reverse_path: Some(2),
        };
        assert_eq!(read(tree.files()), Some(vec![expected]));
    }

    #[test]
    fn queues_may_be_given_to_cores() {
        let tree = host();
        tree.put(
            "sys/class/net/eth0/queues/rx-1/rps_cpus",
            "00000000,00000003\n",
        );
        tree.put("sys/class/net/eth0/queues/tx-0/xps_cpus", "1\n");
        let cards = read(tree.files()).unwrap();
        assert_eq!((cards[0].receive_queues, cards[0].send_queues), (2, 1));
        assert!(cards[0].is_spread && cards[0].is_send_mapped);
    }

    #[test]
    fn cards_that_are_down_do_not_count() {
        let tree = host();
        tree.put("sys/class/net/eth0/operstate", "down\n");
        assert_eq!(read(tree.files()), Some(Vec::new()));
    }

    #[test]
    fn interrupts_that_cannot_be_read_are_unknown() {
        let tree = host();
        fs::remove_file(tree.root().join("proc/irq/39/smp_affinity_list")).unwrap();
        assert_eq!(read(tree.files()).unwrap()[0].interrupts, None);
        let tree = host();
        fs::remove_file(tree.root().join("proc/interrupts")).unwrap();
        assert_eq!(read(tree.files()).unwrap()[0].interrupts, None);
        assert_eq!(read(Tree::new(&[]).files()), None);
    }
}
