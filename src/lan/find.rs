//! A client finds the relays of its network.
//!
//! Here: the search: addresses from before at once, announcements meanwhile, and who is used. Not here: what
//! an announcement must say (`answer`), the file (`memory`).
//!
//! | known before | who is tried | when nobody of these is there |
//! |---|---|---|
//! | a key was named | that key | an error |
//! | some relays | these | whoever else has answered, with a line on standard error |
//! | nobody | whoever answers, with a line on standard error | an error |
//!
//! Invariant: a relay is used, and remembered, only after it has proven its key in a handshake.
//! Bound: `TRIALS_MAX` handshakes, `STRANGERS_MAX` others in mind, `RELAYS_MAX` relays used.

use std::path::PathBuf;
use std::time::Duration;

use mdns_sd::{Receiver, ServiceDaemon, ServiceEvent};
use ringway_client::{Client, Config, PublicKey, RelayAddress, SecretKey};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::SERVICE;
use super::answer::Answer;
use super::interface::Network;
use super::memory::Memory;
use crate::failure::Failure;
use crate::key_file;
use crate::output::complain;

/// What is looked for, and where.
#[derive(Debug)]
pub(crate) struct Search {
    /// The interface; `None` leaves the choice to the program.
    pub(crate) interface: Option<String>,
    /// The key that the relay must have.
    pub(crate) key: Option<PublicKey>,
    /// The directory that keeps what was found.
    pub(crate) state: PathBuf,
}

impl Search {
    /// Returns the relays to use, those used before first, and remembers them.
    ///
    /// # Errors
    ///
    /// [`Failure`] when there is no network, no relay, or a file that cannot be read or written.
    pub(crate) async fn run(&self) -> Result<Vec<RelayAddress>, Failure> {
        let network = Network::of_host(self.interface.as_deref())?;
        let mut memory = Memory::read(&self.state)?;
        let known = memory.relays().to_vec();
        let trusted = match self.key {
            Some(key) => vec![key],
            None => known.iter().map(|relay| relay.key).collect(),
        };
        let is_first = trusted.is_empty();
        let mut hunt = Hunt::new((!is_first).then_some(trusted));
        let browser = Browser::start(&network)?;
        for relay in known.iter().filter(|one| network.holds(one.socket.ip())) {
            hunt.consider(*relay);
        }
        hunt.go(&browser, &network, BROWSE_TIMEOUT).await;
        let mut is_new = is_first;
        if hunt.proven.is_empty() && !is_first && self.key.is_none() {
            is_new = hunt.trust_anyone();
            hunt.go(&browser, &network, PROOF_TIMEOUT).await;
        }
        let mut found = hunt.proven;
        let rank = |relay: &RelayAddress| known.iter().position(|one| one.key == relay.key);
        found.sort_by_key(|relay| (rank(relay).unwrap_or(usize::MAX), relay.key.to_string()));
        if found.is_empty() {
            return Err(self.nobody(&network));
        }
        if is_new {
            tell(&found, &known);
        }
        memory.remember(&found)?;
        Ok(found)
    }

    fn nobody(&self, network: &Network) -> Failure {
        let who = match self.key {
            Some(key) => format!("the relay {key} does not answer"),
            None => "no relay answers".to_owned(),
        };
        Failure::Check(format!(
            "{who} on {}: start one in this network with `ringway serve --lan`, let multicast to UDP port \
             5353 through, choose another interface with --lan-interface NAME, or name the relay with \
             --relay KEY@HOST:PORT",
            network.name
        ))
    }
}

/// Says whom the program has begun to trust.
fn tell(found: &[RelayAddress], known: &[RelayAddress]) {
    let why = match known.first() {
        Some(known) => format!("the relay used before, {known}, does not answer"),
        None => "no relay has been used before".to_owned(),
    };
    for relay in found {
        complain(format_args!(
            "ringway: {why}: {relay} is trusted from now on, because it answers; name the one you mean with \
             --lan-key {}",
            relay.key
        ));
    }
}

/// Who was tried, and who is there.
#[derive(Debug)]
struct Hunt {
    /// Who may be tried; `None` is everybody.
    trusted: Option<Vec<PublicKey>>,
    /// Whose proof is awaited.
    tried: Vec<RelayAddress>,
    trials: usize,
    strangers: Vec<RelayAddress>,
    proofs: JoinSet<(RelayAddress, bool)>,
    proven: Vec<RelayAddress>,
}

impl Hunt {
    fn new(trusted: Option<Vec<PublicKey>>) -> Self {
        Self {
            trusted,
            tried: Vec::new(),
            trials: 0,
            strangers: Vec::new(),
            proofs: JoinSet::new(),
            proven: Vec::new(),
        }
    }

    /// Asks for proof where the relay may be tried, and keeps it in mind where not.
    fn consider(&mut self, relay: RelayAddress) {
        let is_trusted = match &self.trusted {
            Some(keys) => keys.contains(&relay.key),
            None => true,
        };
        if !is_trusted {
            if self.strangers.len() < STRANGERS_MAX && !self.strangers.contains(&relay) {
                self.strangers.push(relay);
            }
            return;
        }
        let is_there = self.proven.iter().any(|one| one.key == relay.key);
        if is_there || self.tried.contains(&relay) || self.trials >= TRIALS_MAX {
            return;
        }
        self.trials += 1;
        self.tried.push(relay);
        self.proofs
            .spawn(async move { (relay, prove(relay).await) });
    }

    /// Lets those be tried that have been kept in mind; returns whether there are any.
    fn trust_anyone(&mut self) -> bool {
        self.trusted = None;
        let strangers = std::mem::take(&mut self.strangers);
        for relay in &strangers {
            self.consider(*relay);
        }
        !strangers.is_empty()
    }

    /// Listens and collects proofs, at most for so long; a little after the first proof it ends.
    async fn go(&mut self, browser: &Browser, network: &Network, longest: Duration) {
        let mut until = Instant::now() + longest;
        let mut is_open = true;
        while !self.is_complete() {
            tokio::select! {
                event = browser.events.recv_async(), if is_open => match event {
                    Ok(event) => self.hear(&event, network),
                    Err(_) => is_open = false,
                },
                Some(proof) = self.proofs.join_next(), if !self.proofs.is_empty() => {
                    if proof.is_ok_and(|proof| self.judge(proof)) {
                        until = until.min(Instant::now() + SETTLE);
                    }
                }
                () = sleep_until(until) => return,
            }
        }
    }

    fn hear(&mut self, event: &ServiceEvent, network: &Network) {
        let ServiceEvent::ServiceResolved(service) = event else {
            return;
        };
        match Answer::of(service).relays(network) {
            Ok(relays) => relays.into_iter().for_each(|relay| self.consider(relay)),
            Err(why) => tracing::debug!(name = ?service.fullname, why, "announcement skipped"),
        }
    }

    /// Takes a relay that has proven its key; one that has not may try again when it is announced anew.
    fn judge(&mut self, (relay, is_proven): (RelayAddress, bool)) -> bool {
        self.tried.retain(|one| *one != relay);
        let is_new = self.proven.iter().all(|one| one.key != relay.key);
        if is_proven && is_new && self.proven.len() < RELAYS_MAX {
            self.proven.push(relay);
        }
        is_proven
    }

    /// Returns whether nobody else can come who would be used.
    fn is_complete(&self) -> bool {
        let is_there = |key: &PublicKey| self.proven.iter().any(|relay| relay.key == *key);
        let has_all = self
            .trusted
            .as_ref()
            .is_some_and(|keys| keys.iter().all(is_there));
        has_all || self.proven.len() >= RELAYS_MAX
    }
}

/// Returns whether the relay is there and has the key.
async fn prove(relay: RelayAddress) -> bool {
    // A key of its own: the party's own session is made later and once.
    let Ok(secret) = key_file::generate::<SecretKey>() else {
        return false;
    };
    let config = Config {
        answer_ping: false,
        ..Config::new([relay])
    };
    match timeout(PROOF_TIMEOUT, Client::connect(secret, config)).await {
        Ok(Ok(client)) => {
            // The proof counts, however the goodbye goes.
            drop(timeout(PROOF_TIMEOUT, client.close()).await);
            true
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, %relay, "no proof");
            false
        }
        Err(_) => false,
    }
}

/// Asks the network for relays until it is dropped.
struct Browser {
    daemon: ServiceDaemon,
    events: Receiver<ServiceEvent>,
}

impl Browser {
    fn start(network: &Network) -> Result<Self, Failure> {
        let daemon = super::daemon(network)?;
        let events = daemon
            .browse(SERVICE)
            .map_err(|error| Failure::host("cannot look for relays", error))?;
        Ok(Self { daemon, events })
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Err(error) = self.daemon.shutdown() {
            tracing::debug!(%error, "the search was not ended");
        }
    }
}

/// Longest search.
const BROWSE_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest wait for one relay's proof: on the own network it takes milliseconds.
const PROOF_TIMEOUT: Duration = Duration::from_secs(2);

/// Wait for further relays after the first: answers come within 120 ms (RFC 6762 section 6).
const SETTLE: Duration = Duration::from_millis(500);

/// Relays used: each costs a session.
const RELAYS_MAX: usize = 4;

/// Handshakes of one search: more than a network has relays.
const TRIALS_MAX: usize = 64;

/// Relays that answer and are not trusted, kept in mind for the case that no other is there.
const STRANGERS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(number: u8, port: u16) -> RelayAddress {
        // Nobody listens on ports this low of loopback; no proof is waited for here.
        RelayAddress::new(
            PublicKey::native([number; 32]),
            ([127, 0, 0, 1], port).into(),
        )
    }

    #[tokio::test]
    async fn strangers_are_not_tried_before_they_are_trusted() {
        let mut hunt = Hunt::new(Some(vec![relay(1, 1).key]));
        hunt.consider(relay(2, 1));
        hunt.consider(relay(2, 1));
        assert_eq!((hunt.trials, hunt.strangers.len()), (0, 1));
        hunt.consider(relay(1, 1));
        assert_eq!(hunt.tried, [relay(1, 1)]);
        assert!(hunt.trust_anyone());
        assert_eq!(hunt.tried, [relay(1, 1), relay(2, 1)]);
    }

    #[tokio::test]
    async fn flood_of_announcements_is_bounded() {
        let mut hunt = Hunt::new(None);
        for port in 1..1_000 {
            hunt.consider(relay(1, port));
        }
        assert_eq!(hunt.trials, TRIALS_MAX);
        let mut hunt = Hunt::new(Some(vec![relay(1, 1).key]));
        for port in 1..1_000 {
            hunt.consider(relay(2, port));
        }
        assert_eq!((hunt.trials, hunt.strangers.len()), (0, STRANGERS_MAX));
    }

    #[tokio::test]
    async fn only_proof_makes_a_relay_used_and_ends_the_search() {
        let mut hunt = Hunt::new(Some(vec![relay(1, 1).key, relay(2, 1).key]));
        hunt.consider(relay(1, 1));
        assert!(!hunt.judge((relay(1, 1), false)));
        assert!(hunt.proven.is_empty());
        hunt.consider(relay(1, 1));
        assert_eq!(hunt.trials, 2, "it may try again");
        assert!(hunt.judge((relay(1, 1), true)));
        // Another address of the same relay changes nothing.
        hunt.judge((relay(1, 2), true));
        assert_eq!(hunt.proven, [relay(1, 1)]);
        assert!(!hunt.is_complete());
        hunt.judge((relay(2, 1), true));
        assert!(hunt.is_complete());
    }
}
