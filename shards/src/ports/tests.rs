//! Budgets and permits, dropped here and on other threads; slices of whole relays.

use std::collections::BTreeSet;
use std::thread;

use proptest::prelude::*;

use super::*;

const REST: Duration = Duration::from_secs(1);

fn at(ms: u64) -> Now {
    Now::from_nanos(ms * 1_000_000)
}

fn budget(first: u16, last: u16) -> PortBudget {
    let kind = PortKind::Local(Some("127.0.0.1".parse().unwrap()));
    PortBudget::new(kind, 1, &PortSet::range(first, last), REST)
}

#[test]
fn quarantine_begins_when_the_owner_collects() {
    let mut budget = budget(100, 100);
    let permit = budget.try_take(at(0)).unwrap();
    assert_eq!(permit.port(), 100);
    drop(permit);
    assert_eq!(budget.usage().in_use, 1);
    budget.collect(at(500));
    assert_eq!((budget.usage().in_use, budget.usage().quarantined), (0, 1));
    assert!(budget.try_take(at(1_499)).is_err());
    assert!(budget.try_take(at(1_500)).is_ok());
}

#[test]
fn refusal_names_budget_have_and_want() {
    let mut local = budget(100, 101);
    let first = local.try_take(at(0)).unwrap();
    drop(local.try_take(at(0)).unwrap());
    let refusal = local.try_take(at(0)).unwrap_err();
    assert_eq!(refusal.reason(), Reason::LocalPortsExhausted);
    assert!(
        refusal.to_string().starts_with(
            "local ports of 127.0.0.1 on shard 1: 2 of 2 in use or in quarantine, 1 wanted"
        ),
        "{refusal}"
    );
    assert_eq!(refusal.usage.quarantined, 1);
    drop(first);

    let mut own = PortBudget::of_virtual_ports(3, &PortSet::new());
    let refusal = own.try_take(at(0)).unwrap_err();
    assert_eq!(refusal.reason(), Reason::VirtualPortsExhausted);
    assert!(
        refusal
            .to_string()
            .starts_with("virtual ports of the relay's key on shard 3: 0 of 0 in use"),
        "{refusal}"
    );
}

#[test]
fn permits_dropped_on_other_threads_all_come_back() {
    let mut budget = budget(20_000, 23_999);
    for round in 0..5 {
        let now = at(round * 2_000);
        let mut shares: Vec<Vec<PortPermit>> = (0..4).map(|_| Vec::new()).collect();
        let mut ports = BTreeSet::new();
        for number in 0..4_000 {
            let permit = budget.try_take(now).unwrap();
            assert!(ports.insert(permit.port()), "a port was given out twice");
            shares[number % 4].push(permit);
        }
        assert!(budget.try_take(now).is_err());
        thread::scope(|scope| {
            for share in shares {
                scope.spawn(move || drop(share));
            }
            // Collects while they drop: nothing may be lost in between.
            for _ in 0..1_000 {
                budget.collect(now);
            }
        });
        budget.collect(now);
        assert_eq!(budget.usage().in_use, 0);
        assert_eq!(budget.usage().quarantined, 4_000);
    }
}

#[test]
#[should_panic(expected = "one of another budget")]
fn permit_of_another_budget_cannot_be_put_aside() {
    let permit = budget(1, 9).try_take(at(0)).unwrap();
    budget(1, 9).put_aside(permit, at(0));
}

fn local(sources: &[&str]) -> LocalPorts {
    let config = PortsConfig {
        sources: sources
            .iter()
            .map(|source| source.parse().unwrap())
            .collect(),
        range: PortSet::range(100, 107),
        quarantine: REST,
        dials_max: 1,
    };
    LocalPorts::new(0, &config.of_shard(0, 2))
}

#[test]
fn each_source_address_adds_its_own_ports() {
    let target = "127.0.0.9:80".parse().unwrap();
    let mut ports = local(&["127.0.0.1", "127.0.0.2", "::1"]);
    let mut held = Vec::new();
    let mut sources = BTreeSet::new();
    for _ in 0..8 {
        let (source, permit) = ports.try_take(target, at(0)).unwrap();
        assert!(sources.insert(source), "{source} was given out twice");
        held.push(permit);
    }
    assert!(sources.iter().all(SocketAddr::is_ipv4));
    let Err(NoSource::Exhausted(refusal)) = ports.try_take(target, at(0)) else {
        panic!("a ninth port");
    };
    assert!(
        refusal.to_string().contains(
            "and 1 more source addresses towards 127.0.0.9:80 on shard 0: 8 of 8 in use or in quarantine, 1 wanted"
        ),
        "{refusal}"
    );
    // The other family has its own.
    let (source, _permit) = ports.try_take("[::1]:80".parse().unwrap(), at(0)).unwrap();
    assert!(source.is_ipv6());
}

#[test]
fn target_of_a_family_without_a_source_is_refused_by_name() {
    let mut ports = local(&["127.0.0.1"]);
    let taken = ports.try_take("[::1]:80".parse().unwrap(), at(0));
    assert!(matches!(taken, Err(NoSource::Family)), "{taken:?}");
    // Without configured sources the kernel chooses one of either family.
    let mut ports = local(&[]);
    for (target, source) in [("[::1]:80", "[::]:100"), ("127.0.0.1:80", "0.0.0.0:101")] {
        let taken = ports.try_take(target.parse().unwrap(), at(0));
        assert_eq!(taken.map(|(source, _)| source.to_string()).unwrap(), source);
    }
}

proptest! {
    #[test]
    fn shards_of_a_relay_share_no_port(
        first in 1_024_u16..60_000,
        length in 0_u16..1_000,
        shards in 1_u16..20,
        sources in prop::collection::btree_set(any::<u32>(), 0..4),
    ) {
        let config = PortsConfig {
            sources: sources.iter().map(|bits| IpAddr::from(bits.to_be_bytes())).collect(),
            range: PortSet::range(first, first.saturating_add(length)),
            ..PortsConfig::default()
        };
        let mut local = BTreeSet::new();
        let mut own = BTreeSet::new();
        for shard in 0..shards {
            let ports = config.of_shard(shard, shards);
            prop_assert_eq!(ports.sources.len(), sources.len().max(1));
            for port in ports.range.iter() {
                for source in &ports.sources {
                    prop_assert!(local.insert((*source, port)));
                }
            }
            for port in ports.virtual_range.iter() {
                prop_assert!(port >= EPHEMERAL_PORT_MIN && own.insert(port));
            }
        }
        let per_source = u32::try_from(local.len() / sources.len().max(1)).unwrap();
        prop_assert!(config.range.len() - per_source < u32::from(shards));
        prop_assert!(16_384 - own.len() < usize::from(shards));
    }
}
