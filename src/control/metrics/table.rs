//! The one table of what each shard counts, in the words of Prometheus.
//!
//! Here: name, help and source of each metric. Not here: how they are written (`metrics`).

use super::{Metric, Read};

pub(super) const METRICS: &[Metric] = &[
    Metric {
        name: "ringway_sockets_opened_total",
        help: "Sockets accepted or connected. sockets_opened = sockets_closed + sockets_current",
        read: Read::Counter(|s| s.sockets_opened),
    },
    Metric {
        name: "ringway_sockets_attached_total",
        help: "Sockets whose other end the relay has itself, for its services.",
        read: Read::Counter(|s| s.sockets_attached),
    },
    Metric {
        name: "ringway_own_sessions_opened_total",
        help: "Sessions of the relay with itself, for its services. own_sessions_opened = own_sessions_current + own_sessions_ended",
        read: Read::Counter(|s| s.own_sessions_opened),
    },
    Metric {
        name: "ringway_own_sessions_ended_total",
        help: "Sessions of the relay with itself that have ended.",
        read: Read::Counter(|s| s.own_sessions_ended),
    },
    Metric {
        name: "ringway_own_sessions_current",
        help: "Sessions of the relay with itself now: one for each shard while there are services.",
        read: Read::Gauge(|s| s.own_sessions_current),
    },
    Metric {
        name: "ringway_sockets_dialed_total",
        help: "Sockets that the relay connected, also when whoever asked had given up meanwhile.",
        read: Read::Counter(|s| s.sockets_dialed),
    },
    Metric {
        name: "ringway_sockets_closed_total",
        help: "Sockets whose close completed.",
        read: Read::Counter(|s| s.sockets_closed),
    },
    Metric {
        name: "ringway_sockets_current",
        help: "Sockets open now, those being closed included.",
        read: Read::Gauge(|s| s.sockets_current),
    },
    Metric {
        name: "ringway_handshakes_failed_total",
        help: "Handshakes that did not become a session. sockets_opened = handshakes_current + handshakes_abandoned + sum(handshakes_failed) + sessions_opened + own_sessions_opened + sockets_dialed",
        read: Read::CounterByReason(|s| &s.handshakes_failed),
    },
    Metric {
        name: "ringway_handshakes_shed_total",
        help: "Handshakes given up for newer ones because there were too many; they count among the failed.",
        read: Read::Counter(|s| s.handshakes_shed),
    },
    Metric {
        name: "ringway_handshakes_abandoned_total",
        help: "Connections that ended in the handshake without an error of the protocol.",
        read: Read::Counter(|s| s.handshakes_abandoned),
    },
    Metric {
        name: "ringway_handshakes_current",
        help: "Handshakes in progress now.",
        read: Read::Gauge(|s| s.handshakes_current),
    },
    Metric {
        name: "ringway_sessions_opened_total",
        help: "Handshakes that became sessions. sessions_opened = sessions_current + sessions_left + sessions_lost + sum(sessions_closed)",
        read: Read::Counter(|s| s.sessions_opened),
    },
    Metric {
        name: "ringway_sessions_left_total",
        help: "Sessions that the peer ended in good order.",
        read: Read::Counter(|s| s.sessions_left),
    },
    Metric {
        name: "ringway_sessions_lost_total",
        help: "Sessions whose connection broke.",
        read: Read::Counter(|s| s.sessions_lost),
    },
    Metric {
        name: "ringway_sessions_closed_total",
        help: "Sessions that the relay ended.",
        read: Read::CounterByReason(|s| &s.sessions_closed),
    },
    Metric {
        name: "ringway_sessions_current",
        help: "Sessions now.",
        read: Read::Gauge(|s| s.sessions_current),
    },
    Metric {
        name: "ringway_dialect_sessions_opened_total",
        help: "Handshakes that became sessions, by what the peer speaks.",
        read: Read::CounterByDialect(|s| s.sessions_opened),
    },
    Metric {
        name: "ringway_dialect_sessions_current",
        help: "Sessions now, by what the peer speaks. sessions_current = sum(dialect_sessions_current)",
        read: Read::GaugeByDialect(|s| s.sessions_current),
    },
    Metric {
        name: "ringway_dialect_opens_received_total",
        help: "Streams that peers opened, by what the opener speaks.",
        read: Read::CounterByDialect(|s| s.opens_received),
    },
    Metric {
        name: "ringway_dialect_opens_accepted_total",
        help: "Opens that became bridges or that the relay has answered itself, by what the opener speaks.",
        read: Read::CounterByDialect(|s| s.opens_accepted),
    },
    Metric {
        name: "ringway_stream_pings_answered_total",
        help: "Streams of the dmsg dialect whose first bytes asked for themselves; they count as accepted opens.",
        read: Read::Counter(|s| s.pings_answered),
    },
    Metric {
        name: "ringway_addresses_answered_total",
        help: "Peers of the dmsg dialect that asked for their own address; they count as accepted opens.",
        read: Read::Counter(|s| s.addresses_answered),
    },
    Metric {
        name: "ringway_streams_opened_total",
        help: "Stream legs opened, a bridge has two. streams_opened = streams_current + streams_closed",
        read: Read::Counter(|s| s.streams_opened),
    },
    Metric {
        name: "ringway_streams_closed_total",
        help: "Stream legs that ended.",
        read: Read::Counter(|s| s.streams_closed),
    },
    Metric {
        name: "ringway_streams_current",
        help: "Stream legs now.",
        read: Read::Gauge(|s| s.streams_current),
    },
    Metric {
        name: "ringway_streams_reset_total",
        help: "Stream legs that the relay reset.",
        read: Read::CounterByReason(|s| &s.streams_reset),
    },
    Metric {
        name: "ringway_opens_received_total",
        help: "Streams that peers opened towards peers. opens_received = opens_pending + \
               opens_accepted + sum(opens_refused) + opens_cancelled",
        read: Read::Counter(|s| s.opens_received),
    },
    Metric {
        name: "ringway_opens_pending_current",
        help: "Opens without an answer yet.",
        read: Read::Gauge(|s| s.opens_pending),
    },
    Metric {
        name: "ringway_opens_accepted_total",
        help: "Opens that became bridges.",
        read: Read::Counter(|s| s.opens_accepted),
    },
    Metric {
        name: "ringway_opens_refused_total",
        help: "Opens that the relay or the destination refused.",
        read: Read::CounterByReason(|s| &s.opens_refused),
    },
    Metric {
        name: "ringway_opens_cancelled_total",
        help: "Opens that the opener gave up, by reset or by dying.",
        read: Read::Counter(|s| s.opens_cancelled),
    },
    Metric {
        name: "ringway_frames_received_total",
        help: "Data and window frames taken from peers.",
        read: Read::Counter(|s| s.frames_received),
    },
    Metric {
        name: "ringway_received_bytes_total",
        help: "Bytes taken from sockets.",
        read: Read::Counter(|s| s.bytes_received),
    },
    Metric {
        name: "ringway_sent_bytes_total",
        help: "Bytes that the kernel took for sending.",
        read: Read::Counter(|s| s.bytes_sent),
    },
    Metric {
        name: "ringway_forwarded_bytes_total",
        help: "Stream payload forwarded between two legs, counted where it came in.",
        read: Read::Counter(|s| s.payload_bytes_forwarded),
    },
    Metric {
        name: "ringway_sends_completed_total",
        help: "Gather sends that completed.",
        read: Read::Counter(|s| s.sends_completed),
    },
    Metric {
        name: "ringway_sends_short_total",
        help: "Gather sends that the kernel ended short and that went on with the rest.",
        read: Read::Counter(|s| s.sends_short),
    },
    Metric {
        name: "ringway_reliefs_total",
        help: "Times that what waits was copied out of short receive memory.",
        read: Read::Counter(|s| s.reliefs),
    },
    Metric {
        name: "ringway_mailbox_messages_total",
        help: "Messages taken from other shards' mailboxes.",
        read: Read::Counter(|s| s.messages_received),
    },
    Metric {
        name: "ringway_dials_received_total",
        help: "Outbound connections asked for. dials_received = dials_pending + dials_connected + \
               sum(dials_refused) + sum(dials_failed)",
        read: Read::Counter(|s| s.dials_received),
    },
    Metric {
        name: "ringway_dials_pending_current",
        help: "Dials without an answer yet.",
        read: Read::Gauge(|s| s.dials_pending),
    },
    Metric {
        name: "ringway_dials_connected_total",
        help: "Dials that became connections. dials_connected = dialed_current + dialed_left + \
               dialed_lost + dialed_hung_up + sum(dialed_closed)",
        read: Read::Counter(|s| s.dials_connected),
    },
    Metric {
        name: "ringway_dials_refused_total",
        help: "Dials refused before anything was asked of the kernel.",
        read: Read::CounterByReason(|s| &s.dials_refused),
    },
    Metric {
        name: "ringway_dials_failed_total",
        help: "Dials that the kernel or the target did not carry out.",
        read: Read::CounterByReason(|s| &s.dials_failed),
    },
    Metric {
        name: "ringway_dial_ports_taken_total",
        help: "Ports of a dial that another program of the host had.",
        read: Read::Counter(|s| s.dial_ports_taken),
    },
    Metric {
        name: "ringway_dialed_current",
        help: "Connections now that the relay has dialed.",
        read: Read::Gauge(|s| s.dialed_current),
    },
    Metric {
        name: "ringway_dialed_left_total",
        help: "Dialed connections that the far side closed.",
        read: Read::Counter(|s| s.dialed_left),
    },
    Metric {
        name: "ringway_dialed_lost_total",
        help: "Dialed connections that broke.",
        read: Read::Counter(|s| s.dialed_lost),
    },
    Metric {
        name: "ringway_dialed_hung_up_total",
        help: "Dialed connections that were hung up.",
        read: Read::Counter(|s| s.dialed_hung_up),
    },
    Metric {
        name: "ringway_dialed_closed_total",
        help: "Dialed connections that the relay ended.",
        read: Read::CounterByReason(|s| &s.dialed_closed),
    },
    Metric {
        name: "ringway_links_opened_total",
        help: "Links with other relays that stood. links_opened = links_current + links_left + links_lost + \
               sum(links_closed)",
        read: Read::Counter(|s| s.links_opened),
    },
    Metric {
        name: "ringway_links_current",
        help: "Links with other relays.",
        read: Read::Gauge(|s| s.links_current),
    },
    Metric {
        name: "ringway_links_failed_total",
        help: "Attempts to make a link that came to nothing, each followed by a longer wait.",
        read: Read::CounterByReason(|s| &s.links_failed),
    },
    Metric {
        name: "ringway_links_left_total",
        help: "Links that the other relay closed.",
        read: Read::Counter(|s| s.links_left),
    },
    Metric {
        name: "ringway_links_lost_total",
        help: "Links that broke.",
        read: Read::Counter(|s| s.links_lost),
    },
    Metric {
        name: "ringway_links_closed_total",
        help: "Links that this relay ended.",
        read: Read::CounterByReason(|s| &s.links_closed),
    },
    Metric {
        name: "ringway_forwards_sent_total",
        help: "Relays asked for the destination of an open that has no session here.",
        read: Read::Counter(|s| s.forwards_sent),
    },
    Metric {
        name: "ringway_forwards_again_total",
        help: "Of these, second relays, after the first had refused or was gone.",
        read: Read::Counter(|s| s.forwards_again),
    },
    Metric {
        name: "ringway_forwards_spared_total",
        help: "Relays not asked, since they had said within 5 s that they do not have the destination.",
        read: Read::Counter(|s| s.forwards_spared),
    },
    Metric {
        name: "ringway_lookups_sent_total",
        help: "Questions to the registry which relay has a peer that no link has told of. lookups_sent = lookups_current + lookups_found + lookups_nowhere + lookups_unavailable",
        read: Read::Counter(|s| s.lookups_sent),
    },
    Metric {
        name: "ringway_lookups_current",
        help: "Questions that wait for the registry's answer.",
        read: Read::Gauge(|s| s.lookups_current),
    },
    Metric {
        name: "ringway_lookups_found_total",
        help: "Questions answered with a relay.",
        read: Read::Counter(|s| s.lookups_found),
    },
    Metric {
        name: "ringway_lookups_nowhere_total",
        help: "Questions about peers that the registry does not know.",
        read: Read::Counter(|s| s.lookups_nowhere),
    },
    Metric {
        name: "ringway_lookups_unavailable_total",
        help: "Questions without an answer: the registry is down or slow, or too many waited. Refused with 102.",
        read: Read::Counter(|s| s.lookups_unavailable),
    },
    Metric {
        name: "ringway_lookups_unlinked_total",
        help: "Answers with a relay that this one has no link with.",
        read: Read::Counter(|s| s.lookups_unlinked),
    },
    Metric {
        name: "ringway_forwards_received_total",
        help: "Opens that other relays have forwarded to this one.",
        read: Read::Counter(|s| s.forwards_received),
    },
    Metric {
        name: "ringway_peer_sets_sent_total",
        help: "Peer sets sent to other relays: who has a session here.",
        read: Read::Counter(|s| s.peer_sets_sent),
    },
    Metric {
        name: "ringway_peer_sets_received_total",
        help: "Peer sets that other relays have sent.",
        read: Read::Counter(|s| s.peer_sets_received),
    },
    Metric {
        name: "ringway_peer_sets_missed_total",
        help: "Gaps in the numbers of peer sets; the other relay was asked to begin anew.",
        read: Read::Counter(|s| s.peer_sets_missed),
    },
    Metric {
        name: "ringway_announced_current",
        help: "Peers of other relays that links have told of, each link counted.",
        read: Read::Gauge(|s| s.announced_current),
    },
    Metric {
        name: "ringway_announced_dropped_total",
        help: "Peers of other relays beyond what a link may tell of.",
        read: Read::Counter(|s| s.announced_dropped),
    },
    Metric {
        name: "ringway_local_ports_budget_current",
        help: "Local TCP ports the shard may use, over all source addresses.",
        read: Read::Gauge(|s| s.local_ports.total.into()),
    },
    Metric {
        name: "ringway_local_ports_current",
        help: "Local TCP ports in use.",
        read: Read::Gauge(|s| s.local_ports.in_use.into()),
    },
    Metric {
        name: "ringway_local_ports_high_water_current",
        help: "Most local TCP ports in use at once since the start, summed over the source addresses.",
        read: Read::Gauge(|s| s.local_ports.high_water.into()),
    },
    Metric {
        name: "ringway_local_ports_refused_total",
        help: "Requests for a local TCP port that found none at one source address.",
        read: Read::Counter(|s| s.local_ports.refused),
    },
    Metric {
        name: "ringway_local_ports_quarantined_current",
        help: "Local TCP ports that rest after their use, or that another program has.",
        read: Read::Gauge(|s| s.local_ports.quarantined.into()),
    },
    Metric {
        name: "ringway_virtual_ports_budget_current",
        help: "Ephemeral ports of the relay's own key that the shard may use.",
        read: Read::Gauge(|s| s.virtual_ports.total.into()),
    },
    Metric {
        name: "ringway_virtual_ports_current",
        help: "Ephemeral ports of the relay's own key in use.",
        read: Read::Gauge(|s| s.virtual_ports.in_use.into()),
    },
    Metric {
        name: "ringway_virtual_ports_high_water_current",
        help: "Most ephemeral ports of the relay's own key in use at once since the start.",
        read: Read::Gauge(|s| s.virtual_ports.high_water.into()),
    },
    Metric {
        name: "ringway_virtual_ports_refused_total",
        help: "Requests for an ephemeral port of the relay's own key that found none.",
        read: Read::Counter(|s| s.virtual_ports.refused),
    },
    Metric {
        name: "ringway_virtual_ports_quarantined_current",
        help: "Ephemeral ports of the relay's own key that rest after their use.",
        read: Read::Gauge(|s| s.virtual_ports.quarantined.into()),
    },
    Metric {
        name: "ringway_descriptors_opened_total",
        help: "Sockets that entered the ring's file table. descriptors_opened = descriptors_closed + \
               descriptors_current",
        read: Read::ShardCounter(|view| view.ring.sockets_opened),
    },
    Metric {
        name: "ringway_descriptors_closed_total",
        help: "Sockets that left the ring's file table.",
        read: Read::ShardCounter(|view| view.ring.sockets_closed),
    },
    Metric {
        name: "ringway_descriptors_current",
        help: "Slots of the ring's file table in use, counted apart from the two above.",
        read: Read::ShardGauge(|view| view.ring.sockets_current),
    },
    Metric {
        name: "ringway_connections_current",
        help: "Connections that the shards count for this one when they choose, those on their way to it \
               included.",
        read: Read::ShardGauge(|view| view.data.connections_current),
    },
    Metric {
        name: "ringway_handovers_started_total",
        help: "Connections that were to go to a shard with fewer. handovers_started = handovers + \
               handovers_failed + handovers_current",
        read: Read::ShardCounter(|view| view.ring.hand_overs_started),
    },
    Metric {
        name: "ringway_handovers_total",
        help: "Connections handed over to another shard.",
        read: Read::ShardCounter(|view| view.ring.hand_overs),
    },
    Metric {
        name: "ringway_zero_copy_sends_total",
        help: "Sends that went to the kernel without a copy of the relay's (`tcp.zero_copy`).",
        read: Read::ShardCounter(|view| view.ring.zero_copy_sends),
    },
    Metric {
        name: "ringway_zero_copy_copied_total",
        help: "Of these, sends that the kernel copied itself, since the way there cannot do without: when it is most of \
               them, switch it off.",
        read: Read::ShardCounter(|view| view.ring.zero_copy_copied),
    },
    Metric {
        name: "ringway_zero_copy_bytes_current",
        help: "Bytes of such sends that the kernel holds until they are acknowledged.",
        read: Read::ShardGauge(|view| view.ring.zero_copy_bytes_current),
    },
    Metric {
        name: "ringway_handovers_failed_total",
        help: "Connections that the other shard did not take; they stayed.",
        read: Read::ShardCounter(|view| view.ring.hand_overs_failed),
    },
    Metric {
        name: "ringway_handovers_current",
        help: "Connections on their way to another shard.",
        read: Read::ShardGauge(|view| view.ring.hand_overs_current),
    },
    Metric {
        name: "ringway_handovers_received_total",
        help: "Connections that other shards have handed over to this one.",
        read: Read::ShardCounter(|view| view.ring.hand_ins),
    },
    Metric {
        name: "ringway_sends_current",
        help: "Gather sends in flight.",
        read: Read::ShardGauge(|view| view.ring.sends_current),
    },
    Metric {
        name: "ringway_receive_blocks_current",
        help: "Blocks of receive memory, 256 KiB each.",
        read: Read::ShardGauge(|view| view.ring.buffers.blocks),
    },
    Metric {
        name: "ringway_receive_blocks_leased_current",
        help: "Blocks of receive memory of which bytes wait by reference, on whichever shard.",
        read: Read::ShardGauge(|view| view.ring.buffers.leased),
    },
    Metric {
        name: "ringway_receive_blocks_pinned_current",
        help: "Blocks that the kernel is done with and that were not lent to it again yet.",
        read: Read::ShardGauge(|view| view.ring.buffers.pinned),
    },
    Metric {
        name: "ringway_receives_starved_total",
        help: "Receives that ended for want of receive memory and were started again.",
        read: Read::ShardCounter(|view| view.ring.receives_starved),
    },
    Metric {
        name: "ringway_receives_starved_current",
        help: "Receives that wait for receive memory.",
        read: Read::ShardGauge(|view| view.ring.starved_current),
    },
    Metric {
        name: "ringway_completions_total",
        help: "Completions of the ring that were handled.",
        read: Read::ShardCounter(|view| view.ring.completions),
    },
    Metric {
        name: "ringway_completions_overflowed_total",
        help: "Completions that the kernel kept aside because its queue was full; none is lost.",
        read: Read::ShardCounter(|view| view.ring.completions_overflowed),
    },
    Metric {
        name: "ringway_completions_stale_total",
        help: "Completions of sockets that were gone.",
        read: Read::ShardCounter(|view| view.ring.completions_stale),
    },
    Metric {
        name: "ringway_closes_chased_total",
        help: "Closes whose operations had to be cancelled twice.",
        read: Read::ShardCounter(|view| view.ring.closes_chased),
    },
    Metric {
        name: "ringway_accepts_failed_total",
        help: "Accepts that the kernel failed.",
        read: Read::ShardCounter(|view| view.ring.accepts_failed),
    },
    Metric {
        name: "ringway_turns_total",
        help: "Turns of the data thread.",
        read: Read::ShardCounter(|view| view.data.turns),
    },
    Metric {
        name: "ringway_sleeps_total",
        help: "Turns that slept until something happened.",
        read: Read::ShardCounter(|view| view.data.sleeps),
    },
    Metric {
        name: "ringway_spins_hit_total",
        help: "Times polling found something before its end.",
        read: Read::ShardCounter(|view| view.data.spins_hit),
    },
    Metric {
        name: "ringway_spins_missed_total",
        help: "Times polling found nothing.",
        read: Read::ShardCounter(|view| view.data.spins_missed),
    },
    Metric {
        name: "ringway_jobs_stalled_total",
        help: "Handshake jobs that the data thread computed itself, since the service executor had finished none for \
               20 ms: the host has too few processors for what runs on it.",
        read: Read::ShardCounter(|view| view.data.jobs_stalled),
    },
    Metric {
        name: "ringway_trims_total",
        help: "Times a shard gave memory back, 10 s after its load had fallen under half of what it was.",
        read: Read::ShardCounter(|view| view.data.trims),
    },
    Metric {
        name: "ringway_wakes_sent_total",
        help: "Wake-ups sent to other shards.",
        read: Read::ShardCounter(|view| view.data.wakes_sent),
    },
    Metric {
        name: "ringway_wakes_received_total",
        help: "Wake-ups received.",
        read: Read::ShardCounter(|view| view.ring.wakes),
    },
    Metric {
        name: "ringway_mailbox_sent_total",
        help: "Messages sent to other shards.",
        read: Read::ShardCounter(|view| view.data.messages_sent),
    },
    Metric {
        name: "ringway_mailbox_depth_current",
        help: "Messages of other shards that wait in this shard's mailboxes.",
        read: Read::ShardGauge(|view| view.data.mailbox_current),
    },
    Metric {
        name: "ringway_outbox_messages_current",
        help: "Messages that wait because another shard's mailbox is full.",
        read: Read::ShardGauge(|view| view.data.outbox_current),
    },
    Metric {
        name: "ringway_jobs_current",
        help: "Steps of handshakes that the service executor has or waits for.",
        read: Read::ShardGauge(|view| view.data.jobs_current),
    },
];
