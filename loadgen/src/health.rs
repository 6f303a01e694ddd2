//! What the relay says about itself: `/health` of its admin listener.
//!
//! Here: one bounded HTTP request, and the fields a run compares. Not here: the comparison (`books`).
//!
//! The generator knows the document by its field names only, so that it does not share the relay's code.
//!
//! Bound: `ANSWER_BYTES_MAX` and `STEP_TIME` for each step of a request.
//! Source: src/control/health.rs, whose fields are added and never renamed.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Longest wait for one step: connecting, sending, each read.
const STEP_TIME: Duration = Duration::from_secs(5);

/// Longest answer that is read: 256 shards take under 1 MiB.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// The relay's numbers, summed over its shards.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    /// What the shards own now.
    pub audit: BTreeMap<String, u64>,
    /// Counters' laws that do not hold; empty when all do.
    pub broken_laws: Vec<String>,
    /// Sessions that the relay ended, by reason.
    pub sessions_closed: BTreeMap<String, u64>,
    /// Stream legs that the relay reset, by reason.
    pub streams_reset: BTreeMap<String, u64>,
}

impl Health {
    /// Asks the relay.
    ///
    /// # Errors
    /// When nobody answers in time, or the answer is not a relay's.
    pub fn fetch(admin: SocketAddr) -> io::Result<Self> {
        Self::read(&request(admin, "/health")?)
    }

    fn read(answer: &str) -> io::Result<Self> {
        let wrong = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
        let Some((head, body)) = answer.split_once("\r\n\r\n") else {
            return Err(wrong("the answer is no HTTP".into()));
        };
        let status = head.split_ascii_whitespace().nth(1).unwrap_or("");
        // 503 is how a relay says that it drains or that a law is broken; the document comes with it.
        if !matches!(status, "200" | "503") {
            return Err(wrong(format!("/health answers with status '{status}'")));
        }
        let document: Document = serde_json::from_str(body)
            .map_err(|error| wrong(format!("/health is not a relay's: {error}")))?;
        let mut health = Self {
            broken_laws: document.consistency.broken(),
            ..Self::default()
        };
        for shard in &document.shards {
            add(&mut health.audit, &shard.audit);
            add(&mut health.sessions_closed, &shard.sessions_closed);
            add(&mut health.streams_reset, &shard.streams_reset);
        }
        Ok(health)
    }
}

#[derive(Deserialize)]
struct Document {
    consistency: Consistency,
    shards: Vec<Shard>,
}

#[derive(Deserialize)]
struct Consistency {
    ok: bool,
    laws: Vec<Law>,
}

#[derive(Deserialize)]
struct Law {
    law: String,
    holds: bool,
}

impl Consistency {
    fn broken(self) -> Vec<String> {
        let laws = self.laws.into_iter().filter(|law| !law.holds);
        let mut broken: Vec<String> = laws.map(|law| law.law).collect();
        if !self.ok && broken.is_empty() {
            broken.push("consistency.ok is false".into());
        }
        broken
    }
}

#[derive(Deserialize)]
struct Shard {
    audit: BTreeMap<String, u64>,
    sessions_closed: BTreeMap<String, u64>,
    streams_reset: BTreeMap<String, u64>,
}

fn add(sum: &mut BTreeMap<String, u64>, terms: &BTreeMap<String, u64>) {
    for (name, count) in terms {
        *sum.entry(name.clone()).or_default() += count;
    }
}

/// Returns the body of a page of an admin listener.
///
/// # Errors
/// When nobody answers in time, or with another status than 200.
pub(crate) fn get(admin: SocketAddr, page: &str) -> io::Result<String> {
    let answer = request(admin, page)?;
    let wrong = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return Err(wrong("the answer is no HTTP".into()));
    };
    let status = head.split_ascii_whitespace().nth(1).unwrap_or("");
    if status != "200" {
        return Err(wrong(format!("{page} answers with status '{status}'")));
    }
    Ok(body.to_owned())
}

fn request(admin: SocketAddr, page: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, STEP_TIME)?;
    stream.set_read_timeout(Some(STEP_TIME))?;
    stream.set_write_timeout(Some(STEP_TIME))?;
    let head = format!("GET {page} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    const SHARD: &str = r#"{"shard":0,"audit":{"sockets":2,"sessions":1},"sessions_closed":{"lost":3},"streams_reset":{}}"#;

    fn answer(status: &str, ok: bool) -> String {
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n\r\n\
             {{\"consistency\":{{\"ok\":{ok},\"laws\":[{{\"law\":\"a = b\",\"holds\":{ok}}}]}},\
             \"shards\":[{SHARD},{SHARD}],\"later\":7}}"
        )
    }

    #[test]
    fn shards_are_summed() {
        let health = Health::read(&answer("200 OK", true)).unwrap();
        assert_eq!(health.audit["sockets"], 4);
        assert_eq!(health.sessions_closed["lost"], 6);
        assert_eq!(health.broken_laws, Vec::<String>::new());
    }

    #[test]
    fn broken_laws_are_named_although_the_status_is_503() {
        let health = Health::read(&answer("503 Service Unavailable", false)).unwrap();
        assert_eq!(health.broken_laws, ["a = b"]);
    }

    #[test]
    fn other_answers_are_errors() {
        for (text, word) in [
            ("hello", "no HTTP"),
            ("HTTP/1.1 404 Not Found\r\n\r\n", "404"),
            ("HTTP/1.1 200 OK\r\n\r\n{}", "not a relay's"),
        ] {
            let error = Health::read(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_relay_is_asked_over_a_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 1_024];
            let count = stream.read(&mut asked).unwrap();
            stream.write_all(answer("200 OK", true).as_bytes()).unwrap();
            String::from_utf8_lossy(&asked[..count]).into_owned()
        });
        let health = Health::fetch(address).unwrap();
        assert_eq!(health.audit["sessions"], 2);
        assert!(
            server
                .join()
                .unwrap()
                .starts_with("GET /health HTTP/1.1\r\n")
        );
    }

    #[test]
    fn nobody_there_is_an_error() {
        let address = SocketAddr::from(([127, 7, 7, 7], 1));
        assert!(Health::fetch(address).is_err());
    }
}
