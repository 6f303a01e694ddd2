//! Which processor core a thread runs on.
//!
//! Here: the choice of cores for shards, and pinning. Not here: priorities (`service`).

use rustix::thread::CpuSet;

/// Returns the core of each shard: of the cores this process may use, one each, or none for all when
/// there are fewer cores than shards, because two data threads pinned to one core would stand in each
/// other's way while another core idles.
pub(crate) fn cores(wanted: &[usize], shards_count: usize) -> Vec<Option<usize>> {
    let allowed = allowed();
    let chosen: Vec<_> = if wanted.is_empty() {
        allowed
    } else {
        wanted.to_vec()
    };
    if chosen.len() < shards_count {
        tracing::warn!(
            cores = chosen.len(),
            shards = shards_count,
            "fewer cores than shards: shards are not pinned"
        );
        return vec![None; shards_count];
    }
    chosen.into_iter().take(shards_count).map(Some).collect()
}

/// Pins the calling thread. Failure costs speed, not correctness: a warning.
pub(crate) fn pin(core: Option<usize>) {
    let Some(core) = core else { return };
    let mut set = CpuSet::new();
    if core >= CpuSet::MAX_CPU {
        tracing::warn!(core, "no such core: thread is not pinned");
        return;
    }
    set.set(core);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!(core, %error, "thread is not pinned");
    }
}

/// Returns the cores this process may use.
fn allowed() -> Vec<usize> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU)
            .filter(|core| set.is_set(*core))
            .collect(),
        Err(error) => {
            tracing::warn!(%error, "cores of this process are unknown");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shard_gets_a_core_of_its_own_or_none_is_pinned() {
        assert_eq!(cores(&[4, 2, 7], 2), [Some(4), Some(2)]);
        assert_eq!(cores(&[4], 2), [None, None]);
        let all = allowed();
        assert_eq!(cores(&[], 1), [all.first().copied()]);
    }
}
