//! The port of a relay on its own network, the same after a restart.
//!
//! Here: the file and whether the port in it is still free. Not here: listening.
//!
//! A file that cannot be read costs no more than another port, which the announcement tells of.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use crate::small_file;

/// The file that keeps a port.
#[derive(Debug, Clone)]
pub(crate) struct PortFile {
    path: PathBuf,
}

impl PortFile {
    /// Returns the file that belongs to the relay with this key file.
    pub(crate) fn beside(key_file: &Path) -> Self {
        Self {
            path: key_file.with_file_name("lan.port"),
        }
    }

    /// Returns where to listen: with the port from before if it is free, else with one that the kernel
    /// chooses.
    pub(crate) fn listen(&self, ip: IpAddr) -> SocketAddr {
        let before = self.read().map(|port| SocketAddr::new(ip, port));
        // The listener is gone at once and leaves nothing behind: it has had no connection.
        let free = before.filter(|address| TcpListener::bind(address).is_ok());
        free.unwrap_or_else(|| SocketAddr::new(ip, 0))
    }

    /// Keeps the port that the relay listens on.
    pub(crate) fn keep(&self, port: u16) {
        if self.read() == Some(port) {
            return;
        }
        if let Err(error) = small_file::write(&self.path, format!("{port}\n").as_bytes()) {
            let path = self.path.display();
            tracing::warn!(%error, %path, "the port is not kept: the next start takes another one");
        }
    }

    fn read(&self) -> Option<u16> {
        let bytes = match small_file::read(&self.path, FILE_BYTES_MAX) {
            Ok(bytes) => bytes?,
            Err(error) => {
                let path = self.path.display();
                tracing::warn!(%error, %path, "the port from before is not known");
                return None;
            }
        };
        let text = String::from_utf8(bytes).ok()?;
        text.trim().parse().ok().filter(|port| *port != 0)
    }
}

/// Longest file: five digits, and room for white space.
const FILE_BYTES_MAX: u64 = 16;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::Ipv4Addr;

    use super::*;

    const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn port_is_kept_until_somebody_else_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = PortFile::beside(&directory.path().join("relay.key"));
        assert_eq!(file.listen(HOST).port(), 0, "there is none from before");
        let holder = TcpListener::bind((HOST, 0)).unwrap();
        let port = holder.local_addr().unwrap().port();
        file.keep(port);
        assert_eq!(file.listen(HOST).port(), 0, "it is taken");
        drop(holder);
        assert_eq!(file.listen(HOST).port(), port);
        let names = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(names, 1, "nothing is left beside the file");
    }

    #[test]
    fn damaged_file_costs_another_port() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lan.port");
        let file = PortFile { path: path.clone() };
        for text in ["", "0", "-1", "65536", "seven", "7100 7101"] {
            fs::write(&path, text).unwrap();
            assert_eq!(file.read(), None, "{text:?}");
        }
        fs::write(&path, format!("{:>32}", 7100)).unwrap();
        assert_eq!(file.read(), None, "it is too long");
        file.keep(7100);
        assert_eq!(file.read(), Some(7100));
    }
}
