//! Peers whose port 36 a test writes: hops that work, refuse, are silent, talk nonsense or die.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringway_client::{Address, Client, PublicKey, Stream};
use ringway_proto::reason::Reason;
use ringway_proto::route::{
    HopReply, HopRequest, Message, MessageReader, ROUTE_SETUP_PORT, Refusal, RouteId, Rule,
    SetupReply, SetupRequest,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::relay::PATIENCE;

/// What a hop does when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conduct {
    /// It ends the stream instead of answering.
    Breaks,
    /// Its session ends instead.
    Dies,
    /// It answers with bytes that are no message.
    Garbage,
    /// It says that it has reserved one id too few.
    Miscounts,
    /// It refuses.
    Refuses,
    /// It never answers.
    Silent,
    /// It does what it is asked.
    Works,
}

/// Which request the conduct is for; all others are answered as they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Reserve,
    Rules,
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) reserved: BTreeSet<RouteId>,
    pub(crate) rules: BTreeMap<RouteId, Rule>,
    next: u32,
}

#[derive(Clone)]
pub(crate) struct Hop {
    pub(crate) client: Client,
    pub(crate) table: Arc<Mutex<Table>>,
    pub(crate) asked: Arc<AtomicUsize>,
    conduct: Arc<Mutex<(Step, Conduct)>>,
}

impl Hop {
    pub(crate) fn start(client: Client) -> Self {
        let hop = Self {
            client,
            table: Arc::default(),
            asked: Arc::default(),
            conduct: Arc::new(Mutex::new((Step::Reserve, Conduct::Works))),
        };
        let listener = hop.client.listen(ROUTE_SETUP_PORT).unwrap();
        let of_streams = hop.clone();
        tokio::spawn(async move {
            while let Ok(stream) = listener.accept().await {
                tokio::spawn(of_streams.clone().talk(stream));
            }
        });
        hop
    }

    pub(crate) fn key(&self) -> PublicKey {
        self.client.key()
    }

    pub(crate) fn behave(&self, step: Step, conduct: Conduct) {
        *self.conduct.lock().unwrap() = (step, conduct);
    }

    pub(crate) fn holds(&self) -> usize {
        let table = self.table.lock().unwrap();
        table.reserved.len() + table.rules.len()
    }

    /// Waits until it was asked `count` times.
    pub(crate) async fn until_asked(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.asked.load(Ordering::Relaxed) < count {
            assert!(Instant::now() < deadline, "nobody asks the hop");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn talk(self, mut stream: Stream) {
        let mut reader = MessageReader::new();
        let mut input = vec![0; 4_096];
        loop {
            match stream.read(&mut input).await {
                Ok(count) if count > 0 => reader.push(&input[..count]),
                _ => return,
            }
            while let Some(message) = reader.next_message::<HopRequest>().unwrap() {
                self.asked.fetch_add(1, Ordering::Relaxed);
                let (step, conduct) = *self.conduct.lock().unwrap();
                let is_now = match message.body {
                    HopRequest::Reserve { .. } => step == Step::Reserve,
                    HopRequest::AddRules { .. } => step == Step::Rules,
                    HopRequest::Release { .. } => false,
                };
                match conduct {
                    Conduct::Breaks if is_now => return,
                    Conduct::Dies if is_now => return self.client.close().await,
                    Conduct::Silent if is_now => continue,
                    Conduct::Garbage if is_now => {
                        drop(stream.write_all(&[255; 64]).await);
                        continue;
                    }
                    _ => {}
                }
                let conduct = if is_now { conduct } else { Conduct::Works };
                let reply = self.answer(&message.body, conduct);
                if !write(&mut stream, message.id, reply).await {
                    return;
                }
            }
        }
    }

    fn answer(&self, request: &HopRequest, conduct: Conduct) -> HopReply {
        let mut table = self.table.lock().unwrap();
        if conduct == Conduct::Refuses {
            return HopReply::Refused(Refusal::new(Reason::RelayCapacity, "the table is full"));
        }
        match request {
            HopRequest::Reserve { count } => {
                let missing = u8::from(conduct == Conduct::Miscounts);
                let mut ids = Vec::new();
                for _ in 0..count - missing {
                    table.next += 1;
                    let id = RouteId(table.next);
                    table.reserved.insert(id);
                    ids.push(id);
                }
                HopReply::Reserved { ids }
            }
            HopRequest::AddRules { rules } => {
                for rule in rules {
                    assert!(table.reserved.remove(&rule.id), "a rule for a reserved id");
                    table.rules.insert(rule.id, rule.clone());
                }
                HopReply::Done
            }
            HopRequest::Release { ids } => {
                for id in ids {
                    table.reserved.remove(id);
                    table.rules.remove(id);
                }
                HopReply::Done
            }
        }
    }
}

async fn write<B: Serialize>(stream: &mut Stream, id: u32, body: B) -> bool {
    let mut bytes = Vec::new();
    Message { id, body }.encode(&mut bytes).unwrap();
    stream.write_all(&bytes).await.is_ok()
}

/// A stream of somebody who asks a relay.
pub(crate) struct Asker {
    stream: Stream,
    reader: MessageReader,
    next_id: u32,
}

impl Asker {
    pub(crate) async fn open(client: &Client, relay: PublicKey) -> Self {
        let stream = client.dial(Address::new(relay, ROUTE_SETUP_PORT)).await;
        Self {
            stream: stream.unwrap(),
            reader: MessageReader::new(),
            next_id: 0,
        }
    }

    pub(crate) async fn send(&mut self, request: SetupRequest) -> u32 {
        self.next_id += 1;
        assert!(write(&mut self.stream, self.next_id, request).await);
        self.next_id
    }

    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub(crate) async fn hear(&mut self) -> Option<(u32, SetupReply)> {
        self.hear_any().await
    }

    async fn hear_any<B: DeserializeOwned>(&mut self) -> Option<(u32, B)> {
        let mut input = vec![0; 4_096];
        loop {
            if let Some(Message { id, body }) = self.reader.next_message().unwrap() {
                return Some((id, body));
            }
            match self.stream.read(&mut input).await {
                Ok(count) if count > 0 => self.reader.push(&input[..count]),
                _ => return None,
            }
        }
    }

    pub(crate) async fn ask(&mut self, request: SetupRequest) -> SetupReply {
        let id = self.send(request).await;
        let (answered, reply) = self.hear().await.expect("an answer");
        assert_eq!(answered, id);
        reply
    }
}
