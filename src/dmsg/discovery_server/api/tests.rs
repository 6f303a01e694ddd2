//! Tests of the API in one process. The whole of it, over real connections: tests/cli.

use axum::http;
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use ringway_proto::dmsg::entry::Server;
use ringway_proto::dmsg::key::SecretKey;
use tempfile::TempDir;

use super::*;
use crate::dmsg::discovery_server::embedded::{Bounds, Embedded};

const HERE: &str = "192.0.2.1";
const ELSEWHERE: &str = "192.0.2.2";

/// A discovery without connections.
struct Desk {
    api: Arc<Api<Embedded>>,
    router: Router,
    _directory: TempDir,
}

fn secret(number: u8) -> SecretKey {
    SecretKey::from_bytes([number; 32]).expect("a number below the order of the curve")
}

fn client(number: u8, sequence: u64) -> Entry {
    let key = secret(number).public();
    let mut entry = Entry::of_client(key, sequence, Moment::now().ns(), Vec::new());
    entry.sign(&secret(number));
    entry
}

fn server(number: u8, available_sessions: i64) -> Entry {
    let server = Server {
        address: "192.0.2.9:8081".to_owned(),
        available_sessions,
        ..Server::default()
    };
    let key = secret(number).public();
    let mut entry = Entry::of_server(key, 0, Moment::now().ns(), server);
    entry.sign(&secret(number));
    entry
}

impl Desk {
    fn open(per_s: u32, change: impl FnOnce(&mut Api<Embedded>)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bounds = Bounds {
            clients_max: 9,
            servers_max: 9,
            bytes_max: 1 << 20,
        };
        let path = directory.path().join("entries");
        let mut api = Api {
            store: Embedded::open(path, bounds, Moment::now()).unwrap(),
            rules: Rules::default(),
            whitelist: BTreeSet::new(),
            proxies: BTreeSet::new(),
            rates: Mutex::new(Rates::new(per_s)),
            has_seen_proxy: AtomicBool::new(false),
            lists: Lists::default(),
            numbers: Arc::default(),
            about: pages::About {
                started: std::time::SystemTime::UNIX_EPOCH,
                started_at: std::time::Instant::now(),
                store: "a file".to_owned(),
            },
        };
        change(&mut api);
        let api = Arc::new(api);
        Self {
            router: router(Arc::clone(&api)),
            api,
            _directory: directory,
        }
    }

    async fn ask(
        &self,
        (method, path): (&str, &str),
        source: &str,
        headers: &[(&'static str, String)],
        body: Vec<u8>,
    ) -> (u16, String) {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request
            .extension(Source(source.parse().unwrap()))
            .body(Body::from(body))
            .unwrap();
        let answer = TowerToHyperService::new(self.router.clone()).call(request);
        let answer = answer.await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.ask(("GET", path), HERE, &[], Vec::new()).await
    }

    async fn post(&self, entry: &Entry, source: &str) -> u16 {
        let place = ("POST", "/dmsg-discovery/entry/");
        self.ask(place, source, &[], entry.encode()).await.0
    }

    async fn delete(&self, entry: Vec<u8>, source: &str) -> (u16, String) {
        let place = ("DELETE", "/dmsg-discovery/entry");
        self.ask(place, source, &[], entry).await
    }
}

#[tokio::test]
async fn lists_change_with_the_entries() {
    let desk = Desk::open(0, |_| {});
    let available = "/dmsg-discovery/available_servers";
    let all = "/dmsg-discovery/all_servers";
    for list in [available, all] {
        let (status, text) = desk.get(list).await;
        assert_eq!(
            (status, &*text),
            (404, told_text(Answer::NoServers).as_str())
        );
    }
    for list in ["entries", "visorEntries"] {
        let (status, text) = desk.get(&format!("/dmsg-discovery/{list}")).await;
        assert_eq!((status, &*text), (200, "[]"));
    }
    for (number, room) in [(1, 0), (2, 3), (3, 8)] {
        assert_eq!(desk.post(&server(number, room), HERE).await, 200);
    }
    let keys = async |list| {
        let read: Vec<Entry> = serde_json::from_str(&desk.get(list).await.1).unwrap();
        read.iter().map(|entry| entry.key).collect::<Vec<_>>()
    };
    assert_eq!(
        keys(available).await,
        [secret(3).public(), secret(2).public()]
    );
    assert_eq!(keys(all).await.len(), 3);
    let shown = desk
        .get(&format!("/dmsg-discovery/entry/{}", secret(3).public()))
        .await
        .1;
    assert_eq!(desk.delete(shown.into_bytes(), HERE).await.0, 200);
    assert_eq!(keys(available).await, [secret(2).public()]);
}

fn told_text(answer: Answer) -> String {
    String::from_utf8(answer.encode()).unwrap()
}

#[tokio::test]
async fn proxy_that_is_believed_says_whom_it_speaks_for() {
    let proxy = "198.51.100.7";
    let desk = Desk::open(0, |api| {
        api.proxies.insert(proxy.parse().unwrap());
    });
    let source = |peer: &str, told: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in told {
            headers.append(FORWARDED_FOR, value.parse().unwrap());
        }
        desk.api
            .source(Source(peer.parse().unwrap()), &headers)
            .to_string()
    };
    for (peer, told, expected) in [
        (HERE, &[][..], HERE),
        (HERE, &["203.0.113.5"], HERE),
        (proxy, &[], proxy),
        (proxy, &["203.0.113.5"], "203.0.113.5"),
        // What stands before the last comma, or in an earlier line, is the client's own word.
        (proxy, &["10.0.0.1, 203.0.113.5"], "203.0.113.5"),
        (proxy, &["10.0.0.1", "203.0.113.5"], "203.0.113.5"),
        (proxy, &["nonsense"], proxy),
    ] {
        assert_eq!(source(peer, told), expected, "{peer} {told:?}");
    }
}

#[tokio::test]
async fn source_that_writes_too_much_is_held_up_alone() {
    let desk = Desk::open(1, |_| {});
    let wrong = Vec::from(*b"{");
    for _ in 0..10 {
        assert_eq!(desk.delete(wrong.clone(), HERE).await.0, 400);
    }
    let (status, text) = desk.delete(wrong.clone(), HERE).await;
    assert_eq!((status, text), (429, told_text(Answer::TooMany)));
    assert_eq!(desk.delete(wrong, ELSEWHERE).await.0, 400);
    assert_eq!(
        desk.get("/dmsg-discovery/entries").await.0,
        200,
        "reading is free"
    );
    assert_eq!(desk.api.numbers.shed.read(), 1);
    assert_eq!(desk.api.numbers.invalid.read(), 11);
}

#[tokio::test]
async fn whoever_has_only_read_an_entry_cannot_delete_it() {
    let desk = Desk::open(0, |_| {});
    assert_eq!(desk.post(&client(1, 5), HERE).await, 200);
    let path = format!("/dmsg-discovery/entry/{}", secret(1).public());
    let shown = desk.get(&path).await.1.into_bytes();
    assert_eq!(desk.delete(shown.clone(), ELSEWHERE).await.0, 401);
    assert_eq!(desk.get(&path).await.0, 200);
    assert_eq!(desk.delete(shown, HERE).await.0, 200);
    assert_eq!(desk.get(&path).await.0, 404);
}

#[tokio::test]
async fn monitor_of_the_list_deletes_any_entry() {
    let monitor = secret(7);
    let key = monitor.public();
    let desk = Desk::open(0, |api| {
        api.whitelist.insert(key);
    });
    desk.post(&client(1, 0), HERE).await;
    desk.post(&client(2, 0), HERE).await;
    let own = monitor.sign(key.to_string().as_bytes()).to_string();
    let others = secret(8).sign(key.to_string().as_bytes()).to_string();
    let body = serde_json::to_vec(&[secret(1).public().to_string()]).unwrap();
    let ask = async |key: String, signature: String, body: &[u8]| {
        let headers = [("NM-PK", key), ("NM-Sign", signature)];
        let place = ("DELETE", "/dmsg-discovery/deregister");
        desk.ask(place, HERE, &headers, body.to_vec()).await
    };
    let key = key.to_string();
    let stranger = secret(8).public().to_string();
    for (key, signature, body, status) in [
        (&stranger, &others, &*body, 403),
        (&key, &others, &body, 403),
        (&key, &"x".to_owned(), &body, 400),
        (&key, &own, b"{}", 400),
        (&key, &own, b"[\"x\"]", 400),
    ] {
        assert_eq!(ask(key.clone(), signature.clone(), body).await.0, status);
    }
    let place = ("DELETE", "/dmsg-discovery/deregister");
    assert_eq!(desk.ask(place, HERE, &[], body.clone()).await.0, 403);
    assert_eq!(desk.api.numbers.deregistered.read(), 0);
    assert_eq!(
        ask(key.clone(), own.clone(), &body).await,
        (200, "null".to_owned())
    );
    let (_, left) = desk.get("/dmsg-discovery/entries").await;
    assert!(!left.contains(&secret(1).public().to_string()), "{left}");
    assert!(left.contains(&secret(2).public().to_string()), "{left}");
    assert_eq!(ask(key, own, &body).await.0, 200, "it is gone already");
}

#[tokio::test]
async fn two_writers_of_one_key_do_not_both_win() {
    let desk = Desk::open(0, |_| {});
    desk.post(&client(1, 0), HERE).await;
    let entries: Vec<Entry> = (0..8).map(|_| client(1, 1)).collect();
    let posts = entries.iter().map(|entry| desk.post(entry, HERE));
    let outcomes = futures_util::future::join_all(posts).await;
    let done = outcomes.iter().filter(|status| **status == 200).count();
    assert_eq!(done, 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|status| **status == 422).count(), 7);
}

#[tokio::test]
async fn unknown_pages_and_keys_are_told() {
    let desk = Desk::open(0, |_| {});
    let path = format!("/dmsg-discovery/entry/{}", secret(1).public());
    assert_eq!(desk.get(&path).await, (404, told_text(Answer::NotFound)));
    let wrong = desk.get("/dmsg-discovery/entry/nonsense").await;
    assert_eq!(wrong, (400, told_text(Answer::BadInput)));
    let (status, index) = desk.get("/nonsense").await;
    assert_eq!(status, 404);
    assert!(index.contains("/dmsg-discovery/all_servers"));
    let (status, health) = desk.get("/health").await;
    let health: serde_json::Value = serde_json::from_str(&health).unwrap();
    assert_eq!(status, 200);
    assert_eq!(health["started_at"], "1970-01-01T00:00:00Z");
    assert_eq!(health["ready"], true);
    assert!(health["build_info"]["version"].is_string());
}
