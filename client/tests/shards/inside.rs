//! The client in the process of its relay: services on the relay's own key.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use ringway_client::{Address, Client, Config, Inside, Reason, RelayAddress, SecretKey};
use ringway_proto::dialect::Dialect;
use ringway_proto::limits::EPHEMERAL_PORT_MIN;
use ringway_proto::ports::PortSet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::peers::{bytes, connect, echo, exchange};
use crate::relay::{Relay, start_relay};

impl Relay {
    /// Returns the relay as a peer of its own on a shard.
    async fn services(&self, shard: usize) -> Client {
        let handle = self.set.handles()[shard].clone();
        let number = handle.shard().0;
        let shards = u16::try_from(self.set.handles().len()).expect("few shards");
        let ports = PortSet::range(EPHEMERAL_PORT_MIN, u16::MAX).slice(number, shards);
        let inside = Inside::new(ports, move || {
            let (ours, theirs) = UnixStream::pair()?;
            let attached = handle.attach(Dialect::Native, theirs);
            attached.map_err(std::io::Error::other)?;
            Ok(ours)
        });
        let unused = RelayAddress::new(self.address.key, ([0, 0, 0, 0], 0).into());
        let config = Config {
            inside: Some(inside),
            backoff_max: Duration::from_millis(200),
            ..Config::new([unused])
        };
        Client::connect(SecretKey::from_seed([250; 32]), config)
            .await
            .expect("an own session")
    }

    fn virtual_ports(&self) -> u64 {
        let snapshots = self.set.snapshots(Duration::from_secs(5));
        let audits = snapshots.iter().map(|snapshot| snapshot.audit);
        audits.map(|audit| audit.virtual_ports).sum()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_are_reached_and_reach_peers_byte_for_byte() {
    let relay = start_relay(2);
    let services = [relay.services(0).await, relay.services(1).await];
    for service in &services {
        echo(service.listen(80).expect("a free port"));
    }
    for (shard, own) in [(0, 0), (1, 1), (0, 1)] {
        let peer = relay.connect_on(shard).await;
        let data = std::sync::Arc::new(bytes(9, 3_000_001));
        let to_relay = peer.dial(Address::new(relay.address.key, 80)).await;
        let back = exchange(to_relay.expect("a dial"), std::sync::Arc::clone(&data)).await;
        assert!(back.expect("an exchange") == *data, "to the relay");

        echo(peer.listen(90).expect("a free port"));
        let to_peer = services[own].dial(Address::new(peer.key(), 90)).await;
        let to_peer = to_peer.expect("a dial");
        let slice = PortSet::range(EPHEMERAL_PORT_MIN, u16::MAX)
            .slice(u16::try_from(own).expect("a shard"), 2);
        assert!(slice.iter().any(|port| port == to_peer.local_port()));
        assert_eq!(relay.virtual_ports(), 1);
        let back = exchange(to_peer, std::sync::Arc::clone(&data)).await;
        assert!(back.expect("an exchange") == *data, "from the relay");
        // The relay counts it until the last frame of either side has passed.
        while relay.virtual_ports() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        peer.close().await;
    }
    for service in services {
        service.close().await;
    }
    relay.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn port_for_some_refuses_all_others_by_name() {
    let relay = start_relay(1);
    let service = relay.services(0).await;
    let (friend, stranger) = (
        connect(&[relay.address]).await,
        connect(&[relay.address]).await,
    );
    let allowed = friend.key();
    let listener = service.listen_for(81, move |key| match *key == allowed {
        true => Ok(()),
        false => Err(Reason::NotAllowed),
    });
    let listener = listener.expect("a free port");
    let refused = stranger.dial(Address::new(relay.address.key, 81)).await;
    let text = refused.expect_err("a refusal").to_string();
    assert!(text.contains("reason 201"), "{text}");
    let (dialled, accepted) = tokio::join!(
        friend.dial(Address::new(relay.address.key, 81)),
        listener.accept()
    );
    let (mut here, mut there) = (dialled.expect("a dial"), accepted.expect("an accept"));
    assert_eq!(there.peer().key, friend.key());
    here.write_all(b"hello").await.expect("a write");
    let mut word = [0; 5];
    there.read_exact(&mut word).await.expect("a read");
    assert_eq!(&word, b"hello");
    drop((here, there));
    tokio::join!(friend.close(), stranger.close());
    service.close().await;
    relay.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_session_that_ends_is_attached_again() {
    let relay = start_relay(1);
    let first = relay.services(0).await;
    // A second one takes its place, and it takes it back when that one is gone.
    let second = relay.services(0).await;
    second.close().await;
    first.ready().await.expect("a session");
    echo(first.listen(80).expect("a free port"));
    let peer = connect(&[relay.address]).await;
    let data = std::sync::Arc::new(bytes(4, 100_000));
    let mut back = None;
    for _ in 0..100 {
        if let Ok(stream) = peer.dial(Address::new(relay.address.key, 80)).await {
            back = exchange(stream, std::sync::Arc::clone(&data)).await.ok();
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(back.is_some_and(|back| back == *data));
    peer.close().await;
    first.close().await;
    relay.end();
}
