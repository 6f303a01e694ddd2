//! Routes over several parties and a real relay, with route setup by the tests' own service.

#[path = "../relay/peers.rs"]
#[expect(dead_code, reason = "what the tests of streams say often, some of it")]
mod peers;
#[path = "../shards/relay.rs"]
#[expect(
    dead_code,
    reason = "the examples in the documentation start a relay with it"
)]
mod relay;
mod service;

use std::sync::Arc;
use std::time::{Duration, Instant};

use peers::{bytes, connect, secret};
use relay::{Relay, start_relay_at};
use ringway_client::{
    Address, Client, PublicKey, Reason, RouteError, RoutePath, RoutePlan, RouteStream, Router,
    RouterConfig,
};
use ringway_proto::limits::ROUTE_RULES_MAX;
use ringway_proto::route::{HopReply, HopRequest, PacketKind, RouteId, packet};
use service::{Service, ask};
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};

/// One party on routes.
struct Peer {
    client: Client,
    router: Router,
}

impl Peer {
    fn key(&self) -> PublicKey {
        self.client.key()
    }

    /// Ends the party as if its process had been killed.
    async fn kill(self) {
        self.client.close().await;
    }
}

/// A relay, the service and parties.
struct World {
    service: Service,
    peers: Vec<Peer>,
    _relay: Relay,
}

impl World {
    async fn start(count: usize, config: &RouterConfig) -> Self {
        let relay = start_relay_at(&secret(), 1, ([127, 0, 0, 1], 0).into());
        let service = Service::start(connect(&[relay.address]).await);
        let config = RouterConfig {
            setup_relays: vec![service.key()],
            ..config.clone()
        };
        let mut peers = Vec::new();
        for _ in 0..count {
            let client = connect(&[relay.address]).await;
            let router = Router::start(client.clone(), config.clone()).expect("free ports");
            peers.push(Peer { client, router });
        }
        Self {
            service,
            peers,
            _relay: relay,
        }
    }

    /// Returns the path over these parties.
    fn path(&self, hops: &[usize]) -> Vec<PublicKey> {
        hops.iter().map(|hop| self.peers[*hop].key()).collect()
    }

    fn plan(&self, forward: &[usize], reverse: &[usize], port: u16) -> RoutePlan {
        RoutePlan {
            relay: self.service.key(),
            path: RoutePath {
                forward: self.path(forward),
                reverse: self.path(reverse),
            },
            port,
            alternatives: Vec::new(),
        }
    }

    /// Opens a group and returns both ends.
    async fn open(&self, plan: RoutePlan) -> (RouteStream, RouteStream) {
        let taker = plan.path.forward.last().expect("a path");
        let taker = self
            .peers
            .iter()
            .find(|peer| peer.key() == *taker)
            .expect("one of them");
        let listener = taker.router.listen(plan.port).expect("a free port");
        let opener = &self.peers[0].router;
        let (opened, taken) = tokio::join!(opener.dial(plan), listener.accept());
        (opened.expect("a route"), taken.expect("a group"))
    }

    /// Waits until nothing is left in any table.
    async fn is_empty(&self) {
        for peer in &self.peers {
            while !peer.router.rules().is_empty() || !peer.router.groups().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

/// Keeps rules so long without a packet that what is not released is not gone by itself.
fn patient() -> RouterConfig {
    RouterConfig {
        keep_alive: Duration::from_secs(600),
        ..RouterConfig::default()
    }
}

/// Keeps alive for a short time, so that what is lost is soon noticed.
fn quick() -> RouterConfig {
    RouterConfig {
        keep_alive: Duration::from_secs(4),
        ..RouterConfig::default()
    }
}

/// Sends `there` and `back` at once, each behind the other's end, and returns what arrived.
async fn both_ways(
    opener: RouteStream,
    taker: RouteStream,
    there: &Arc<Vec<u8>>,
    back: &Arc<Vec<u8>>,
) -> (Vec<u8>, Vec<u8>) {
    let send = |stream: RouteStream, data: Arc<Vec<u8>>| async move {
        let (mut reader, mut writer) = split(stream);
        let mut read = Vec::new();
        let write = async {
            writer.write_all(&data).await?;
            writer.shutdown().await
        };
        let (written, got) = tokio::join!(write, reader.read_to_end(&mut read));
        written.expect("a write");
        got.expect("a read");
        read
    };
    tokio::join!(
        send(opener, Arc::clone(there)),
        send(taker, Arc::clone(back))
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_megabytes_both_ways_over_three_hops_and_nothing_is_left() {
    let world = World::start(5, &patient()).await;
    // There over 1 and 2, back over 3 and 1.
    let plan = world.plan(&[0, 1, 2, 4], &[4, 3, 1, 0], 80);
    let (opener, taker) = world.open(plan).await;
    assert_eq!(opener.peer(), Address::new(world.peers[4].key(), 80));
    let from = Address::new(world.peers[0].key(), opener.local_port());
    assert_eq!(taker.peer(), from);
    assert_eq!(opener.path(), world.path(&[0, 1, 2, 4]));
    let (there, back) = (
        Arc::new(bytes(1, 10_000_000)),
        Arc::new(bytes(2, 10_000_000)),
    );
    let (got, sent) = both_ways(opener, taker, &there, &back).await;
    assert!(sent == *there && got == *back);
    world.is_empty().await;
    for (hop, peer) in world.peers.iter().enumerate() {
        let stats = peer.router.stats();
        let is_between = (1..4).contains(&hop);
        assert_eq!(
            stats.packets_forwarded > 600,
            is_between,
            "{hop}: {stats:?}"
        );
        assert_eq!(stats.dropped.queue, 0, "{hop}: {stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_close_ends_one_direction_and_a_dropped_stream_resets() {
    let world = World::start(3, &patient()).await;
    let (mut opener, mut taker) = world.open(world.plan(&[0, 1, 2], &[2, 1, 0], 80)).await;
    opener.write_all(b"question").await.expect("a write");
    opener.shutdown().await.expect("a shutdown");
    let mut text = String::new();
    taker.read_to_string(&mut text).await.expect("the question");
    assert_eq!(text, "question");
    taker.write_all(b"answer").await.expect("a write");
    taker.shutdown().await.expect("a shutdown");
    text.clear();
    opener.read_to_string(&mut text).await.expect("the answer");
    assert_eq!(text, "answer");
    drop((opener, taker));
    world.is_empty().await;

    for dropped in [0, 1] {
        let plan = world.plan(&[0, 1, 2], &[2, 1, 0], 80);
        let (opener, taker) = world.open(plan).await;
        let mut ends = [Some(opener), Some(taker)];
        drop(ends[dropped].take());
        let mut other = ends[1 - dropped].take().expect("the other end");
        let error = other.read(&mut [0; 8]).await.expect_err("a reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        drop(other);
        world.is_empty().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_survives_the_death_of_a_hop() {
    for is_in_plan in [true, false] {
        let mut world = World::start(5, &quick()).await;
        let mut plan = world.plan(&[0, 1, 4], &[4, 1, 0], 80);
        if is_in_plan {
            plan.alternatives = vec![RoutePath::both_ways(world.path(&[0, 2, 3, 4]))];
        } else {
            let paths = vec![world.path(&[0, 1, 4]), world.path(&[0, 2, 3, 4])];
            *world.service.paths.lock().expect("no panic") = paths;
        }
        let (mut opener, taker) = world.open(plan).await;
        let (mut reader, mut writer) = split(taker);
        let (there, back) = (
            Arc::new(bytes(3, 10_000_000)),
            Arc::new(bytes(4, 3_000_000)),
        );
        let all = Arc::clone(&back);
        let answering = tokio::spawn(async move {
            let mut read = Vec::new();
            let write = async {
                writer.write_all(&all).await?;
                writer.shutdown().await
            };
            let (written, got) = tokio::join!(write, reader.read_to_end(&mut read));
            written.expect("a write");
            got.expect("a read");
            read
        });
        opener
            .write_all(&there[..4_000_000])
            .await
            .expect("a write");
        world.peers.remove(1).kill().await;
        let (mut reader, mut writer) = split(opener);
        let rest = Arc::clone(&there);
        let writing = tokio::spawn(async move {
            writer.write_all(&rest[4_000_000..]).await.expect("a write");
            writer.shutdown().await.expect("a shutdown");
            writer
        });
        let mut got = Vec::new();
        reader.read_to_end(&mut got).await.expect("the answer");
        assert!(got == *back, "{} bytes came back", got.len());
        let arrived = answering.await.expect("no panic");
        assert!(arrived == *there, "{} bytes arrived", arrived.len());
        let opener = reader.unsplit(writing.await.expect("no panic"));
        let hops = [
            &world.peers[0],
            &world.peers[1],
            &world.peers[2],
            &world.peers[3],
        ];
        assert_eq!(opener.path(), hops.map(Peer::key));
        drop(opener);
        world.is_empty().await;
        let stats = world.peers[0].router.stats();
        assert_eq!((stats.reroutes, stats.reroutes_failed), (1, 0), "{stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_another_path_the_stream_ends_with_a_named_error_in_time() {
    let mut world = World::start(3, &quick()).await;
    let (mut opener, mut taker) = world.open(world.plan(&[0, 1, 2], &[2, 1, 0], 80)).await;
    opener.write_all(b"before").await.expect("a write");
    taker.read_exact(&mut [0; 6]).await.expect("the bytes");
    world.peers.remove(1).kill().await;
    let died = Instant::now();
    let is_lost = |error: &std::io::Error| {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        matches!(inner, Some(RouteError::PathLost(_)))
    };
    let (mut here, mut there) = ([0; 1], [0; 1]);
    let (here, there) = tokio::join!(opener.read(&mut here), taker.read(&mut there));
    for error in [here.expect_err("no path"), there.expect_err("no path")] {
        assert!(is_lost(&error), "{error:?}");
    }
    // The keep-alive time, from when each end heard something last, and the machine's.
    let took = died.elapsed();
    assert!(took < quick().keep_alive * 2, "{took:?}");
    let error = opener.write(b"after").await.expect_err("no path");
    assert!(is_lost(&error), "{error:?}");
    drop((opener, taker));
    world.is_empty().await;
    assert_eq!(world.peers[0].router.stats().reroutes_failed, 1);
}

#[tokio::test]
async fn setups_that_fail_have_their_reason_and_leave_nothing() {
    let world = World::start(3, &patient()).await;
    let opener = &world.peers[0].router;
    let dial = |plan: RoutePlan| async move { opener.dial(plan).await.expect_err("no route") };

    let error = dial(world.plan(&[0, 1, 2], &[2, 1, 0], 80)).await;
    assert_eq!(error.reason(), Some(Reason::NoListener), "{error}");
    let error = dial(world.plan(&[0, 1, 1], &[1, 0], 80)).await;
    assert_eq!(error.reason(), Some(Reason::BadRoute), "{error}");
    let listener = world.peers[2].router.listen(80).expect("a free port");
    let mut plan = world.plan(&[0, 1, 2], &[2, 1, 0], 80);
    let nobody = secret().public();
    plan.path.forward[1] = nobody;
    let error = dial(plan).await;
    assert_eq!(error.reason(), Some(Reason::HopUnreachable), "{error}");
    let mut plan = world.plan(&[0, 1, 2], &[2, 1, 0], 80);
    plan.relay = nobody;
    let error = dial(plan).await;
    assert!(
        matches!(error, RouteError::RelayUnreachable { .. }),
        "{error}"
    );
    world.is_empty().await;
    let stats = opener.stats();
    assert_eq!((stats.setups, stats.setups_failed.values().sum()), (0, 4));
    drop(listener);

    // The alternative is taken when the first path cannot be set up.
    let mut plan = world.plan(&[0, 1, 2], &[2, 1, 0], 80);
    plan.alternatives = vec![plan.path.clone()];
    plan.path.forward[1] = nobody;
    let (mut opener, mut taker) = world.open(plan).await;
    taker.write_all(b"first").await.expect("a write");
    opener.read_exact(&mut [0; 5]).await.expect("the bytes");
}

#[tokio::test]
async fn a_hop_serves_trusted_relays_only_and_keeps_its_bounds() {
    let world = World::start(2, &RouterConfig::default()).await;
    let (hop, other) = (&world.peers[0], &world.peers[1]);
    let reserve = |count| HopRequest::Reserve { count };
    let refused = ask(&other.client, hop.key(), reserve(1)).await;
    let reason = refused.map_err(|refusal| refusal.reason());
    assert_eq!(reason, Err(Some(Reason::NotAllowed)));
    assert!(hop.router.rules().is_empty());

    let mut reserved = 0;
    let refusal = loop {
        match world.service.ask(hop.key(), reserve(16)).await {
            Ok(HopReply::Reserved { ids }) => reserved += ids.len(),
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refusal.reason(), Some(Reason::HopRefused));
    assert_eq!(reserved, ROUTE_RULES_MAX);
    let ids: Vec<_> = hop.router.rules().iter().map(|rule| rule.id).collect();
    for ids in ids.chunks(16) {
        let release = HopRequest::Release { ids: ids.to_vec() };
        assert_eq!(
            world.service.ask(hop.key(), release).await,
            Ok(HopReply::Done)
        );
    }
    assert!(hop.router.rules().is_empty());
}

#[tokio::test]
async fn packets_without_a_rule_are_answered_and_nonsense_ends_the_stream() {
    let world = World::start(1, &RouterConfig::default()).await;
    let hop = &world.peers[0];
    let stranger = world
        .service
        .ask(hop.key(), HopRequest::Reserve { count: 1 })
        .await;
    assert!(stranger.is_ok());
    let client = connect(&[hop.client.status()[0].relay]).await;
    let dial = client.dial(Address::new(hop.key(), 37));
    let mut stream = dial.await.expect("anybody may be a neighbour");
    let mut out = Vec::new();
    packet::write_packet(RouteId(99), PacketKind::Data, b"data", &mut out).expect("a packet");
    packet::write_end(RouteId(98), PacketKind::Close, Reason::Idle, &mut out);
    packet::write_packet(RouteId(97), PacketKind::KeepAlive, b"", &mut out).expect("a packet");
    stream.write_all(&out).await.expect("a write");
    let mut answers = vec![0; 18];
    stream.read_exact(&mut answers).await.expect("two answers");
    let mut expected = Vec::new();
    packet::write_end(
        RouteId(99),
        PacketKind::Gone,
        Reason::NoRoute,
        &mut expected,
    );
    packet::write_end(
        RouteId(97),
        PacketKind::Gone,
        Reason::NoRoute,
        &mut expected,
    );
    assert_eq!(answers, expected);
    assert_eq!(hop.router.stats().dropped.unknown_id, 3);
    stream
        .write_all(&[0, 0, 0, 1, 99, 0, 0])
        .await
        .expect("a write");
    let ended = stream.read(&mut [0; 1]).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transports_are_announced_and_again() {
    let relay = start_relay_at(&secret(), 1, ([127, 0, 0, 1], 0).into());
    let service = Service::start(connect(&[relay.address]).await);
    let (client, neighbour) = (
        connect(&[relay.address]).await,
        connect(&[relay.address]).await,
    );
    let config = RouterConfig {
        announce_to: vec![service.key()],
        // One of the two answers pings.
        neighbours: vec![neighbour.key(), secret().public()],
        announce_ttl: Duration::from_millis(150),
        ..RouterConfig::default()
    };
    let router = Router::start(client.clone(), config).expect("free ports");
    while router.stats().announcements < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let announced = service.announced.lock().expect("no panic").clone();
    for (peer, transports) in announced {
        assert_eq!(peer, client.key());
        let peers: Vec<_> = transports.iter().map(|one| one.peer).collect();
        assert_eq!(peers, [neighbour.key()]);
        assert!(transports[0].latency_us > 0);
    }
}
