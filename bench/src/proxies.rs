//! The contenders that carry plain bytes: how they are configured, started and found.
//!
//! Here: `HAProxy`, nginx, our byte pipe. Not here: our relay (`programs`), what they are measured with.
//!
//! All of them listen on one port and forward to another, one thread on each core they are given. What a
//! contender is called says how it differs from its defaults.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::programs::{Program, Programs, list, wait_until_free};

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contender {
    /// Our relay.
    Ringway,
    /// The byte pipe on the raw ring.
    Pipe,
    /// `HAProxy` as it comes.
    Haproxy,
    /// `HAProxy` with buffers of 64 KiB.
    HaproxyLarge,
    /// `HAProxy` that splices, through pipes of 1 MiB.
    HaproxySplice,
    /// nginx with buffers of 64 KiB.
    Nginx,
}

impl Contender {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 6] = [
        Self::Ringway,
        Self::Pipe,
        Self::Haproxy,
        Self::HaproxyLarge,
        Self::HaproxySplice,
        Self::Nginx,
    ];

    /// Returns the name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ringway => "ringway",
            Self::Pipe => "raw ring",
            Self::Haproxy => "HAProxy",
            Self::HaproxyLarge => "HAProxy 64K",
            Self::HaproxySplice => "HAProxy splice",
            Self::Nginx => "nginx 64K",
        }
    }

    /// Returns whether it can have more than one core. The process that is measured must do all the work,
    /// and nginx has one for each core.
    #[must_use]
    pub const fn takes_cores(self, count: usize) -> bool {
        count == 1 || !matches!(self, Self::Nginx)
    }

    const fn program(self) -> Option<Peer> {
        match self {
            Self::Ringway | Self::Pipe => None,
            Self::Haproxy | Self::HaproxyLarge | Self::HaproxySplice => Some(Peer::Haproxy),
            Self::Nginx => Some(Peer::Nginx),
        }
    }
}

/// Programs of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    Haproxy,
    Nginx,
}

/// What of others' programs is on this host.
#[derive(Debug, Clone, Default)]
pub struct Installed {
    /// Version of `HAProxy`.
    pub haproxy: Option<String>,
    /// Version of nginx, and its stream module, if that is not part of it.
    pub nginx: Option<(String, Option<PathBuf>)>,
}

impl Installed {
    /// Looks for them.
    #[must_use]
    pub fn look() -> Self {
        let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        let haproxy = said("haproxy", "-v").map(|text| {
            let line = first(&text);
            line.split(" - ").next().unwrap_or_default().to_owned()
        });
        // The version first, then all settings.
        let nginx = said("nginx", "-V").and_then(|text| {
            let version = first(&text).rsplit(": ").next()?.to_owned();
            let module = Path::new(STREAM_MODULE);
            match (has_stream(&text), module.exists()) {
                (true, _) => Some((version, None)),
                (false, true) => Some((version, Some(module.to_owned()))),
                (false, false) => None,
            }
        });
        Self { haproxy, nginx }
    }

    /// Returns whether a contender can take part.
    #[must_use]
    pub const fn has(&self, contender: Contender) -> bool {
        match contender.program() {
            None => true,
            Some(Peer::Haproxy) => self.haproxy.is_some(),
            Some(Peer::Nginx) => self.nginx.is_some(),
        }
    }

    /// Returns what is missing, each with how to get it.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let haproxy = "HAProxy is not installed and is left out: apt-get install haproxy";
        let nginx = "nginx with its stream module is not installed and is left out: apt-get install \
                     nginx-light libnginx-mod-stream";
        let missing = [
            (self.haproxy.is_none(), haproxy),
            (self.nginx.is_none(), nginx),
        ];
        missing
            .into_iter()
            .filter(|(is_missing, _)| *is_missing)
            .map(|(_, text)| text)
            .collect()
    }
}

impl Programs {
    /// Starts a proxy with one thread on each of `cores`; it listens on the first port and forwards to the
    /// second.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn proxy(
        &self,
        contender: Contender,
        installed: &Installed,
        cores: &[u32],
        ports: [u16; 2],
    ) -> Result<Program, String> {
        let name = contender.name();
        wait_until_free(ports[0])?;
        let file = self.scratch.join(format!("{}.cfg", name.replace(' ', "-")));
        let text = match contender.program() {
            Some(Peer::Haproxy) => haproxy_config(contender, cores.len(), ports),
            Some(Peer::Nginx) => {
                let module = installed.nginx.as_ref().and_then(|nginx| nginx.1.as_ref());
                nginx_config(module.map(PathBuf::as_path), &self.scratch, ports)
            }
            None => String::new(),
        };
        fs::write(&file, text)
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        let mut command = Command::new("taskset");
        command.args(["-c", &list(cores)]);
        match contender.program() {
            Some(Peer::Haproxy) => command.args(["haproxy", "-db", "-f"]).arg(&file),
            Some(Peer::Nginx) => command.args(["nginx", "-e", "stderr", "-c"]).arg(&file),
            None => command
                .arg(self.directory.join("pipe"))
                .args(["--cores", &list(cores)])
                .args(["--listen", &format!("127.0.0.1:{}", ports[0])])
                .args(["--target", &format!("127.0.0.1:{}", ports[1])]),
        };
        let child = command
            .env("PATH", path_with_sbin())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        Program { child }.listening(name, ports[0])
    }
}

/// The whole configuration of `HAProxy`: what it does by itself in TCP mode, but for what its name says.
fn haproxy_config(contender: Contender, threads: usize, ports: [u16; 2]) -> String {
    let tuning = match contender {
        Contender::HaproxyLarge => "  tune.bufsize 65536\n",
        Contender::HaproxySplice => "  tune.pipesize 1048576\n",
        _ => "",
    };
    let splice = match contender {
        Contender::HaproxySplice => "  option splice-request\n  option splice-response\n",
        _ => "",
    };
    let [listen, target] = ports;
    format!(
        "global\n  nbthread {threads}\n{tuning}\
         defaults\n  mode tcp\n{splice}  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
         frontend in\n  bind 127.0.0.1:{listen}\n  default_backend out\n\
         backend out\n  server sink 127.0.0.1:{target}\n"
    )
}

/// The whole configuration of nginx: one process, so that it is the one that is measured.
fn nginx_config(module: Option<&Path>, scratch: &Path, ports: [u16; 2]) -> String {
    let load = module.map_or_else(String::new, |module| {
        format!("load_module {};\n", module.display())
    });
    let [listen, target] = ports;
    let pid = scratch.join("nginx.pid");
    format!(
        "{load}daemon off;\nmaster_process off;\npid {};\nevents {{ worker_connections 16384; }}\n\
         stream {{\n  proxy_buffer_size 64k;\n  proxy_timeout 1h;\n  tcp_nodelay on;\n  server {{\n    \
         listen 127.0.0.1:{listen};\n    proxy_pass 127.0.0.1:{target};\n  }}\n}}\n",
        pid.display()
    )
}

/// Returns what a program prints when it is called with `argument`, on either stream.
fn said(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program)
        .arg(argument)
        .env("PATH", path_with_sbin())
        .output()
        .ok()?;
    let both = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&both).into_owned())
}

/// Returns whether the stream module is part of an nginx with this list of settings.
fn has_stream(settings: &str) -> bool {
    settings
        .split_ascii_whitespace()
        .any(|word| word == "--with-stream")
}

/// Debian keeps them where not every user looks.
fn path_with_sbin() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin")
}

/// Where Debian and Ubuntu have the stream module.
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_not_tuned_and_the_others_are_as_they_are_called() {
        let plain = haproxy_config(Contender::Haproxy, 2, [1, 2]);
        assert!(plain.contains("nbthread 2"));
        assert!(!plain.contains("tune.") && !plain.contains("splice"));
        let large = haproxy_config(Contender::HaproxyLarge, 1, [1, 2]);
        assert!(large.contains("bufsize 65536") && !large.contains("splice"));
        let splice = haproxy_config(Contender::HaproxySplice, 1, [1, 2]);
        assert!(splice.contains("splice-request") && splice.contains("splice-response"));
    }

    #[test]
    fn nginx_loads_its_module_only_if_it_must() {
        let scratch = Path::new("/tmp");
        assert!(!nginx_config(None, scratch, [1, 2]).contains("load_module"));
        let text = nginx_config(Some(Path::new("/m.so")), scratch, [1, 2]);
        assert!(text.starts_with("load_module /m.so;"));
        assert!(has_stream("--with-a --with-stream --x"));
        assert!(!has_stream("--with-stream=dynamic"));
    }

    #[test]
    fn who_is_missing_is_named() {
        let none = Installed::default();
        assert_eq!(none.missing().len(), 2);
        let left: Vec<_> = Contender::ALL
            .into_iter()
            .filter(|it| none.has(*it))
            .collect();
        assert_eq!(left, [Contender::Ringway, Contender::Pipe]);
    }
}
