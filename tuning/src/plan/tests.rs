//! Tests of plans: one relay, fleets, what cannot be.

use super::limits::Resource;
use super::load::{self, Sum};
use super::*;

fn demand() -> Demand {
    Demand {
        sessions: 20_000,
        streams: 1.0,
        bits: 1e9,
        message: 16_384,
        together: 1.0,
        connects: 10.0,
        opens: None,
        forwarded: None,
        slow: 0.0,
        round_trip: Duration::from_millis(50),
        returning: Duration::from_secs(60),
        relays: None,
        spare: 0,
    }
}

fn room() -> Room {
    Room {
        cores: 8.0,
        shards: 8.0,
        memory: 32e9,
        open_files: 1e6,
        ports: 28_232.0,
        network: None,
        share: 0.6,
    }
}

fn plan(demand: Demand, room: Room) -> Result<Plan, String> {
    Plan::of(demand, Costs::built_in().unwrap(), room)
}

#[test]
fn contradictions_are_named_with_what_was_expected() {
    let cases = [
        (
            Demand {
                connects: 30_000.0,
                ..demand()
            },
            "at most as many connects",
        ),
        (
            Demand {
                relays: Some(1),
                forwarded: Some(0.5),
                ..demand()
            },
            "a forwarded share of 0, or more relays",
        ),
        (
            Demand {
                relays: Some(2),
                spare: 2,
                ..demand()
            },
            "more relays or fewer spare ones",
        ),
        (
            Demand {
                streams: 0.0,
                ..demand()
            },
            "some streams for each session",
        ),
        (
            Demand {
                sessions: 1,
                message: 1,
                bits: 1e9,
                connects: 0.0,
                ..demand()
            },
            "at most 15000000",
        ),
    ];
    for (demand, expected) in cases {
        let error = plan(demand, room()).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn one_relay_carries_what_fits() {
    let plan = plan(demand(), room()).unwrap();
    assert_eq!(plan.fleet.relays, 1);
    assert_eq!(plan.fleet.registry, None);
    assert!(!plan.is_short());
    let forwarded = plan
        .limits
        .iter()
        .find(|limit| limit.resource == Resource::Forwarded);
    assert_eq!(forwarded.unwrap().needed, 0.0);
}

#[test]
fn fleet_has_as_few_relays_as_carry_the_demand() {
    for sessions in [1_000_000, 10_000_000, 100_000_000] {
        let large = Demand {
            sessions,
            bits: 50e9,
            spare: 1,
            ..demand()
        };
        let found = plan(large, room()).unwrap();
        let relays = found.fleet.relays;
        assert!(relays > 2 && !found.is_short(), "{relays}");
        let fewer = Demand {
            relays: Some(relays - 1),
            ..large
        };
        assert!(plan(fewer, room()).unwrap().is_short(), "{relays}");
    }
}

#[test]
fn relays_that_are_left_carry_everything() {
    let all = Demand {
        sessions: 1_000_000,
        relays: Some(5),
        spare: 2,
        ..demand()
    };
    let plan = plan(all, room()).unwrap();
    let third = 1_000_000.0 / 3.0;
    assert!((plan.fleet.load.sessions - third).abs() < 1.0);
    assert!((plan.fleet.load.payload - 1e9 / 8.0 / 3.0).abs() < 1.0);
    assert!((plan.fleet.storm.rate - third / 60.0 / 8.0).abs() < 1e-6);
}

#[test]
fn peers_beyond_what_a_relay_is_told_of_stand_in_the_registry() {
    let few = Demand {
        sessions: 900_000,
        relays: Some(4),
        ..demand()
    };
    let few = plan(few, room()).unwrap().fleet;
    assert!(few.is_announced && few.registry.is_none());
    let many = Demand {
        sessions: 9_000_000,
        relays: Some(4),
        ..demand()
    };
    let many = plan(many, room()).unwrap();
    let registry = many.fleet.registry.unwrap();
    assert_eq!((registry.places, registry.changes), (9e6, 20.0));
    let keys: Vec<&str> = many
        .fleet
        .settings(&room())
        .iter()
        .map(|setting| setting.0)
        .collect();
    assert!(
        keys.contains(&"mesh.announce_peers") && keys.contains(&"mesh.registry"),
        "{keys:?}"
    );
}

#[test]
fn limit_is_reached_where_the_plan_says() {
    let plan = plan(demand(), room()).unwrap();
    for limit in &plan.limits {
        let Some(sessions) = limit.sessions else {
            continue;
        };
        let load = limits::scaled(&plan.fleet.load, sessions / plan.fleet.load.sessions);
        let terms = load::terms(&load, &plan.costs);
        let need = limits::needed(limit.resource, &load, &terms);
        assert!(
            (need / limit.available - 1.0).abs() < 1e-6,
            "{limit:?} {need}"
        );
    }
}

#[test]
fn what_no_fleet_carries_says_what_is_short() {
    let small = Room {
        memory: 67_108_864.0,
        ..room()
    };
    let error = plan(
        Demand {
            sessions: 1_000_000_000,
            ..demand()
        },
        small,
    )
    .unwrap_err();
    assert!(error.contains("memory is short"), "{error}");
}

#[test]
fn more_shards_than_cores_hold_what_open_files_refuse() {
    let few_files = Room {
        open_files: 20_000.0,
        ..room()
    };
    let demand = Demand {
        sessions: 250_000,
        bits: 1e8,
        relays: Some(1),
        ..demand()
    };
    let refused = plan(demand, few_files).unwrap();
    let sockets = refused
        .limits
        .iter()
        .find(|limit| limit.resource == Resource::Sockets);
    assert!(sockets.unwrap().is_exceeded());
    let shards = Room {
        shards: 14.0,
        ..few_files
    };
    let held = plan(demand, shards).unwrap();
    assert!(!held.is_short());
    assert_eq!(held.fleet.settings(&held.room)[0].1, "14");
}

#[test]
fn many_streams_and_links_are_settings() {
    let streams = Demand {
        sessions: 200_000,
        streams: 50.0,
        forwarded: Some(0.01),
        ..demand()
    };
    let streams = plan(streams, room()).unwrap();
    let settings = streams.fleet.settings(&room());
    let legs = settings
        .iter()
        .find(|setting| setting.0 == "limits.shard_streams_max");
    let legs: f64 = legs.unwrap().1.parse().unwrap();
    assert!(legs > 2.0 * streams.fleet.load.streams / streams.fleet.shards);
    let links = Demand {
        relays: Some(80),
        ..demand()
    };
    let links = plan(links, room()).unwrap().fleet.settings(&room());
    assert!(links.iter().any(|setting| setting.0 == "mesh.links_max"));
}

#[test]
fn text_shows_every_term_and_what_is_short() {
    let short = Demand {
        relays: Some(1),
        sessions: 20_000_000,
        ..demand()
    };
    let plan = plan(short, room()).unwrap();
    assert!(plan.is_short());
    let text = text::text(&plan).unwrap();
    assert!(text.contains("  SHORT memory"), "{text}");
    for term in &plan.terms {
        assert!(text.contains(term.name), "{}", term.name);
    }
}

#[test]
fn page_needs_no_other_file_and_follows_from_the_plan() {
    let plan = plan(
        Demand {
            sessions: 5_000_000,
            ..demand()
        },
        room(),
    )
    .unwrap();
    let page = page::page(&plan).unwrap();
    assert_eq!(page, page::page(&plan).unwrap());
    assert_eq!(page.matches("<svg").count(), plan.limits.len());
    for word in ["<script", "http://", "https://", "NaN", "inf "] {
        let found = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!found.contains(word), "{word}");
    }
}

#[test]
fn memory_grows_by_what_a_session_costs() {
    let memory = |sessions| {
        let plan = plan(
            Demand {
                sessions,
                bits: 0.0,
                connects: 0.0,
                ..demand()
            },
            room(),
        );
        load::total(&plan.unwrap().terms, Sum::ProcessMemory)
    };
    let costs = Costs::built_in().unwrap().memory;
    let each = (memory(40_000) - memory(20_000)) / 20_000.0;
    // Signs of life keep a hundredth of a core busy.
    // Half a stream for each end.
    let expected = costs.session.median + costs.stream.median / 2.0;
    assert!((each / expected - 1.0).abs() < 0.01, "{each} {expected}");
}
