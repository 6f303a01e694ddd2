//! Sockets that hold a port and are connected to nobody.
//!
//! They are in no list of `/proc/net`: only `sock_diag` tells of them. A program that binds early and
//! connects late, or never, keeps ports from everybody this way, and nothing but this list shows it.
//!
//! Here: which of them are counted, and whether the kernel tells at all. Not here: how it is asked (`diag`),
//! what a count means (whoever reads).
//!
//! Source: `TCP_BOUND_INACTIVE` in `include/net/tcp_states.h`, kernel 6.8.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use rustix::net::{AddressFamily, SocketType, bind, socket};

use super::diag;

/// Hands the local end of each such socket to `see`; false when this kernel does not tell.
pub(super) fn for_each(mut see: impl FnMut(SocketAddr)) -> io::Result<bool> {
    // One of our own must be among them: older kernels answer with an empty list.
    let own = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    // On an address of its own: a host whose ports have run out has some left there.
    bind(&own, &SocketAddr::from((OWN, 0)))?;
    let own_address = SocketAddr::try_from(rustix::net::getsockname(&own)?)
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    let mut is_told = false;
    diag::dump(BOUND_INACTIVE, &mut |socket| {
        if socket.local == own_address {
            is_told = true;
        } else {
            see(socket.local);
        }
    })?;
    Ok(is_told)
}

/// Where the own socket is bound: the last address of the loopback.
const OWN: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 254);
/// The bit of `TCP_BOUND_INACTIVE`.
const BOUND_INACTIVE: u32 = 1 << 13;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_only_holds_a_port_is_found_until_it_is_closed() {
        let address = SocketAddr::from(([127, 0, 0, 93], 0));
        let bound = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&bound, &address).unwrap();
        let local: SocketAddr = rustix::net::getsockname(&bound)
            .unwrap()
            .try_into()
            .unwrap();
        let count = || {
            let mut count = 0;
            let is_told = for_each(|seen| count += u32::from(seen == local)).unwrap();
            is_told.then_some(count)
        };
        // A kernel before 6.8 tells nothing, and that is said.
        let Some(found) = count() else { return };
        assert_eq!(found, 1);
        drop(bound);
        assert_eq!(count(), Some(0));
    }
}
