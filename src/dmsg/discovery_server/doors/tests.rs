//! Tests of doors, on real connections: who makes room for whom. Times are handed in.

use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::*;

/// Doors that serve `/` on a port of their own.
struct House {
    doors: Arc<Doors>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl House {
    async fn open(connections_max: u32, connections_source_max: u32) -> Self {
        let limits = Limits {
            connections_max,
            connections_source_max,
        };
        let doors = Doors::new(limits, Arc::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        // Longer than what the kernel keeps for a reader that does not read.
        let page = Bytes::from(vec![b'x'; 16 << 20]);
        let router = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/long", get(|| async { page }));
        let serving = tokio::spawn(Arc::clone(&doors).serve(listener, router, stopped));
        Self {
            doors,
            address,
            stop,
            serving,
        }
    }

    /// Connects from an address of the loopback.
    async fn come(&self, last: u8) -> TcpStream {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket
            .bind(SocketAddr::from(([127, 0, 0, last], 0)))
            .unwrap();
        socket.connect(self.address).await.unwrap()
    }

    /// Waits until as many connections as wanted are silent.
    async fn silent(&self, wanted: usize) {
        loop {
            let is_silent = |seat: &Arc<Seat>| seat.pace().silent_since().is_some();
            let count = self
                .doors
                .lock()
                .values()
                .filter(|seat| is_silent(seat))
                .count();
            if count == wanted {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn close(self) {
        self.stop.send_replace(true);
        self.serving.await.unwrap();
        assert_eq!(self.doors.numbers.connections.read(), 0);
        assert!(self.doors.lock().is_empty());
    }
}

async fn ask(stream: &mut TcpStream) -> String {
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut text = String::new();
    while !text.ends_with("here") {
        let mut bytes = [0; 512];
        match stream.read(&mut bytes).await.unwrap() {
            0 => break,
            read => text.push_str(str::from_utf8(&bytes[..read]).unwrap()),
        }
    }
    text
}

/// Returns whether the other side has ended the connection.
async fn has_ended(stream: &mut TcpStream) -> bool {
    let mut bytes = Vec::new();
    // A reset is an end as well.
    stream.read_to_end(&mut bytes).await.is_err() || bytes.is_empty()
}

#[tokio::test]
async fn silent_connection_makes_room_and_the_longest_silent_goes_first() {
    let house = House::open(2, 9).await;
    let (mut first, mut second) = (house.come(1).await, house.come(2).await);
    assert!(ask(&mut first).await.ends_with("here"));
    house.silent(1).await;
    assert!(ask(&mut second).await.ends_with("here"));
    house.silent(2).await;
    let mut third = house.come(3).await;
    assert!(ask(&mut third).await.ends_with("here"));
    assert!(has_ended(&mut first).await);
    assert!(
        ask(&mut second).await.ends_with("here"),
        "it was not asked to go"
    );
    assert_eq!(house.doors.numbers.connections_shed.read(), 1);
    drop((second, third));
    house.close().await;
}

#[tokio::test]
async fn source_makes_room_for_itself_and_takes_nobody_elses() {
    let house = House::open(3, 1).await;
    let (mut other, mut own) = (house.come(1).await, house.come(2).await);
    ask(&mut other).await;
    ask(&mut own).await;
    house.silent(2).await;
    let mut next = house.come(2).await;
    assert!(ask(&mut next).await.ends_with("here"));
    assert!(has_ended(&mut own).await);
    assert!(ask(&mut other).await.ends_with("here"));
    house.silent(2).await;
    // Half a head: that one is not silent, and so cannot make room.
    next.write_all(b"GET / HT").await.unwrap();
    house.silent(1).await;
    let mut refused = house.come(2).await;
    assert!(has_ended(&mut refused).await);
    assert_eq!(house.doors.numbers.connections_refused.read(), 1);
    next.write_all(b"TP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    assert!(!has_ended(&mut next).await, "it was answered first");
    drop(other);
    house.close().await;
}

#[tokio::test]
async fn slow_connections_are_ended_and_quick_ones_are_not() {
    let house = House::open(9, 9).await;
    let (mut head, mut reader, mut quick) = (
        house.come(1).await,
        house.come(2).await,
        house.come(3).await,
    );
    ask(&mut quick).await;
    head.write_all(b"GET / HT").await.unwrap();
    reader
        .write_all(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    house.silent(1).await;
    // The answer has begun; nobody reads it.
    reader.readable().await.unwrap();
    house.doors.sweep(Instant::now());
    assert_eq!(house.doors.numbers.connections_slow.read(), 0);
    house.doors.sweep(Instant::now() + Duration::from_secs(100));
    assert!(has_ended(&mut head).await);
    let mut bytes = Vec::new();
    // Cut in the middle: a reset, or an end before its time.
    let read = reader.read_to_end(&mut bytes).await;
    assert!(read.is_err() || bytes.len() < 16 << 20);
    assert!(ask(&mut quick).await.ends_with("here"));
    drop(quick);
    house.close().await;
}

#[tokio::test]
async fn end_closes_silent_connections_and_takes_no_more() {
    let house = House::open(9, 9).await;
    let mut silent = house.come(1).await;
    ask(&mut silent).await;
    let address = house.address;
    house.close().await;
    assert!(has_ended(&mut silent).await);
    assert!(TcpStream::connect(address).await.is_err());
}
