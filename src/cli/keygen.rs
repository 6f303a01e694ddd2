//! `ringway keygen`: makes a key file, takes a key over from another relay, or shows the address of one.

use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, ValueEnum};
use ringway_proto::dmsg;
use ringway_proto::key::SecretKey;
use serde::Deserialize;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::failure::Failure;
use crate::key_file::{self, Replace, Secret};
use crate::output::say;
use crate::small_file;

/// Make a key file, take a key over, or show the public key of one
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Key file [default: relay.key in the state directory, dmsg.key for that dialect]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// What the key is for: peers of Ringway, or clients of Skywire's dmsg
    #[arg(long, value_enum, default_value_t = KeyDialect::Native)]
    dialect: KeyDialect,

    /// Take the key of a dmsg server over from its configuration (JSON); its address stays the same
    #[arg(long, value_name = "CONFIG", conflicts_with = "show")]
    import: Option<PathBuf>,

    /// Replace a key that is already there; the party cannot be reached under its old key any more
    #[arg(long, conflicts_with = "show")]
    force: bool,

    /// Show the public key of the file and change nothing
    #[arg(long)]
    show: bool,

    /// Directory of the default key file [default:
    /// ringway under the XDG state directory, else ~/.local/state/ringway]
    #[arg(
        long,
        value_name = "DIRECTORY",
        env = "RINGWAY_STATE_DIR",
        hide_env_values = true
    )]
    state_dir: Option<PathBuf>,
}

/// The dialects that keys are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KeyDialect {
    /// ed25519
    Native,
    /// secp256k1
    Dmsg,
}

const EXAMPLES: &str = "\
Examples:
  ringway keygen relay.key          make relay.key with mode 0600 and print its public key
  ringway keygen --show relay.key   print the public key of relay.key
  ringway keygen --dialect dmsg --import dmsg-server.json dmsg.key
                                    take the key of a dmsg server over";

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    match (args.dialect, &args.import) {
        (KeyDialect::Native, None) => run_in::<SecretKey>(args, "relay.key", key_file::generate),
        (KeyDialect::Native, Some(_)) => Err(Failure::Usage(
            "--import takes keys of dmsg servers: add --dialect dmsg".to_owned(),
        )),
        (KeyDialect::Dmsg, None) => {
            run_in::<dmsg::key::SecretKey>(args, "dmsg.key", key_file::generate)
        }
        (KeyDialect::Dmsg, Some(config)) => {
            let secret = imported(config)?;
            run_in(args, "dmsg.key", || Ok(secret))
        }
    }
}

fn run_in<S: Secret>(
    args: &Args,
    name: &str,
    make: impl FnOnce() -> Result<S, key_file::KeyFileError>,
) -> Result<(), Failure> {
    let path = match &args.file {
        Some(path) => path.clone(),
        None => key_file::state_directory(args.state_dir.as_deref())?.join(name),
    };
    let secret = if args.show {
        key_file::load::<S>(&path)?
    } else {
        let replace = if args.force {
            Replace::Allowed
        } else {
            Replace::Never
        };
        let secret = make()?;
        key_file::store(&path, &secret, replace)?;
        secret
    };
    say(format_args!("{}", secret.public()))
}

/// Longest configuration of a dmsg server that is read.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// What is read of a dmsg server's configuration. Its other keys are another program's.
#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct ServerConfig {
    secret_key: String,
    public_key: Option<String>,
}

/// Reads the key of a dmsg server's configuration.
fn imported(path: &Path) -> Result<dmsg::key::SecretKey, Failure> {
    let wrong = |what: &dyn std::fmt::Display| {
        let path = path.display();
        Failure::Check(format!(
            "{path} is no configuration of a dmsg server: {what}"
        ))
    };
    let text = small_file::read(path, CONFIG_BYTES_MAX).map_err(|error| wrong(&error))?;
    let text = Zeroizing::new(text.ok_or_else(|| wrong(&"there is no such file"))?);
    let config: ServerConfig = serde_json::from_slice(&text).map_err(|error| wrong(&error))?;
    let secret = key_file::parse_hex::<dmsg::key::SecretKey>(&config.secret_key)
        .map_err(|what| wrong(&format_args!("secret_key: {what}")))?;
    match &config.public_key {
        Some(noted) if *noted != secret.public().to_string() => {
            let what =
                "its public_key is not that of its secret_key; take the line out that is wrong";
            Err(wrong(&what))
        }
        _ => Ok(secret),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The responder of proto/testdata/dmsg.txt.
    const SECRET: &str = "6147e3832040f30d9520a472032976dc81d9d4b24a3ef5993ec282727610ce3f";
    const PUBLIC: &str = "02087c845fc773c8954e279795ecc04ed6d62593edfc6a085e856d9b0a1b325719";

    fn import(text: &str) -> Result<String, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        imported(&path)
            .map(|secret| secret.public().to_string())
            .map_err(|failure| failure.to_string())
    }

    #[test]
    fn key_of_a_server_keeps_its_address() {
        let config = format!(
            "{{\"public_key\":\"{PUBLIC}\",\"secret_key\":\"{SECRET}\",\"max_sessions\":2048}}"
        );
        assert_eq!(import(&config).unwrap(), PUBLIC);
        let bare = format!("{{\"secret_key\":\"{SECRET}\"}}");
        assert_eq!(import(&bare).unwrap(), PUBLIC);
    }

    #[test]
    fn what_is_no_key_is_named() {
        let other = PUBLIC.replace("02087c", "03087c");
        for (text, part) in [
            ("{}".to_owned(), "secret_key"),
            ("no json".to_owned(), "no configuration"),
            (
                format!("{{\"secret_key\":\"{}\"}}", "0".repeat(64)),
                "no secret key",
            ),
            ("{\"secret_key\":\"6147\"}".to_owned(), "64 characters"),
            (
                format!("{{\"public_key\":\"{other}\",\"secret_key\":\"{SECRET}\"}}"),
                "public_key",
            ),
        ] {
            let error = import(&text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains(SECRET), "secrets are not printed");
        }
    }
}
