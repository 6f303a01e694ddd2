//! Listens on a port and sends back what comes.
//!
//! `cargo run -p ringway-client --example echo_server -- <relay key>@127.0.0.1:7100 80`
//!
//! It prints the address to give to the example `dial`. The identity is new at every start.

#![expect(clippy::print_stdout, reason = "an example prints what it does")]

use std::error::Error;

use ringway_client::{Client, Config, RelayAddress, SecretKey, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let relay: RelayAddress = args
        .next()
        .ok_or("usage: echo_server RELAY PORT")?
        .parse()?;
    let port = args
        .next()
        .ok_or("usage: echo_server RELAY PORT")?
        .parse()?;

    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    let client = Client::connect(SecretKey::from_seed(seed), Config::new([relay])).await?;
    let listener = client.listen(port)?;
    println!("{}", listener.address());

    loop {
        tokio::select! {
            stream = listener.accept() => {
                let stream = stream?;
                let peer = stream.peer();
                tokio::spawn(async move {
                    match echo(stream).await {
                        Ok(bytes) => println!("{peer}: {bytes} bytes"),
                        Err(error) => println!("{peer}: {error}"),
                    }
                });
            }
            stop = tokio::signal::ctrl_c() => {
                stop?;
                client.close().await;
                return Ok(());
            }
        }
    }
}

/// Sends back what comes until the other side ends; returns how much it was.
async fn echo(mut stream: Stream) -> std::io::Result<usize> {
    let mut buf = vec![0; 16_384];
    let mut bytes = 0;
    loop {
        let n = stream.read(&mut buf).await?;
        if n == 0 {
            stream.shutdown().await?;
            return Ok(bytes);
        }
        stream.write_all(&buf[..n]).await?;
        bytes += n;
    }
}
