//! Peers that die all at once.
//!
//! A relay of this kind that was measured kept memory and, for frozen peers, closed first and so held
//! the ports of the dead in `FIN_WAIT2` and `TIME_WAIT`.

use ringway_shards::set::AdmissionLimits;

use crate::raw::Raw;
use crate::relay::{Options, Relay};

/// Connects `count` peers, each with a bridge to another that has carried a byte each way.
fn bridged(relay: &Relay, count: u32) -> Vec<Raw> {
    let mut peers = Vec::new();
    for pair in 0..count / 2 {
        let mut opener = Raw::admitted(relay, 2 * pair);
        let mut taker = Raw::admitted(relay, 2 * pair + 1);
        let (near, far) = opener.bridge(&mut taker);
        opener.write(near, b"there");
        taker.expect(far, b"there");
        taker.write(far, b"back");
        opener.expect(near, b"back");
        peers.extend([opener, taker]);
    }
    assert_eq!(
        relay.sum(|shard| shard.audit.sessions),
        u64::from(count),
        "every peer has its session"
    );
    assert_eq!(relay.sum(|shard| shard.audit.streams), u64::from(count));
    peers
}

#[test]
fn a_thousand_bridged_sessions_cut_with_rst_leave_nothing() {
    let relay = Relay::with_shards(2);
    for peer in bridged(&relay, 1_000) {
        peer.kill();
    }
    relay.until_empty();
    assert_eq!(relay.sum(|shard| shard.stats.sessions_opened), 1_000);
    assert_eq!(relay.sum(|shard| shard.stats.sessions_lost), 1_000);
    relay.end();
}

#[test]
fn peers_that_leave_with_fin_leave_no_port_behind_on_either_side() {
    let relay = Relay::with_shards(2);
    let peers = bridged(&relay, 200);
    for peer in &peers {
        peer.shut_down();
    }
    // Their sockets still exist: the relay does not wait for anything more from them.
    relay.until_empty();
    assert_eq!(relay.sum(|shard| shard.stats.sessions_left), 200);
    drop(peers);
    relay.sockets.until_only(&["LISTEN"]);
    relay.end();
}

#[test]
fn ten_rounds_of_death_cost_no_slot() {
    let mut options = Options::shards(1);
    options.admission = AdmissionLimits::for_sockets(100);
    let relay = Relay::start(options);
    // Each round needs every slot of the table: one that leaked would keep the last peer out.
    for _ in 0..10 {
        for peer in bridged(&relay, 100) {
            peer.kill();
        }
        relay.until_empty();
    }
    relay.end();
}
