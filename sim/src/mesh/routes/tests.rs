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
        (Fault::KeepsSlots, "slots, or is busy"),
        (Fault::KeepsStreams, "slots, or is busy"),
        (Fault::Mute, "was never answered"),
    ] {
        let failure = first_failure(fault);
        assert!(failure.contains(sentence), "{fault:?}: {failure}");
    }
}
