//! Tests of the embedded store: bounds, sums, comparing writes, restarts, files that cannot be written.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use ringway_proto::dmsg::entry::{Entry, Server};
use ringway_proto::dmsg::key::SecretKey;

use super::*;

const NOW: Moment = Moment::from_ms(1_700_000_000_000);

const ROOMY: Bounds = Bounds {
    clients_max: 100,
    servers_max: 100,
    bytes_max: 1 << 20,
};

fn key(number: u8) -> SecretKey {
    SecretKey::from_bytes([number; 32]).expect("a number below the order of the curve")
}

/// An entry that nobody has signed: a store does not look.
fn client(number: u8, sequence: u64) -> Arc<Record> {
    let entry = Entry::of_client(key(number).public(), sequence, 5, Vec::new());
    Arc::new(Record::new(entry, None, None))
}

fn server(number: u8, sequence: u64) -> Arc<Record> {
    let server = Server {
        address: "192.0.2.1:1".to_owned(),
        ..Server::default()
    };
    let entry = Entry::of_server(key(number).public(), sequence, 5, server);
    let ends = NOW.after(Duration::from_secs(120));
    Arc::new(Record::new(entry, None, Some(ends)))
}

fn open(path: &Path, bounds: Bounds) -> Embedded {
    Embedded::open(path.to_owned(), bounds, NOW).unwrap()
}

async fn put(store: &Embedded, record: &Arc<Record>, before: Option<&Record>) -> Outcome {
    let write = Write {
        record,
        before,
        is_vouched: false,
        now: NOW,
    };
    store.write(write).await.unwrap()
}

async fn sequence(store: &Embedded, number: u8, now: Moment) -> Option<u64> {
    let found = store.read(key(number).public(), now).await.unwrap();
    found.map(|record| record.entry().sequence)
}

#[tokio::test]
async fn what_was_confirmed_is_there_after_a_kill_and_what_has_expired_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("entries");
    let store = open(&path, ROOMY);
    assert_eq!(put(&store, &client(1, 1), None).await, Outcome::Done);
    assert_eq!(
        put(&store, &client(1, 2), Some(&client(1, 1))).await,
        Outcome::Done
    );
    assert_eq!(put(&store, &client(2, 1), None).await, Outcome::Done);
    assert_eq!(store.remove(&client(2, 1)).await.unwrap(), Outcome::Done);
    assert_eq!(put(&store, &server(3, 1), None).await, Outcome::Done);
    // As the file is at this moment, without any end: a copy, since this process still holds it.
    let copy = directory.path().join("copy");
    fs::copy(&path, &copy).unwrap();
    for (now, of_server) in [(NOW, Some(1)), (NOW.after(Duration::from_secs(120)), None)] {
        let again = Embedded::open(copy.clone(), ROOMY, now).unwrap();
        assert_eq!(sequence(&again, 1, now).await, Some(2));
        assert_eq!(sequence(&again, 2, now).await, None);
        assert_eq!(sequence(&again, 3, now).await, of_server);
        again.close().await;
    }
    store.close().await;
    let again = open(&path, ROOMY);
    assert_eq!(sequence(&again, 1, NOW).await, Some(2));
    let error = Embedded::open(path, ROOMY, NOW).unwrap_err().to_string();
    assert!(error.contains("another process"), "{error}");
}

#[tokio::test]
async fn write_that_was_judged_by_something_else_is_not_done() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("entries"), ROOMY);
    assert_eq!(
        put(&store, &client(1, 1), Some(&client(1, 0))).await,
        Outcome::Changed
    );
    assert_eq!(put(&store, &client(1, 1), None).await, Outcome::Done);
    assert_eq!(put(&store, &client(1, 2), None).await, Outcome::Changed);
    assert_eq!(
        put(&store, &client(1, 2), Some(&client(1, 0))).await,
        Outcome::Changed
    );
    assert_eq!(store.remove(&client(1, 2)).await.unwrap(), Outcome::Changed);
    assert_eq!(store.remove(&client(9, 2)).await.unwrap(), Outcome::Changed);
    assert_eq!(sequence(&store, 1, NOW).await, Some(1));
}

#[tokio::test]
async fn expired_entry_is_gone_before_it_is_taken_out() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("entries"), ROOMY);
    put(&store, &server(1, 1), None).await;
    put(&store, &client(2, 1), None).await;
    let later = NOW.after(Duration::from_secs(120));
    assert_eq!(sequence(&store, 1, later).await, None);
    assert!(store.servers(later).await.unwrap().is_empty());
    assert_eq!(store.servers(NOW).await.unwrap().len(), 1);
    // A new one is judged without it, and takes its place.
    let server = server(1, 1);
    let write = Write {
        record: &server,
        before: None,
        is_vouched: false,
        now: later,
    };
    assert_eq!(store.write(write).await.unwrap(), Outcome::Done);
    let counts = |servers, clients| Counts { servers, clients };
    assert_eq!(store.clean(NOW).await.unwrap(), counts(1, 1));
    assert_eq!(store.clean(later).await.unwrap(), counts(0, 1));
    assert_eq!(sequence(&store, 1, NOW).await, None);
}

#[tokio::test]
async fn bounds_hold_for_new_entries_and_not_for_those_that_are_refreshed() {
    let directory = tempfile::tempdir().unwrap();
    let bounds = Bounds {
        clients_max: 1,
        servers_max: 1,
        ..ROOMY
    };
    let store = open(&directory.path().join("entries"), bounds);
    assert_eq!(put(&store, &client(1, 1), None).await, Outcome::Done);
    assert_eq!(put(&store, &client(2, 1), None).await, Outcome::Full);
    assert_eq!(
        put(&store, &client(1, 2), Some(&client(1, 1))).await,
        Outcome::Done
    );
    assert_eq!(put(&store, &server(3, 1), None).await, Outcome::Done);
    assert_eq!(put(&store, &server(4, 1), None).await, Outcome::Full);
    let vouched = server(4, 1);
    let write = Write {
        record: &vouched,
        before: None,
        is_vouched: true,
        now: NOW,
    };
    assert_eq!(store.write(write).await.unwrap(), Outcome::Done);
    // A client that becomes a server needs a place among them.
    let turned = server(1, 3);
    assert_eq!(
        put(&store, &turned, Some(&client(1, 2))).await,
        Outcome::Full
    );
}

#[tokio::test]
async fn memory_is_bounded_in_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let each = client(1, 1).memory_bytes();
    let bounds = Bounds {
        bytes_max: 2 * each,
        ..ROOMY
    };
    let store = open(&directory.path().join("entries"), bounds);
    assert_eq!(put(&store, &client(1, 1), None).await, Outcome::Done);
    assert_eq!(put(&store, &client(2, 1), None).await, Outcome::Done);
    assert_eq!(put(&store, &client(3, 1), None).await, Outcome::Full);
    let longer = Entry::of_client(key(1).public(), 2, 5, vec![key(9).public()]);
    let longer = Arc::new(Record::new(longer, None, None));
    assert_eq!(
        put(&store, &longer, Some(&client(1, 1))).await,
        Outcome::Full
    );
    assert_eq!(store.remove(&client(2, 1)).await.unwrap(), Outcome::Done);
    assert_eq!(
        put(&store, &longer, Some(&client(1, 1))).await,
        Outcome::Done
    );
}

#[tokio::test]
async fn file_that_cannot_be_written_is_told_and_written_whole_later() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("a");
    let path = place.join("entries");
    let store = open(&path, ROOMY);
    put(&store, &client(1, 1), None).await;
    assert_eq!(store.complaint(), None);
    fs::remove_dir_all(&place).unwrap();
    assert_eq!(put(&store, &client(2, 1), None).await, Outcome::Done);
    let complaint = store.complaint().unwrap();
    assert!(
        complaint.contains("entries") && complaint.contains("removed"),
        "{complaint}"
    );
    assert_eq!(put(&store, &client(3, 1), None).await, Outcome::Done);
    assert_eq!(sequence(&store, 2, NOW).await, Some(1));
    fs::create_dir(&place).unwrap();
    // The writer tries again by itself.
    let mut saved = store.shared.saved.subscribe();
    let is_well = saved.wait_for(|saved| saved.failure.is_none());
    drop(timeout(Duration::from_secs(60), is_well).await.unwrap());
    assert_eq!(store.complaint(), None);
    store.close().await;
    let again = open(&path, ROOMY);
    for number in 1..=3 {
        assert_eq!(sequence(&again, number, NOW).await, Some(1));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u64, bool),
    Remove(u8),
    Clean(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..5_u8, 0..4_u64, any::<bool>())
            .prop_map(|(number, sequence, is_server)| Step::Put(number, sequence, is_server)),
        2 => (1..5_u8).prop_map(Step::Remove),
        1 => (0..200_u8).prop_map(Step::Clean),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is written and removed, the sums are those of what is there, the lines tell all of it, and no
    /// bound is passed.
    #[test]
    fn sums_and_lines_are_those_of_the_entries(steps in prop::collection::vec(step(), 0..40)) {
        let bounds = Bounds { clients_max: 2, servers_max: 2, bytes_max: 3_000 };
        let mut memory = Memory::new(bounds);
        let mut now = NOW;
        for step in steps {
            match step {
                Step::Put(number, sequence, is_server) => {
                    let record = match is_server {
                        true => server(number, sequence),
                        false => client(number, sequence),
                    };
                    let before = memory.records.get(&record.key()).cloned();
                    let write = Write { record: &record, before: before.as_deref(), is_vouched: false, now };
                    prop_assert_ne!(memory.write(&write), Outcome::Changed);
                }
                Step::Remove(number) => memory.remove(&key(number).public()),
                Step::Clean(seconds) => now = now.after(Duration::from_secs(seconds.into())),
            }
            let of = |is: fn(&Record) -> bool| memory.records.values().filter(|it| is(it)).count();
            prop_assert_eq!(memory.counts.servers, of(|it| parts(it).0) as u64);
            prop_assert_eq!(memory.counts.clients, of(|it| parts(it).1) as u64);
            let bytes: u64 = memory.records.values().map(|it| it.memory_bytes()).sum();
            prop_assert_eq!(memory.bytes, bytes);
            prop_assert!(memory.counts.servers <= 2 && memory.counts.clients <= 2 && bytes <= 3_000);
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("entries");
        fs::write(&path, &memory.pending).unwrap();
        let (_, read) = Journal::open(path, 1 << 20).unwrap();
        let written = memory.records.iter().map(|(key, record)| (*key, (**record).clone())).collect();
        prop_assert_eq!(read, written);
    }
}
