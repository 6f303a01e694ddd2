//! Route setup on the relay's key: the real relay, real sockets, peers whose conduct a test writes.
//!
//! Here: what a relay does when hops work, refuse, are silent, talk nonsense or die at any step, and what
//! is left then on every party. Not here: routes that carry traffic (the client's tests), the plan of a
//! group and the gate (`src/services/route_setup`).

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failure in a helper of a test fails the test"
)]

mod hop;
mod relay;

use std::time::{Duration, Instant};

use ringway_client::{Client, PublicKey};
use ringway_proto::reason::Reason;
use ringway_proto::route::{
    GroupName, Message, Refusal, RouteId, RuleKind, SetUp, SetupReply, SetupRequest,
};
use tokio::task::JoinSet;

use hop::{Asker, Conduct, Hop, Step};
use relay::Relay;

/// Returns a request whose routes go over `path` and back over the same peers.
fn over(path: &[PublicKey]) -> SetUp {
    SetUp {
        destination: *path.last().unwrap(),
        forward: path.to_vec(),
        reverse: path.iter().rev().copied().collect(),
        source_port: 50_000,
        destination_port: 80,
        group: GroupName([3; 16]),
        keep_alive_ms: 0,
        reverse_id: RouteId(9),
    }
}

/// Follows a packet of the group from its source; returns the hops it passes.
fn walk(hops: &[Hop], first: PublicKey, mut id: RouteId) -> Vec<PublicKey> {
    let mut at = first;
    let mut seen = vec![at];
    loop {
        let hop = hops.iter().find(|hop| hop.key() == at).expect("a hop");
        let rule = hop.table.lock().unwrap().rules[&id].clone();
        match rule.kind {
            RuleKind::Destination { .. } => return seen,
            RuleKind::Intermediary { next, next_id } => (at, id) = (next, next_id),
        }
        seen.push(at);
    }
}

fn refusal(reply: SetupReply) -> Refusal {
    match reply {
        SetupReply::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

async fn hops(relay: &Relay, seeds: std::ops::Range<u16>) -> Vec<Hop> {
    let mut hops = Vec::new();
    for seed in seeds {
        hops.push(Hop::start(relay.connect(seed).await));
    }
    hops
}

fn path(source: &Client, hops: &[Hop]) -> Vec<PublicKey> {
    let keys = hops.iter().map(Hop::key);
    std::iter::once(source.key()).chain(keys).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hops_get_rules_that_lead_to_both_ends() {
    let relay = Relay::start(&["--shards", "2"]);
    let hops = hops(&relay, 1..4).await;
    let source = relay.connect(100).await;
    let mut asker = Asker::open(&source, relay.address.key).await;
    let path = path(&source, &hops);
    let reply = asker.ask(SetupRequest::SetUp(over(&path))).await;
    let SetupReply::SetUp {
        forward_id,
        keep_alive_ms,
    } = reply
    else {
        panic!("{reply:?}");
    };
    assert_eq!(keep_alive_ms, 30_000);
    assert_eq!(walk(&hops, path[1], forward_id), path[1..]);
    let held: Vec<_> = hops.iter().map(Hop::holds).collect();
    assert_eq!(held, [2, 2, 1], "one rule for each direction");
    relay.is_as_before().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hops_at_another_relay_are_reached_over_the_mesh() {
    let first = Relay::start(&["--shards", "1"]);
    let link = first.address.to_string();
    let second = Relay::start(&["--shards", "2", "--link", &link]);
    first.until("ringway_links_current", |have| have > 0).await;
    let near = hops(&first, 1..3).await;
    let far = hops(&second, 3..5).await;
    let source = first.connect(100).await;
    let all = [
        near[0].clone(),
        far[0].clone(),
        near[1].clone(),
        far[1].clone(),
    ];
    first
        .until("ringway_announced_current", |have| have >= 2)
        .await;
    let path = path(&source, &all);
    let mut asker = Asker::open(&source, first.address.key).await;
    let reply = asker.ask(SetupRequest::SetUp(over(&path))).await;
    let SetupReply::SetUp { forward_id, .. } = reply else {
        panic!("{reply:?}");
    };
    assert_eq!(walk(&all, path[1], forward_id), path[1..]);
    first.is_as_before().await;
    second.is_as_before().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failure_at_any_step_names_the_hop_and_leaves_nothing() {
    let relay = Relay::start(&["--shards", "1", "--set", "services.setup_timeout=1s"]);
    let mut seed = 1;
    for step in [Step::Reserve, Step::Rules] {
        for conduct in [
            Conduct::Breaks,
            Conduct::Dies,
            Conduct::Garbage,
            Conduct::Miscounts,
            Conduct::Refuses,
            Conduct::Silent,
        ] {
            if (step, conduct) == (Step::Rules, Conduct::Miscounts) {
                continue;
            }
            for wrong in 0..3 {
                let hops = hops(&relay, seed..seed + 3).await;
                seed += 3;
                let source = relay.connect(1_000 + seed).await;
                hops[wrong].behave(step, conduct);
                let mut asker = Asker::open(&source, relay.address.key).await;
                let path = path(&source, &hops);
                let reply = asker.ask(SetupRequest::SetUp(over(&path))).await;
                let refusal = refusal(reply);
                let case = format!("{step:?} {conduct:?} hop {wrong}: {refusal}");
                assert_eq!(refusal.hop, Some(hops[wrong].key()), "{case}");
                let reasons: &[Reason] = match conduct {
                    Conduct::Miscounts | Conduct::Refuses => &[Reason::HopRefused],
                    Conduct::Silent => &[Reason::RouteTimeout],
                    _ => &[Reason::HopUnreachable],
                };
                let reason = refusal.reason().unwrap();
                assert!(reasons.contains(&reason), "{case}");
                for (number, hop) in hops.iter().enumerate() {
                    // Who did not answer forgets by itself; nobody else has anything.
                    let may_hold = number == wrong
                        && matches!(conduct, Conduct::Breaks | Conduct::Dies | Conduct::Garbage);
                    assert!(may_hold || hop.holds() == 0, "{case}: hop {number} holds");
                }
                for party in hops.iter().map(|hop| &hop.client).chain([&source]) {
                    party.close().await;
                }
            }
        }
    }
    relay.is_as_before().await;
    relay
        .until("ringway_sessions_current", |have| have == 0)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peer_that_nobody_has_is_a_hop_that_cannot_be_reached() {
    let relay = Relay::start(&["--shards", "1"]);
    let hops = hops(&relay, 1..3).await;
    let source = relay.connect(100).await;
    // A peer with a session and without a listener, and a key without a session.
    let idle = relay.connect(50).await;
    for stranger in [idle.key(), relay::secret(999).public()] {
        let path = [source.key(), hops[0].key(), stranger, hops[1].key()];
        let mut asker = Asker::open(&source, relay.address.key).await;
        let begun = Instant::now();
        let refusal = refusal(asker.ask(SetupRequest::SetUp(over(&path))).await);
        assert_eq!(refusal.reason(), Some(Reason::HopUnreachable));
        assert_eq!(refusal.hop, Some(stranger));
        assert!(
            begun.elapsed() < relay::PATIENCE,
            "it is no matter of a time-out"
        );
        assert_eq!((hops[0].holds(), hops[1].holds()), (0, 0));
    }
    relay.is_as_before().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_semaphore_opens_nothing_and_says_so_at_once() {
    let relay = Relay::start(&[
        "--shards",
        "1",
        "--set",
        "services.setups_max=1",
        "--set",
        "services.setups_waiting_max=1",
        "--set",
        "services.setup_timeout=5s",
    ]);
    let hops = hops(&relay, 1..3).await;
    hops[0].behave(Step::Reserve, Conduct::Silent);
    hops[1].behave(Step::Reserve, Conduct::Silent);
    let source = relay.connect(100).await;
    let mut asker = Asker::open(&source, relay.address.key).await;
    let held = asker
        .send(SetupRequest::SetUp(over(&[source.key(), hops[0].key()])))
        .await;
    hops[0].until_asked(1).await;
    let waits = asker
        .send(SetupRequest::SetUp(over(&[source.key(), hops[1].key()])))
        .await;
    relay
        .until("ringway_setups_waiting_current", |have| have == 1)
        .await;
    let opened = relay.metric("ringway_setup_hops_opened_total");
    let opens = relay.metric("ringway_opens_received_total");
    for _ in 0..100 {
        let id = asker
            .send(SetupRequest::SetUp(over(&[source.key(), hops[1].key()])))
            .await;
        let (answered, reply) = asker.hear().await.unwrap();
        assert_eq!(answered, id, "before the ones that wait");
        assert_eq!(refusal(reply).reason(), Some(Reason::RouteBusy));
    }
    assert_eq!(relay.metric("ringway_setup_hops_opened_total"), opened);
    assert_eq!(relay.metric("ringway_opens_received_total"), opens);
    assert_eq!(hops[1].asked.load(std::sync::atomic::Ordering::Relaxed), 0);
    // The one that has the permit ends by its time, and the next has its turn.
    let mut answers = Vec::new();
    for _ in 0..2 {
        let (id, reply) = asker.hear().await.unwrap();
        answers.push(id);
        assert_eq!(refusal(reply).reason(), Some(Reason::RouteTimeout));
    }
    assert_eq!(answers, [held, waits]);
    assert_eq!((hops[0].holds(), hops[1].holds()), (0, 0));
    relay.is_as_before().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asker_that_goes_leaves_nothing() {
    let relay = Relay::start(&["--shards", "1"]);
    let hops = hops(&relay, 1..4).await;
    for _ in 0..20 {
        let source = relay.connect(100).await;
        let mut asker = Asker::open(&source, relay.address.key).await;
        asker
            .send(SetupRequest::SetUp(over(&path(&source, &hops))))
            .await;
        drop(asker);
        source.close().await;
    }
    relay.is_as_before().await;
    let deadline = Instant::now() + relay::PATIENCE;
    // What was answered before the asker had gone is the asker's, and ends with its keep-alive.
    let done = usize::try_from(relay.metric("ringway_setups_done_total")).unwrap();
    while hops.iter().map(Hop::holds).sum::<usize>() > done * 5 {
        assert!(Instant::now() < deadline, "ids are left");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_requests_are_refused_by_field_before_any_permit() {
    let relay = Relay::start(&["--shards", "1"]);
    let source = relay.connect(100).await;
    let keys: Vec<PublicKey> = (1..40).map(|seed| relay::secret(seed).public()).collect();
    let good = [source.key(), keys[0], keys[1]];
    let change = |change: fn(&mut SetUp, PublicKey)| {
        let mut request = over(&good);
        change(&mut request, relay.address.key);
        request
    };
    let mut long = vec![source.key()];
    long.extend(&keys[..20]);
    let cases = [
        ("forward", change(|r, _| r.forward.insert(1, r.forward[1]))),
        ("forward", change(|r, _| r.forward.truncate(1))),
        ("forward", change(|r, _| r.forward.clear())),
        ("forward", change(|r, _| drop(r.forward.drain(..1)))),
        ("forward", change(|r, relay| r.forward[1] = relay)),
        ("forward", over(&long)),
        ("reverse", change(|r, _| r.reverse.swap(0, 2))),
        ("reverse", change(|r, _| r.reverse.push(r.reverse[0]))),
        ("destination", change(|r, _| r.destination = r.forward[0])),
        ("keep_alive_ms", change(|r, _| r.keep_alive_ms = 1)),
        ("reverse_id", change(|r, _| r.reverse_id = RouteId::NONE)),
    ];
    let mut asker = Asker::open(&source, relay.address.key).await;
    let count = cases.len();
    for (field, request) in cases {
        let refusal = refusal(asker.ask(SetupRequest::SetUp(request)).await);
        assert_eq!(refusal.field, field, "{refusal}");
        assert_eq!(refusal.reason(), Some(Reason::BadRoute), "{refusal}");
        assert!(!refusal.message.is_empty());
    }
    assert_eq!(
        relay.metric("ringway_setups_refused_total"),
        u64::try_from(count).unwrap()
    );
    assert_eq!(relay.metric("ringway_setup_hops_opened_total"), 0);

    // A body that is none is answered by its id; then the stream goes on.
    asker.send_raw(&[0, 0, 0, 3, 1, 77, 99]).await;
    let (id, reply) = asker.hear().await.unwrap();
    assert_eq!((id, refusal(reply).field.as_str()), (77, "request"));
    let refused = refusal(asker.ask(SetupRequest::SetUp(over(&long))).await);
    assert_eq!(refused.field, "forward");
    // A version or a length that is none ends the stream, by name.
    for (bytes, field) in [
        ([0, 0, 0, 2, 9, 1], "version"),
        ([255, 255, 255, 255, 1, 1], "length"),
    ] {
        let mut asker = Asker::open(&source, relay.address.key).await;
        asker.send_raw(&bytes).await;
        let (_, reply) = asker.hear().await.unwrap();
        let refusal = refusal(reply);
        assert_eq!(refusal.reason(), Some(Reason::BadRoute));
        assert_eq!(refusal.field, field);
        assert!(asker.hear().await.is_none(), "the stream has ended");
    }
    relay.is_as_before().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_keys_of_the_set_may_ask() {
    let friend = relay::secret(100).public().to_string();
    let set = format!("services.route_setup={friend}");
    let relay = Relay::start(&["--shards", "1", "--set", &set]);
    let hops = hops(&relay, 1..3).await;
    let source = relay.connect(100).await;
    let mut asker = Asker::open(&source, relay.address.key).await;
    let reply = asker
        .ask(SetupRequest::SetUp(over(&path(&source, &hops))))
        .await;
    assert!(matches!(reply, SetupReply::SetUp { .. }), "{reply:?}");
    let stranger = relay.connect(101).await;
    let port = ringway_proto::route::ROUTE_SETUP_PORT;
    let refused = stranger.dial(ringway_client::Address::new(relay.address.key, port));
    let text = refused.await.unwrap_err().to_string();
    assert!(text.contains("reason 201"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_setups_leave_the_relay_as_it_was() {
    const SETUPS: u32 = 10_000;
    const ASKERS: u32 = 10;
    const OPEN: u32 = 20;
    let relay = Relay::start(&["--shards", "1"]);
    let hops = hops(&relay, 1..4).await;
    let mut askers = JoinSet::new();
    for number in 0..ASKERS {
        let source = relay.connect(100 + u16::try_from(number).unwrap()).await;
        let mut asker = Asker::open(&source, relay.address.key).await;
        let path = path(&source, &hops);
        askers.spawn(async move {
            let mut sent = 0;
            let mut heard = 0;
            while heard < SETUPS / ASKERS {
                while sent < SETUPS / ASKERS && sent - heard < OPEN {
                    asker.send(SetupRequest::SetUp(over(&path))).await;
                    sent += 1;
                }
                let (_, reply) = asker.hear().await.unwrap();
                assert!(matches!(reply, SetupReply::SetUp { .. }), "{reply:?}");
                heard += 1;
            }
            source.close().await;
        });
    }
    while let Some(asker) = askers.join_next().await {
        asker.unwrap();
    }
    assert_eq!(relay.metric("ringway_setups_done_total"), u64::from(SETUPS));
    let held: usize = hops.iter().map(Hop::holds).sum();
    assert_eq!(held, 5 * usize::try_from(SETUPS).unwrap());
    relay.is_as_before().await;
    let streams = relay.metric("ringway_streams_current");
    assert_eq!(streams, 0);
}

/// The messages that this test writes by hand are what they should be.
#[test]
fn hand_written_body_is_a_malformed_one() {
    let body = Message::<SetupRequest>::decode(&[1, 77, 99]);
    assert!(body.is_err());
}
