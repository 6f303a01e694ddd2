//! A relay tells its network where it is.
//!
//! Here: the announcement over mDNS and its end. Not here: who listens to it (`find`).
//!
//! The relay only answers: it asks nobody, so nothing that others announce is kept.

use std::time::{Duration, Instant};

use mdns_sd::{DaemonEvent, IfKind, Receiver, ServiceDaemon, ServiceInfo};
use ringway_proto::key::PublicKey;

use super::interface::Network;
use super::{SERVICE, TXT_KEY, TXT_VERSION, VERSION};
use crate::failure::Failure;
use crate::output::complain;

/// An announcement that stands until it is dropped.
pub(crate) struct Announcement {
    daemon: ServiceDaemon,
    fullname: String,
}

impl Announcement {
    /// Announces the relay, and waits a little until that has been sent.
    ///
    /// # Errors
    ///
    /// [`Failure::Host`] when there is no thread or socket for it. A network that does not let the
    /// announcement through is told on standard error: the relay is reached by its address all the same.
    pub(crate) fn start(network: &Network, key: PublicKey, port: u16) -> Result<Self, Failure> {
        let failure = |error| Failure::host("cannot announce the relay", error);
        let text = key.to_string();
        // Half of a key is too long for a name; a quarter of it is one that nobody else has by accident.
        let name = format!("ringway-{}", text.get(..16).unwrap_or(&text));
        let host = format!("{name}.local.");
        let values = [(TXT_KEY, text.as_str()), (TXT_VERSION, VERSION)];
        let mut service =
            ServiceInfo::new(SERVICE, &name, &host, network.address, port, &values[..])
                .map_err(failure)?;
        service.set_requires_probe(false);
        service.set_interfaces(vec![IfKind::Addr(network.address)]);
        let fullname = service.get_fullname().to_owned();
        let daemon = super::daemon(network)?;
        let events = daemon.monitor().map_err(failure)?;
        daemon.register(service).map_err(failure)?;
        if !is_sent(&events) {
            complain(format_args!(
                "ringway: {} does not take the announcement (UDP port 5353, multicast): clients with --lan \
                 do not find this relay, those with --relay do",
                network.name
            ));
        }
        Ok(Self { daemon, fullname })
    }

    /// Tells the network that the relay goes; does not wait.
    pub(crate) fn withdraw(&self) {
        if let Err(error) = self.daemon.unregister(&self.fullname) {
            tracing::debug!(%error, "the announcement was not withdrawn");
        }
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        match self.daemon.shutdown() {
            // The wait is for what is in the queue before it; a thread that is stuck is left behind.
            Ok(ended) => drop(ended.recv_timeout(END_TIMEOUT)),
            Err(error) => tracing::debug!(%error, "the announcement was not ended"),
        }
    }
}

/// Returns whether an announcement goes out within the time.
fn is_sent(events: &Receiver<DaemonEvent>) -> bool {
    let deadline = Instant::now() + SEND_TIMEOUT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match events.recv_timeout(left) {
            Ok(DaemonEvent::Announce(..)) => return true,
            Ok(DaemonEvent::Error(error)) => tracing::debug!(%error, "mDNS"),
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

/// Longest wait for the first announcement; it takes milliseconds.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest wait for the end of the thread that announces.
const END_TIMEOUT: Duration = Duration::from_millis(500);
