//! The real relay, as a process.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ringway_client::{Client, Config, RelayAddress, SecretKey};
use tempfile::TempDir;

/// Longest wait for anything; only a bug meets it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Relay {
    child: Child,
    pub(crate) address: RelayAddress,
    admin: String,
    _state: TempDir,
}

impl Relay {
    pub(crate) fn start(further: &[&str]) -> Self {
        let state = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
        command
            .env_clear()
            .env("XDG_STATE_HOME", state.path())
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args([
                "--set",
                "limits.sessions_max=512",
                "--set",
                "mesh.allowed=all",
            ])
            .args(further)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut line = || lines.next().expect("a line").unwrap();
        let admin = line().split_once("http://").unwrap().1.to_owned();
        let address = line().split_whitespace().last().unwrap().parse().unwrap();
        Self {
            child,
            address,
            admin,
            _state: state,
        }
    }

    /// Returns a party with the key that is made from `seed`.
    pub(crate) async fn connect(&self, seed: u16) -> Client {
        let config = Config {
            // A dial to nobody is to end soon.
            dial_timeout: Duration::from_secs(3),
            ..Config::new([self.address])
        };
        Client::connect(secret(seed), config).await.unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// Returns the sum over all series of a metric.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let page = self.get("/metrics");
        let values = page.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let is_it = series == name || series.starts_with(&format!("{name}{{"));
            is_it.then(|| value.parse::<u64>().ok()).flatten()
        });
        values.sum()
    }

    /// Waits until a metric is as wanted.
    pub(crate) async fn until(&self, name: &str, is_right: impl Fn(u64) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let have = self.metric(name);
            if is_right(have) {
                return;
            }
            assert!(Instant::now() < deadline, "{name} stays at {have}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the relay holds nothing of any setup, and checks the law of its counters.
    pub(crate) async fn is_as_before(&self) {
        for name in [
            "ringway_setups_current",
            "ringway_setups_waiting_current",
            "ringway_setup_hops_current",
            "ringway_virtual_ports_current",
            "ringway_opens_pending_current",
        ] {
            assert!(self.get("/metrics").contains(name), "{name} is no metric");
            self.until(name, |have| have == 0).await;
        }
        let received = self.metric("ringway_setups_received_total");
        let done = self.metric("ringway_setups_done_total");
        let refused = self.metric("ringway_setups_refused_total");
        assert_eq!(received, done + refused);
        let health: serde_json::Value = serde_json::from_str(&self.get("/health")).unwrap();
        assert_eq!(health["consistency"]["ok"], true, "{health}");
        assert_eq!(health["ready"], true, "{health}");
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn secret(seed: u16) -> SecretKey {
    let mut bytes = [7; 32];
    bytes[..2].copy_from_slice(&seed.to_be_bytes());
    SecretKey::from_seed(bytes)
}
