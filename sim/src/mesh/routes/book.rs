//! The book of route setups: what was asked, what hops hold, and what must be true of both.
//!
//! Here: setups with the trouble that each hop had during them, the tables of the hops, the checks. Not
//! here: who asks (`peer`), what the service does (`service`).
//!
//! Invariant: a hop holds an id until it is released or its time has come; the rule of a route that its
//! asker uses is never forgotten.

use std::collections::{BTreeMap, BTreeSet};

use ringway_proto::key::PublicKey;
use ringway_proto::limits::{ROUTE_RESERVE_TIME, ROUTE_SETUP_TIMEOUT};
use ringway_proto::reason::Reason;
use ringway_proto::route::group_setup::UNDO_TIME;
use ringway_proto::route::{Refusal, RouteId, Rule, RuleKind, SetUp, SetupReply};

use crate::limits::nanos;
use crate::options::{MS, SECOND};

/// What a hop has met or done during a setup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    /// Its process has died, and its table with it.
    Died,
    /// It has no session, or had none a moment ago; or it does not take the stream.
    Gone,
    /// It answers later than it is waited for.
    Late,
    /// It says what is not so.
    Lied,
    Refused,
    Silent,
}

/// One setup that a peer asks for.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts of the book"
)]
pub(super) struct Setup {
    /// Who asks.
    pub(super) identity: usize,
    pub(super) source: PublicKey,
    pub(super) request: SetUp,
    /// Session and stream that it was asked over.
    pub(super) asked: Option<(usize, u32)>,
    /// Replies that the asker has got.
    pub(super) answers: u32,
    /// The stream ended before the answer.
    pub(super) is_asker_gone: bool,
    /// The service has got it.
    pub(super) is_taken: bool,
    /// The service has ended with it.
    pub(super) over_at: Option<u64>,
    /// It lay in the queue.
    pub(super) has_waited: bool,
    /// The queue was full.
    pub(super) is_full: bool,
    /// The service lost its session, or the relay drained.
    pub(super) is_hurt: bool,
    /// The asker sends packets over it.
    pub(super) is_used: bool,
    pub(super) reply: Option<SetupReply>,
    pub(super) troubles: BTreeSet<(usize, Trouble)>,
}

/// An id that a hop holds.
#[derive(Debug)]
pub(super) struct Held {
    /// The setup that it was reserved for.
    pub(super) setup: usize,
    pub(super) rule: Option<Rule>,
    pub(super) until: u64,
}

/// One peer as a hop.
#[derive(Debug, Default)]
pub(super) struct Hop {
    pub(super) ids: BTreeMap<RouteId, Held>,
    next_id: u32,
    /// It has a session that stands.
    pub(super) is_there: bool,
    /// Until when what it does may be seen late.
    pub(super) troubled_until: u64,
}

/// All there is to know of setups.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) setups: Vec<Setup>,
    pub(super) hops: Vec<Hop>,
    pub(super) keys: Vec<PublicKey>,
    /// Setups that the service's questions belong to, by number of the question.
    asks: Vec<usize>,
    /// The first thing that is wrong.
    pub(super) failure: Option<String>,
}

/// How long a change of a hop's session may be noticed late: turns, mail, wires.
pub(super) const GRACE_NS: u64 = 4 * SECOND;

impl Book {
    pub(super) fn new(keys: Vec<PublicKey>) -> Self {
        let hops = keys.iter().map(|_| Hop::default()).collect();
        Self {
            hops,
            keys,
            ..Self::default()
        }
    }

    /// Notes a setup that will be asked for; returns its number.
    pub(super) fn add(&mut self, identity: usize, source: PublicKey, request: SetUp) -> usize {
        self.setups.push(Setup {
            identity,
            source,
            request,
            asked: None,
            answers: 0,
            is_asker_gone: false,
            is_taken: false,
            over_at: None,
            has_waited: false,
            is_full: false,
            is_hurt: false,
            is_used: false,
            reply: None,
            troubles: BTreeSet::new(),
        });
        self.setups.len() - 1
    }

    pub(super) fn fail(&mut self, sentence: String) {
        self.failure.get_or_insert(sentence);
    }

    pub(super) fn find(&self, key: &PublicKey) -> Option<usize> {
        self.keys.iter().position(|other| other == key)
    }

    /// Returns a number for a question of the service.
    pub(super) fn ask(&mut self, setup: usize) -> u32 {
        self.asks.push(setup);
        u32::try_from(self.asks.len() - 1).unwrap_or(u32::MAX)
    }

    /// Returns the setup of a question.
    pub(super) fn asked_by(&self, number: u32) -> Option<usize> {
        self.asks.get(usize::try_from(number).ok()?).copied()
    }

    /// A setup is asked for now: hops that are in trouble already are noted.
    pub(super) fn send(&mut self, number: usize, asked: (usize, u32), now: u64) {
        let setup = &mut self.setups[number];
        setup.asked = Some(asked);
        for (identity, hop) in self.hops.iter().enumerate() {
            if !hop.is_there || now < hop.troubled_until {
                setup.troubles.insert((identity, Trouble::Gone));
            }
        }
    }

    /// A hop has trouble in one setup.
    pub(super) fn note(&mut self, setup: usize, hop: usize, trouble: Trouble) {
        self.setups[setup].troubles.insert((hop, trouble));
    }

    /// A hop has trouble that all setups may meet.
    pub(super) fn trouble(&mut self, hop: usize, trouble: Trouble, until: u64) {
        self.hops[hop].troubled_until = self.hops[hop].troubled_until.max(until);
        for setup in self.setups.iter_mut().filter(|setup| setup.asked.is_some()) {
            setup.troubles.insert((hop, trouble));
        }
    }

    /// What the service does for a setup is lost: no hop may have heard of it.
    pub(super) fn hurt(&mut self, setup: usize) {
        let setup = &mut self.setups[setup];
        setup.is_hurt = true;
        let hops = 0..self.hops.len();
        setup.troubles.extend(hops.map(|hop| (hop, Trouble::Gone)));
    }

    /// A process dies: its table is lost.
    pub(super) fn die(&mut self, hop: usize, now: u64) {
        self.hops[hop].ids.clear();
        for setup in &mut self.setups {
            if setup.identity == hop {
                setup.is_used = false;
            }
        }
        self.trouble(hop, Trouble::Died, now + GRACE_NS);
    }

    /// A stream to the relay has ended; returns the setups that have no answer.
    pub(super) fn asker_gone(&mut self, asked: (usize, u32)) -> usize {
        let mut count = 0;
        for setup in &mut self.setups {
            if setup.asked == Some(asked) && setup.answers == 0 {
                setup.is_asker_gone = true;
                count += 1;
            }
        }
        count
    }

    /// Returns how many answers a stream waits for.
    pub(super) fn unanswered(&self, asked: (usize, u32)) -> usize {
        let is_open = |setup: &&Setup| setup.asked == Some(asked) && setup.answers == 0;
        self.setups.iter().filter(is_open).count()
    }

    /// The service has ended with a setup.
    pub(super) fn over(&mut self, number: usize, reply: SetupReply, began: u64, now: u64) {
        let setup = &mut self.setups[number];
        let bound = nanos(ROUTE_SETUP_TIMEOUT + 2 * UNDO_TIME) + 10 * MS;
        // Taking back what nobody waits for counts anew.
        if setup.over_at.is_none() && now - began > bound {
            let took = (now - began) / MS;
            return self.fail(format!("setup {number} took {took} ms"));
        }
        let is_refused = matches!(reply, SetupReply::Refused(_));
        setup.over_at = Some(now);
        setup.reply = Some(reply);
        let wrong = if is_refused {
            self.left(number, now)
        } else {
            self.walk(number, now).err()
        };
        if let Some(wrong) = wrong {
            self.fail(format!("setup {number}: {wrong}"));
        }
    }

    /// Returns what a hop still holds of a setup that was refused, unless the hop had trouble.
    fn left(&mut self, number: usize, now: u64) -> Option<String> {
        self.forget(now);
        let troubles = &self.setups[number].troubles;
        let mut hops = self.hops.iter().enumerate();
        let (identity, _) = hops.find(|(identity, hop)| {
            !troubles.iter().any(|(other, _)| other == identity)
                && hop.ids.values().any(|held| held.setup == number)
        })?;
        Some(format!("was refused, and hop {identity} holds ids of it"))
    }

    /// Follows the ids of a setup to the destination and back, as far as nobody lost or faked rules.
    pub(super) fn walk(&mut self, number: usize, now: u64) -> Result<(), String> {
        self.forget(now);
        let setup = &self.setups[number];
        let Some(SetupReply::SetUp { forward_id, .. }) = setup.reply else {
            return Err("has no routes to follow".into());
        };
        let SetUp {
            destination,
            forward,
            reverse,
            reverse_id,
            ..
        } = &setup.request;
        // There and back, from the asker to the asker.
        let round: Vec<PublicKey> = forward
            .iter()
            .chain(reverse.iter().skip(1))
            .copied()
            .collect();
        let mut id = forward_id;
        for hops in round.windows(3) {
            let [previous, at, next] = hops else { continue };
            let Some(hop) = self.find(at) else {
                return Err(format!("goes over {at}, which is no peer"));
            };
            let has = |trouble| setup.troubles.contains(&(hop, trouble));
            if has(Trouble::Died) || has(Trouble::Lied) {
                return Ok(());
            }
            let held = self.hops[hop].ids.get(&id);
            let Some(rule) = held.and_then(|held| held.rule.as_ref()) else {
                return Err(format!("stands, and hop {hop} has no rule for id {id}"));
            };
            let is_end = matches!(rule.kind, RuleKind::Destination { .. });
            let (to, next_id) = rule.kind.next();
            if rule.previous != *previous || to != *next || is_end != (at == destination) {
                return Err(format!("stands, and hop {hop} has a wrong rule: {rule:?}"));
            }
            id = next_id;
        }
        if id == *reverse_id {
            Ok(())
        } else {
            Err(format!("stands, and comes back as {id}"))
        }
    }

    /// The asker gets an answer.
    pub(super) fn answered(&mut self, number: usize, reply: &SetupReply, now: u64) {
        let setup = &mut self.setups[number];
        setup.answers += 1;
        let wrong = if setup.answers > 1 {
            Some("was answered twice".to_owned())
        } else {
            match reply {
                SetupReply::Refused(refusal) => self.excuse(number, refusal).err(),
                SetupReply::SetUp { keep_alive_ms, .. } => {
                    if setup.reply.as_ref() != Some(reply) {
                        return self.fail(format!("setup {number}: another answer came"));
                    }
                    // Who hears of it in time uses it.
                    let rest = u64::from(*keep_alive_ms) * MS;
                    let setup_ns = nanos(ROUTE_SETUP_TIMEOUT);
                    let is_late = setup.over_at.is_none_or(|at| now + setup_ns > at + rest);
                    setup.is_used = !is_late;
                    if is_late {
                        None
                    } else {
                        self.walk(number, now).err()
                    }
                }
                other => Some(format!("was answered {other:?}")),
            }
        };
        if let Some(wrong) = wrong {
            self.fail(format!("setup {number} {wrong}"));
        }
    }

    /// Checks that a refusal has its reason.
    fn excuse(&self, number: usize, refusal: &Refusal) -> Result<(), String> {
        let setup = &self.setups[number];
        let hop = refusal.hop.and_then(|key| self.find(&key));
        let has = |troubles: &[Trouble]| {
            hop.is_some_and(|hop| {
                troubles
                    .iter()
                    .any(|trouble| setup.troubles.contains(&(hop, *trouble)))
            })
        };
        let is_right = match refusal.reason() {
            Some(Reason::BadRoute) => setup.request.check(&setup.source).is_err(),
            Some(Reason::HopRefused) => has(&[Trouble::Lied, Trouble::Refused]),
            Some(Reason::HopUnreachable) => {
                setup.is_hurt || has(&[Trouble::Died, Trouble::Gone, Trouble::Lied])
            }
            Some(Reason::RouteBusy) => setup.is_full,
            Some(Reason::RouteTimeout) => {
                let mut path = setup.request.forward.iter().chain(&setup.request.reverse);
                let has_trouble = |key: &PublicKey| {
                    let hop = self.find(key);
                    let mut all = setup.troubles.iter();
                    all.any(|(other, _)| Some(*other) == hop)
                };
                setup.is_hurt || setup.has_waited || path.any(has_trouble)
            }
            _ => false,
        };
        if is_right {
            return Ok(());
        }
        let troubles = &setup.troubles;
        Err(format!(
            "was refused for no reason: {refusal}, {troubles:?}"
        ))
    }

    /// Hops forget what nobody has used in time.
    pub(super) fn forget(&mut self, now: u64) {
        let setups = &self.setups;
        for hop in &mut self.hops {
            hop.ids.retain(|_, held| {
                now < held.until || (held.rule.is_some() && setups[held.setup].is_used)
            });
        }
    }

    /// When faults have stopped and time has passed: all are answered, and only routes in use are left.
    pub(super) fn check_rest(&mut self, now: u64) {
        for number in 0..self.setups.len() {
            let setup = &self.setups[number];
            if setup.asked.is_none() {
                continue;
            }
            if setup.answers == 0 && !setup.is_asker_gone {
                return self.fail(format!("setup {number} was never answered"));
            }
            if setup.is_taken && setup.over_at.is_none() {
                return self.fail(format!("setup {number} never ended"));
            }
            if setup.is_used
                && let Err(wrong) = self.walk(number, now)
            {
                return self.fail(format!("setup {number} {wrong}"));
            }
        }
        self.forget(now);
        for (identity, hop) in self.hops.iter().enumerate() {
            let stale = hop
                .ids
                .values()
                .find(|held| !self.setups[held.setup].is_used);
            if let Some(held) = stale {
                let number = held.setup;
                self.failure.get_or_insert_with(|| {
                    format!("setup {number} is not in use, and hop {identity} holds ids of it")
                });
            }
        }
    }
}

impl Hop {
    /// Reserves ids for a setup.
    pub(super) fn reserve(&mut self, setup: usize, count: u8, now: u64) -> Vec<RouteId> {
        let ids = (0..count).map(|_| {
            self.next_id += 1;
            let held = Held {
                setup,
                rule: None,
                until: now + nanos(ROUTE_RESERVE_TIME),
            };
            self.ids.insert(RouteId(self.next_id), held);
            RouteId(self.next_id)
        });
        ids.collect()
    }

    /// Gives reserved ids their rules, all or none; returns whether it could.
    pub(super) fn add_rules(&mut self, rules: Vec<Rule>, now: u64) -> bool {
        let is_free = |rule: &Rule| {
            self.ids
                .get(&rule.id)
                .is_some_and(|held| held.rule.is_none())
        };
        if !rules.iter().all(is_free) {
            return false;
        }
        for rule in rules {
            if let Some(held) = self.ids.get_mut(&rule.id) {
                held.until = now + u64::from(rule.keep_alive_ms) * MS;
                held.rule = Some(rule);
            }
        }
        true
    }
}
