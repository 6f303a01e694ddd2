// A real relay in this process. No `//!` here: the examples in the documentation include this file.

/// A running relay; dropping it ends it.
pub(crate) struct Relay {
    pub(crate) set: ringway_shards::set::ShardSet,
    pub(crate) address: ringway_client::RelayAddress,
}

/// Starts a relay on a free port of the loopback address.
pub(crate) fn start_relay(shards_count: u16) -> Relay {
    let secret = ringway_client::SecretKey::from_seed([250; 32]);
    start_relay_at(&secret, shards_count, ([127, 0, 0, 1], 0).into())
}

/// Starts the relay of `secret` at `listen`.
pub(crate) fn start_relay_at(
    secret: &ringway_client::SecretKey,
    shards_count: u16,
    listen: std::net::SocketAddr,
) -> Relay {
    let identity = std::sync::Arc::new(ringway_proto::handshake::RelayIdentity::new(secret));
    let config = ringway_shards::set::ShardSetConfig {
        shards_count,
        listen,
        ..ringway_shards::set::ShardSetConfig::new(identity).with_sockets(1_023)
    };
    let set = ringway_shards::set::ShardSet::launch(&config).expect("a relay");
    let address = ringway_client::RelayAddress::new(secret.public(), set.address());
    Relay { set, address }
}
