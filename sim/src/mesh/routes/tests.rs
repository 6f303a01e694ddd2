//! Services that are wrong on purpose, each found by a check.
//!
//! Here: that the checks bite. Not here: that the right service passes (`sim/tests/routes.rs`).

use super::*;

/// Runs seeds with a service that is wrong on purpose; returns what the first failure says.
fn first_failure(fault: Fault) -> String {
    (0..20)
        .find_map(|seed| run_with(seed, false, Some(fault)).failure)
        .unwrap_or_default()
}

#[test]
fn each_wrong_service_is_found() {
    for (fault, sentence) in [
        (Fault::AnswersTwice, "was answered twice"),
        (Fault::ForgetsRelease, "was refused, and hop"),
        (Fault::ForgetsRules, "has no rule for id"),
        (Fault::KeepsSlots, "questions was lost"),
        (Fault::KeepsStreams, "slots, or is busy"),
        (Fault::Mute, "questions was lost"),
    ] {
        let failure = first_failure(fault);
        assert!(failure.contains(sentence), "{fault:?}: {failure}");
    }
}
