//! `ringway curl`: reads a page over the overlay.
//!
//! Here: the target, one request, where its answer goes. Not here: HTTP (hyper), the relay's pages
//! (`control::pages`).

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use axum::http::{Method, Response, header};
use clap::Args as ClapArgs;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ringway_client::{Address, Client, Config, PublicKey, RelayAddress};
use tokio::time::timeout;

use super::args::{KeyArgs, RelayArgs};
use super::runtime::{Signals, block_on};
use crate::config::parse_duration;
use crate::failure::{Failure, chain};
use crate::key_file;
use crate::relay_name::RelayName;
use crate::services::HTTP_PORT;

/// Read a page of a relay or another party over the overlay
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// What to read: a key, or a relay as it prints itself; then a port if it is not 80, and a path
    #[arg(value_name = "KEY[:PORT][/PATH] or KEY@HOST:PORT[/PATH]")]
    target: Target,

    /// Print the head of the answer too
    #[arg(short, long)]
    include: bool,

    /// Ask for the head alone
    #[arg(short = 'I', long)]
    head: bool,

    /// Write the answer to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Longest time for everything
    #[arg(short, long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    max_time: Duration,

    #[command(flatten)]
    relay: RelayArgs,

    #[command(flatten)]
    key: KeyArgs,
}

const EXAMPLES: &str = "\
Examples:
  ringway curl KEY@127.0.0.1:7100/health                   a relay's own health
  ringway curl --relay KEY@127.0.0.1:7100 KEY/metrics      of another relay, through that one
  ringway curl --relay KEY@127.0.0.1:7100 KEY:8080/        a web service that a peer exposes
  ringway curl KEY66@127.0.0.1:7101/health                 the same over dmsg: a key of 66 digits
  ringway curl --key-file admin.key -o cpu.pb.gz \\
      'KEY@127.0.0.1:7100:81/debug/pprof/profile?seconds=10'

Without --key-file each call has a new key; port 81 of a relay answers only those of services.debug.
Exits with 1 when there is no answer, or one whose status is not 2xx.";

/// What to read.
#[derive(Debug, Clone, PartialEq)]
struct Target {
    address: Address,
    /// The relay that it names.
    relay: Option<RelayName>,
    path: String,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix("http://").unwrap_or(text);
        let (place, path) = match text.find(['/', '?']) {
            Some(at) => text.split_at(at),
            None => (text, "/"),
        };
        let path = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("/{path}"),
        };
        if let Some((key, host)) = place.split_once('@') {
            // Behind the relay's own port there may be that of its service.
            let (relay, port) = match host.rsplit_once(':') {
                Some((rest, port)) if rest.parse::<std::net::SocketAddr>().is_ok() => {
                    (format!("{key}@{rest}"), port_of(port)?)
                }
                Some((rest, port)) if !rest.starts_with('[') && rest.contains(':') => {
                    (format!("{key}@{rest}"), port_of(port)?)
                }
                _ => (place.to_owned(), HTTP_PORT),
            };
            let relay: RelayName = relay.parse()?;
            return Ok(Self {
                address: Address::new(relay.key, port),
                relay: Some(relay),
                path,
            });
        }
        let (key, port) = match place.split_once(':') {
            Some((key, port)) => (key, port_of(port)?),
            None => (place, HTTP_PORT),
        };
        let hint = "expected KEY/PATH with a key of 64 lower-case hex digits (66 for dmsg), or \
                    KEY@HOST:PORT/PATH";
        let key = PublicKey::parse_any(key).map_err(|error| format!("{error}; {hint}"))?;
        Ok(Self {
            address: Address::new(key, port),
            relay: None,
            path,
        })
    }
}

fn port_of(text: &str) -> Result<u16, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is no port: expected 0 to 65535"))
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let dialect = args.target.address.key.dialect();
    let identity = key_file::identity(args.key.key_file.as_deref(), dialect)?;
    block_on(async {
        let mut signals = Signals::take()?;
        let work = async {
            let relays = relays(args).await?;
            let config = Config {
                answer_ping: false,
                ..Config::new(relays)
            };
            let client = Client::connect(identity, config)
                .await
                .map_err(|error| Failure::host("no session", error))?;
            let outcome = read(args, &client).await;
            client.close().await;
            outcome
        };
        tokio::select! {
            outcome = timeout(args.max_time, work) => outcome.unwrap_or_else(|_| {
                let limit = args.max_time;
                Err(Failure::Check(format!("no whole answer within {limit:?} (--max-time)")))
            }),
            () = signals.next() => Err(Failure::Check("interrupted".to_owned())),
        }
    })
}

async fn relays(args: &Args) -> Result<Vec<RelayAddress>, Failure> {
    match (&args.target.relay, args.relay.are_named()) {
        (Some(name), false) => {
            args.relay.admits(name)?;
            Ok(vec![RelayAddress::new(name.key, name.resolve()?)])
        }
        _ => args.relay.find(&args.key).await,
    }
}

/// Asks, and writes what comes.
async fn read(args: &Args, client: &Client) -> Result<(), Failure> {
    let Target { address, path, .. } = &args.target;
    let no_answer = |error: &(dyn std::error::Error + 'static)| {
        Failure::Check(format!("no answer from {address}: {}", chain(error)))
    };
    let stream = client
        .dial(*address)
        .await
        .map_err(|error| no_answer(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| no_answer(&error))?;
    let connection = tokio::spawn(connection);
    let method = match args.head {
        true => Method::HEAD,
        false => Method::GET,
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, address.to_string())
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Failure::Usage(format!("{path:?} is no path: {error}")))?;
    let answer = sender
        .send_request(request)
        .await
        .map_err(|error| no_answer(&error))?;
    let status = answer.status();
    write(args, answer).await?;
    drop(sender);
    // The page is there; how the stream ends does not matter.
    drop(connection.await);
    match status.is_success() {
        true => Ok(()),
        false => Err(Failure::Check(format!("{address} answers {status}"))),
    }
}

/// Writes the answer where it belongs, as it comes.
async fn write(args: &Args, answer: Response<Incoming>) -> Result<(), Failure> {
    let mut out: Box<dyn Write> = match &args.output {
        Some(path) => {
            let file = File::create(path).map_err(|error| {
                Failure::host(format!("cannot write {} (--output)", path.display()), error)
            })?;
            Box::new(file)
        }
        None => Box::new(io::stdout().lock()),
    };
    let mut put = |bytes: &[u8]| match out.write_all(bytes).and_then(|()| out.flush()) {
        // A reader that went away has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::host("cannot write the answer", error)),
        Ok(()) => Ok(true),
    };
    if (args.include || args.head) && !put(&head(&answer))? {
        return Ok(());
    }
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let text = chain(&error);
            Failure::Check(format!("the answer ended before it was whole: {text}"))
        })?;
        if let Some(bytes) = frame.data_ref()
            && !put(bytes)?
        {
            return Ok(());
        }
    }
    Ok(())
}

/// Returns the head of an answer as it stands on the wire.
fn head(answer: &Response<Incoming>) -> Vec<u8> {
    let mut head = format!("{:?} {}\r\n", answer.version(), answer.status()).into_bytes();
    for (name, value) in answer.headers() {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

const USER_AGENT: &str = concat!("ringway/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_is_a_key_with_port_and_path_or_a_relay() {
        let key = "ab".repeat(32);
        let cases = [
            (key.clone(), 80, None, "/"),
            (format!("{key}/health"), 80, None, "/health"),
            (format!("http://{key}:8080/a?b=1"), 8_080, None, "/a?b=1"),
            (format!("{key}?x"), 80, None, "/?x"),
            (
                format!("{key}@127.0.0.1:7100/health"),
                80,
                Some("127.0.0.1:7100"),
                "/health",
            ),
            (
                format!("{key}@127.0.0.1:7100:81/debug"),
                81,
                Some("127.0.0.1:7100"),
                "/debug",
            ),
            (format!("{key}@[::1]:7100:81"), 81, Some("[::1]:7100"), "/"),
            (format!("{key}@[::1]:7100/x"), 80, Some("[::1]:7100"), "/x"),
            (
                format!("{key}@relay.example:7100:81/x"),
                81,
                Some("relay.example:7100"),
                "/x",
            ),
        ];
        for (text, port, relay, path) in cases {
            let target: Target = text.parse().unwrap();
            assert_eq!((target.address.port, target.path.as_str()), (port, path));
            let named = target.relay.map(|relay| relay.to_string());
            assert_eq!(named, relay.map(|relay| format!("{key}@{relay}")), "{text}");
        }
    }

    #[test]
    fn wrong_targets_say_what_was_expected() {
        let key = "ab".repeat(32);
        for (text, expected) in [
            ("nonsense/health".to_owned(), "64 lower-case hex digits"),
            (format!("{key}:99999/"), "\"99999\" is no port"),
            (format!("{key}@127.0.0.1:7100:x/"), "\"x\" is no port"),
        ] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
