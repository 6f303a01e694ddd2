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
    let config = ringway_shards::set::ShardSetConfig {
        shards_count,
        cores: Vec::new(),
        listen,
        joins_address: false,
        backlog: ringway_shards::set::BACKLOG_DEFAULT,
        congestion: None,
        spin: std::time::Duration::ZERO,
        admission: ringway_shards::set::AdmissionLimits::for_sockets(1_023),
        queue: ringway_shards::set::QueueLimits::default(),
        timeouts: ringway_shards::set::Timeouts::default(),
        identity: std::sync::Arc::new(ringway_proto::handshake::RelayIdentity::new(secret)),
        dialect: ringway_proto::dialect::Dialect::Native,
        offer: ringway_proto::handshake::Offer {
            capabilities: 0,
            streams_max: ringway_proto::limits::STREAMS_MAX,
            stream_window: ringway_proto::limits::WINDOW_INITIAL,
            keepalive_s: 30,
        },
        ports: ringway_shards::ports::PortsConfig::default(),
        ring: ringway_shards::ring::RingConfig {
            sockets_max: 1_024,
            ..Default::default()
        },
    };
    let set = ringway_shards::set::ShardSet::launch(&config).expect("a relay");
    let address = ringway_client::RelayAddress::new(secret.public(), set.address());
    Relay { set, address }
}
