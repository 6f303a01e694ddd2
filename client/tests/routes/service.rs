//! Route setup as a relay does it, for tests: a party of its own that listens on port 36.
//!
//! Here: reserving ids, adding rules, releasing them when a hop fails, paths from a list. Not here: limits,
//! several setups at a time, anything else of a real relay.

use std::sync::{Arc, Mutex};

use ringway_client::{Address, Client, PublicKey, Reason, Stream};
use ringway_proto::route::{
    FoundPath, HopReply, HopRequest, Message, MessageReader, ROUTE_SETUP_PORT, Refusal, RouteId,
    Rule, RuleKind, SetUp, SetupReply, SetupRequest, Transport,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Who announced what.
type Announced = (PublicKey, Vec<Transport>);

/// A running service.
#[derive(Clone)]
pub(crate) struct Service {
    client: Client,
    /// What a `Find` is answered with, as far as it avoids what it is to avoid.
    pub(crate) paths: Arc<Mutex<Vec<Vec<PublicKey>>>>,
    /// The announcements that came.
    pub(crate) announced: Arc<Mutex<Vec<Announced>>>,
}

impl Service {
    pub(crate) fn start(client: Client) -> Self {
        let listener = client.listen(ROUTE_SETUP_PORT).expect("a free port");
        let service = Self {
            client,
            paths: Arc::default(),
            announced: Arc::default(),
        };
        let served = service.clone();
        tokio::spawn(async move {
            while let Ok(stream) = listener.accept().await {
                tokio::spawn(served.clone().serve(stream));
            }
        });
        service
    }

    pub(crate) fn key(&self) -> PublicKey {
        self.client.key()
    }

    async fn serve(self, mut stream: Stream) {
        let asker = stream.peer().key;
        while let Some(Message { id, body }) = read(&mut stream).await {
            let body = self.answer(asker, body).await;
            write(&mut stream, &Message { id, body }).await;
        }
    }

    async fn answer(&self, asker: PublicKey, request: SetupRequest) -> SetupReply {
        if let Err(refusal) = request.check(&asker) {
            return SetupReply::Refused(refusal);
        }
        match request {
            SetupRequest::SetUp(set_up) => self.set_up(asker, &set_up).await,
            SetupRequest::Find(find) => {
                let avoid =
                    |hops: &&Vec<PublicKey>| !find.avoid.iter().any(|key| hops.contains(key));
                let paths = self.paths.lock().expect("no panic");
                let paths = paths.iter().filter(avoid).map(|hops| FoundPath {
                    hops: hops.clone(),
                    latency_us: 1,
                });
                SetupReply::Paths {
                    paths: paths.collect(),
                }
            }
            SetupRequest::Announce(announce) => {
                let mut announced = self.announced.lock().expect("no panic");
                announced.push((asker, announce.transports));
                SetupReply::Announced {
                    expires_ms: announce.ttl_ms,
                }
            }
            SetupRequest::Withdraw => SetupReply::Done,
        }
    }

    async fn set_up(&self, asker: PublicKey, set_up: &SetUp) -> SetupReply {
        let mut reserved = Vec::new();
        match self.try_set_up(asker, set_up, &mut reserved).await {
            Ok(forward_id) => SetupReply::SetUp {
                forward_id,
                keep_alive_ms: set_up.keep_alive_ms(),
            },
            Err(refusal) => {
                for (hop, id) in reserved {
                    let _released = self.ask(hop, HopRequest::Release { ids: vec![id] }).await;
                }
                SetupReply::Refused(refusal)
            }
        }
    }

    /// From the far end to the near one: a rule is there before anything can come to it.
    async fn try_set_up(
        &self,
        asker: PublicKey,
        set_up: &SetUp,
        reserved: &mut Vec<(PublicKey, RouteId)>,
    ) -> Result<RouteId, Refusal> {
        let back = self
            .way(&set_up.reverse, set_up, set_up.reverse_id, reserved)
            .await?;
        let destination = RuleKind::Destination {
            group: set_up.group,
            source: asker,
            source_port: set_up.source_port,
            destination_port: set_up.destination_port,
            next: set_up.reverse[1],
            next_id: back,
        };
        let last = set_up.forward.len() - 1;
        let end = set_up.destination;
        let previous = set_up.forward[last - 1];
        let id = self
            .rule(end, previous, destination, set_up, reserved)
            .await?;
        self.way(&set_up.forward, set_up, id, reserved).await
    }

    /// Makes the rules between the ends of a path and returns the first id.
    async fn way(
        &self,
        path: &[PublicKey],
        set_up: &SetUp,
        last_id: RouteId,
        reserved: &mut Vec<(PublicKey, RouteId)>,
    ) -> Result<RouteId, Refusal> {
        let mut next_id = last_id;
        for three in path.windows(3).rev() {
            let next = three[2];
            let kind = RuleKind::Intermediary { next, next_id };
            next_id = self
                .rule(three[1], three[0], kind, set_up, reserved)
                .await?;
        }
        Ok(next_id)
    }

    async fn rule(
        &self,
        hop: PublicKey,
        previous: PublicKey,
        kind: RuleKind,
        set_up: &SetUp,
        reserved: &mut Vec<(PublicKey, RouteId)>,
    ) -> Result<RouteId, Refusal> {
        let HopReply::Reserved { ids } = self.ask(hop, HopRequest::Reserve { count: 1 }).await?
        else {
            return Err(Refusal::new(Reason::HopRefused, "no ids").with_hop(hop));
        };
        reserved.push((hop, ids[0]));
        let rule = Rule {
            id: ids[0],
            keep_alive_ms: set_up.keep_alive_ms(),
            previous,
            kind,
        };
        self.ask(hop, HopRequest::AddRules { rules: vec![rule] })
            .await?;
        Ok(ids[0])
    }

    /// Asks a hop on a stream of its own.
    pub(crate) async fn ask(&self, hop: PublicKey, body: HopRequest) -> Result<HopReply, Refusal> {
        ask(&self.client, hop, body).await
    }
}

/// Asks a hop as any party may.
pub(crate) async fn ask(
    client: &Client,
    hop: PublicKey,
    body: HopRequest,
) -> Result<HopReply, Refusal> {
    let unreachable = || Refusal::new(Reason::HopUnreachable, "no stream").with_hop(hop);
    let dial = client.dial(Address::new(hop, ROUTE_SETUP_PORT)).await;
    let mut stream = dial.map_err(|_| unreachable())?;
    write(&mut stream, &Message { id: 7, body }).await;
    let reply: Message<HopReply> = read(&mut stream).await.ok_or_else(unreachable)?;
    assert_eq!(reply.id, 7);
    stream.shutdown().await.map_err(|_| unreachable())?;
    match reply.body {
        HopReply::Refused(refusal) => Err(refusal.with_hop(hop)),
        reply => Ok(reply),
    }
}

async fn read<B: serde::de::DeserializeOwned>(stream: &mut Stream) -> Option<Message<B>> {
    let mut reader = MessageReader::new();
    let mut buf = [0; 1];
    loop {
        stream.read_exact(&mut buf).await.ok()?;
        reader.push(&buf);
        if let Some(message) = reader.next_message().expect("a good message") {
            return Some(message);
        }
    }
}

async fn write<B: serde::Serialize>(stream: &mut Stream, message: &Message<B>) {
    let mut out = Vec::new();
    message.encode(&mut out).expect("a short message");
    // Who asked may have gone.
    drop(stream.write_all(&out).await);
}
