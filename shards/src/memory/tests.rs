//! The sums against the settings and structs they speak of.

use super::*;
use crate::ring::RingConfig;

#[test]
fn idle_session_fits_in_its_bound_and_every_term_counts() {
    let terms = idle_session();
    for term in &terms {
        assert!(term.bytes() > 0, "{term:?} is no cost");
        println!("{:>6} {} ({})", term.bytes(), term.name, term.holder);
    }
    let total = sum(&terms);
    println!("{total:>6} of {IDLE_SESSION_BYTES_MAX}");
    assert!(total <= IDLE_SESSION_BYTES_MAX);
}

#[test]
fn sums_are_the_sums_of_their_terms() {
    let bounds = Bounds::of_one_shard(1_000);
    for terms in [
        idle_session().to_vec(),
        session(&bounds).to_vec(),
        shard(&bounds).to_vec(),
        process(&bounds).to_vec(),
        kernel(&bounds).to_vec(),
    ] {
        let by_hand: u64 = terms.iter().map(|term| term.count * term.each_bytes).sum();
        assert_eq!(sum(&terms), by_hand);
    }
}

#[test]
fn each_setting_moves_the_sum_that_it_bounds() {
    let bounds = Bounds::of_one_shard(1_000);
    let total = |bounds: &Bounds| sum(&process(bounds));
    let mut more = bounds;
    more.shard_queue_bytes_max += 1 << 20;
    assert!(total(&more) >= total(&bounds) + (1 << 20));
    let mut more = bounds;
    more.receive_bytes_max += 1 << 20;
    assert_eq!(total(&more), total(&bounds) + (1 << 20));
    let mut more = bounds;
    more.handshakes_max += 1;
    assert_eq!(total(&more), total(&bounds) + HANDSHAKE_BYTES);
    let mut more = bounds;
    more.dials_max += 1;
    assert_eq!(total(&more), total(&bounds) + DIAL_BYTES);
    let mut more = bounds;
    more.sessions_max += 1;
    assert!(total(&more) > total(&bounds) + sum(&idle_session()));
    let mut more = bounds;
    more.shards = 3;
    assert!(total(&more) > 3 * total(&bounds), "mailboxes come on top");
    let mut more = bounds;
    more.session_queue_bytes_max += 1 << 20;
    assert!(sum(&session(&more)) >= sum(&session(&bounds)) + (1 << 20));
    let mut more = bounds;
    more.streams_max *= 2;
    assert!(sum(&session(&more)) > sum(&session(&bounds)));
    let mut more = bounds;
    more.shard_streams_max *= 2;
    assert!(total(&more) > total(&bounds));
}

#[test]
fn sums_know_the_blocks_of_the_ring() {
    let ring = RingConfig::default();
    let block = u64::from(ring.block_bytes);
    assert_eq!(u64::from(ring.blocks) * block, RECEIVE_REST_BYTES);
    let default = Bounds::of_one_shard(1).receive_bytes_max;
    assert_eq!(u64::from(ring.blocks_max) * block, default);
}

#[test]
fn huge_settings_saturate() {
    let bounds = Bounds {
        shards: u64::MAX,
        sessions_max: u64::MAX,
        ..Bounds::of_one_shard(1)
    };
    assert_eq!(sum(&process(&bounds)), u64::MAX);
}

#[test]
fn memory_of_a_host_is_shared_by_its_shards() {
    let one = sessions_in(16 << 30, 1);
    let four = sessions_in(16 << 30, 4);
    assert!(four < one / 4 && four > one / 5);
    assert_eq!(sessions_in(0, 1), 0);
    assert_eq!(sessions_in(16 << 30, 0), one);
    let each = sum(&idle_session()) + KERNEL_SOCKET_BYTES + KERNEL_SLOT_BYTES;
    assert!(one * each <= 16 << 30 && (one + 1) * each + (16 << 20) > 16 << 30);
}

#[test]
fn allocator_classes_waste_a_quarter_at_most() {
    for bytes in 1..20_000 {
        let taken = heap(bytes);
        assert!(taken >= widen(bytes));
        assert!(
            taken <= widen(bytes + bytes / 4).max(widen(bytes) + 15),
            "{bytes}: {taken}"
        );
    }
    assert_eq!(
        [heap(1), heap(128), heap(129), heap(300)],
        [16, 128, 160, 320]
    );
}
