//! Latency histograms, whole: for programs that subtract one look from another.
//!
//! Here: the document of `/histograms`. Not here: recording (the shards), the buckets of `/metrics`.
//!
//! A histogram is a compressed `HdrHistogram` (version 2) in base64, as interval logs have it, so that any
//! tool that reads those reads this. It counts from the start of the relay; what lies between two looks is
//! their difference, exactly.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use serde::Serialize;

use super::ShardView;
use crate::services::route_setup::numbers::{Numbers, Phase};

/// Name and version of the document; fields may be added, none changes its meaning or leaves.
const SCHEMA: &str = "ringway-histograms/1";

/// The document.
#[derive(Debug, Serialize)]
pub(crate) struct Histograms {
    schema: &'static str,
    /// Unit of the values.
    unit: &'static str,
    /// From accept to an established session.
    handshake: Encoded,
    /// From an open request to its answer.
    open: Encoded,
    /// Route setup, phase by phase.
    #[serde(flatten)]
    setup: BTreeMap<&'static str, Encoded>,
}

#[derive(Debug, Serialize)]
struct Encoded {
    count: u64,
    /// Base64 of a compressed histogram; empty when it cannot be made.
    hdr: String,
}

impl Histograms {
    /// Returns the sums over all shards.
    pub(crate) fn of(shards: &[ShardView], setups: &Numbers) -> Self {
        let recorders = || shards.iter().map(|view| &view.recorder);
        Self {
            schema: SCHEMA,
            unit: "us",
            handshake: encode(recorders().filter_map(|recorder| recorder.handshake_us())),
            open: encode(recorders().filter_map(|recorder| recorder.open_us())),
            setup: Phase::ALL
                .into_iter()
                .map(|phase| (phase.name(), encode_one(setups.phase_us(phase).as_ref())))
                .collect(),
        }
    }
}

/// Returns the sum of the shards' histograms; none without a shard.
pub(crate) fn sum<'a>(parts: impl Iterator<Item = &'a Histogram<u32>>) -> Option<Histogram<u64>> {
    // Wide counts: those of several shards may not fit the narrow ones of one.
    let mut sum: Option<Histogram<u64>> = None;
    for part in parts {
        let sum = sum.get_or_insert_with(|| Histogram::new_from(part));
        for value in part.iter_recorded() {
            let count = u64::from(value.count_at_value());
            sum.saturating_record_n(value.value_iterated_to(), count);
        }
    }
    sum
}

fn encode<'a>(parts: impl Iterator<Item = &'a Histogram<u32>>) -> Encoded {
    encode_one(sum(parts).as_ref())
}

fn encode_one(times: Option<&Histogram<u64>>) -> Encoded {
    let mut bytes = Vec::new();
    let written = times.map(|times| V2DeflateSerializer::new().serialize(times, &mut bytes));
    if !matches!(written, Some(Ok(_))) {
        bytes.clear();
    }
    Encoded {
        count: times.map_or(0, Histogram::len),
        hdr: STANDARD.encode(bytes),
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::Deserializer;

    use super::*;

    #[test]
    fn the_shards_are_summed_and_can_be_read_back() {
        let mut part = Histogram::<u32>::new_with_bounds(1, 60_000_000, 3).unwrap();
        part.record_n(250, 3).unwrap();
        part.record(59_000_000).unwrap();
        let encoded = encode([&part, &part].into_iter());
        assert_eq!(encoded.count, 8);
        let bytes = STANDARD.decode(&encoded.hdr).unwrap();
        let read: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
        assert_eq!((read.len(), read.count_at(250)), (8, 6));
    }

    #[test]
    fn a_relay_without_shards_has_an_empty_document() {
        let document = serde_json::to_value(Histograms::of(&[], &Numbers::default())).unwrap();
        assert_eq!(document["open"]["count"], 0);
        assert_eq!(document["open"]["hdr"], "");
        let shards = [ShardView::quiet(0)];
        let quiet = Histograms::of(&shards, &Numbers::default());
        let quiet = serde_json::to_value(quiet).unwrap();
        assert_eq!(quiet["setup_reserve"]["count"], 0);
        assert_eq!(quiet["handshake"]["count"], 0);
        assert_ne!(quiet["handshake"]["hdr"], "");
    }
}
