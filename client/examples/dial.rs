//! Opens a stream, sends a line and prints what comes back.
//!
//! `cargo run -p ringway-client --example dial -- <relay key>@127.0.0.1:7100 <key>:80 "hello"`

#![expect(clippy::print_stdout, reason = "an example prints what it got")]

use std::error::Error;

use ringway_client::{Address, Client, Config, RelayAddress, SecretKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: dial RELAY ADDRESS TEXT";
    let mut args = std::env::args().skip(1);
    let relay: RelayAddress = args.next().ok_or(usage)?.parse()?;
    let address: Address = args.next().ok_or(usage)?.parse()?;
    let text = args.next().ok_or(usage)?;

    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    let client = Client::connect(SecretKey::from_seed(seed), Config::new([relay])).await?;
    let mut stream = client.dial(address).await?;
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    println!("{answer}");
    client.close().await;
    Ok(())
}
