//! Sockets before they enter a ring.
//!
//! Here: listening sockets, whose options every accepted socket inherits, and outbound sockets. Not
//! here: anything after that.
//!
//! Source: tcp(7), socket(7), ip(7); inheritance measured (docs/internals/uring.md E).

#![expect(
    unsafe_code,
    reason = "two options of ip(7) that no safe wrapper has; docs/internals/unsafe.md"
)]

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use socket2::Domain;
use socket2::Protocol;
use socket2::Socket;
use socket2::Type;

/// How a listening socket is made.
#[derive(Debug, Clone)]
pub struct ListenOptions {
    /// Address to listen on; port 0 takes a free one.
    pub address: SocketAddr,
    /// Connections that may wait to be accepted; the kernel clips it to `net.core.somaxconn`.
    pub backlog: u32,
    /// Congestion control of the accepted sockets; the host's default if absent.
    pub congestion: Option<String>,
    /// Whether a close ends an accepted connection with FIN, as ordinary programs do, instead of a reset;
    /// the relay never asks for it.
    pub closes_with_fin: bool,
}

/// Why no listening socket could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Another socket has the address.
    #[error("{address} is in use: stop the other process (see 'ss -ltnp') or choose another port")]
    AddressInUse {
        /// The address.
        address: SocketAddr,
    },
    /// The host does not have the address.
    #[error("{address} is not an address of this host: see 'ip addr'")]
    AddressUnknown {
        /// The address.
        address: SocketAddr,
    },
    /// The kernel does not know the congestion control, or does not allow it.
    #[error(
        "congestion control '{name}' is not available: load tcp_{name}, or choose one of \
         /proc/sys/net/ipv4/tcp_allowed_congestion_control"
    )]
    Congestion {
        /// The name asked for.
        name: String,
    },
    /// Anything else.
    #[error("listening on {address}: {operation} failed")]
    Local {
        /// The address.
        address: SocketAddr,
        /// The system call.
        operation: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// Ports below 1,024 are privileged.
    #[error(
        "no permission to listen on {address}: use a port above 1023, or give the binary \
         CAP_NET_BIND_SERVICE"
    )]
    Permission {
        /// The address.
        address: SocketAddr,
    },
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: SocketAddr,
}

impl Listener {
    /// Binds and listens.
    ///
    /// Several listeners may share an address if all come from here (`SO_REUSEPORT`): the kernel deals
    /// new connections out among them.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn bind(options: &ListenOptions) -> Result<Self, ListenError> {
        let address = options.address;
        let local = |operation| fault(address, operation);
        let domain = Domain::for_address(address);
        let socket =
            Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).map_err(local("socket"))?;
        socket
            .set_reuse_address(true)
            .map_err(local("SO_REUSEADDR"))?;
        socket.set_reuse_port(true).map_err(local("SO_REUSEPORT"))?;
        set_data_options(&socket, options.closes_with_fin).map_err(local("setsockopt"))?;
        if let Some(name) = &options.congestion {
            socket
                .set_tcp_congestion(name.as_bytes())
                .map_err(|_| ListenError::Congestion { name: name.clone() })?;
        }
        socket.bind(&address.into()).map_err(local("bind"))?;
        let backlog = i32::try_from(options.backlog).unwrap_or(i32::MAX);
        socket.listen(backlog).map_err(local("listen"))?;
        let bound = socket.local_addr().map_err(local("getsockname"))?;
        let address = bound.as_socket().unwrap_or(address);
        Ok(Self { socket, address })
    }

    /// Checks that no socket listens on `address`, not even one that shares it.
    ///
    /// # Errors
    /// [`ListenError::AddressInUse`], or what else keeps an address from being used.
    pub fn check_unused(address: SocketAddr) -> Result<(), ListenError> {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))
            .map_err(fault(address, "socket"))?;
        // Tolerates connections of an earlier process that are still closing.
        socket
            .set_reuse_address(true)
            .map_err(fault(address, "SO_REUSEADDR"))?;
        socket.bind(&address.into()).map_err(fault(address, "bind"))
    }

    /// Returns the address, with the port the kernel chose.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) const fn socket(&self) -> &Socket {
        &self.socket
    }
}

/// Turns a failed system call into an error with the fix in its text.
fn fault(address: SocketAddr, operation: &'static str) -> impl Fn(io::Error) -> ListenError {
    move |source| match Errno::from_io_error(&source) {
        Some(Errno::ADDRINUSE) => ListenError::AddressInUse { address },
        Some(Errno::ADDRNOTAVAIL) => ListenError::AddressUnknown { address },
        Some(Errno::ACCESS | Errno::PERM) => ListenError::Permission { address },
        _ => ListenError::Local {
            address,
            operation,
            source,
        },
    }
}

/// How an outbound socket is made.
#[derive(Debug, Clone, Default)]
pub struct ConnectOptions {
    /// Address to connect from; the kernel's choice if absent or unspecified. With a port, exactly that
    /// one.
    pub source: Option<SocketAddr>,
    /// Lowest and highest port that the kernel may choose for this socket, where it does choose and
    /// knows the option (Linux 6.3); within the host's range.
    pub port_range: Option<(u16, u16)>,
    /// Congestion control; the host's default if absent.
    pub congestion: Option<String>,
    /// Whether a close ends the connection with FIN, as ordinary programs do, instead of a reset. Then
    /// the port may stay in `TIME_WAIT`, which is why the relay never asks for it.
    pub closes_with_fin: bool,
}

/// Makes a socket that is not connected yet.
pub(super) fn outbound(target: SocketAddr, options: &ConnectOptions) -> io::Result<OwnedFd> {
    let socket = Socket::new(
        Domain::for_address(target),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    set_data_options(&socket, options.closes_with_fin)?;
    if let Some(name) = &options.congestion {
        socket.set_tcp_congestion(name.as_bytes())?;
    }
    // Source: ip(7). A socket that is bound before it is connected takes its port from every target at
    // once, and ports run out with EADDRINUSE at bind. With this option the kernel chooses at connect,
    // by the whole pair of addresses, and they run out with EADDRNOTAVAIL; both mean the same here. A socket
    // that is not bound does so anyway.
    if options.source.is_some() {
        set_ip_option(&socket, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
    }
    if let Some((first, last)) = options.port_range {
        let range = u32::from(last) << 16 | u32::from(first);
        match set_ip_option(&socket, IP_LOCAL_PORT_RANGE, range) {
            // Kernels before 6.3 do not know it.
            Err(error) if Errno::from_io_error(&error) != Some(Errno::NOPROTOOPT) => {
                return Err(error);
            }
            Ok(()) | Err(_) => {}
        }
    }
    if let Some(source) = options.source {
        // Tolerates what an earlier connection from the same port to another target has left.
        socket.set_reuse_address(true)?;
        socket.bind(&source.into())?;
    }
    Ok(socket.into())
}

/// Checks that a socket can be bound to `source`, whose port is left open.
///
/// # Errors
/// `EADDRNOTAVAIL` when the host does not have the address.
pub(crate) fn check_source(source: IpAddr) -> io::Result<()> {
    let address = SocketAddr::new(source, 0);
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    set_ip_option(&socket, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
    socket.bind(&address.into())
}

/// Sets an option of ip(7) whose value is four bytes. IPv6 sockets take them too.
fn set_ip_option(socket: &Socket, option: libc::c_int, value: u32) -> io::Result<()> {
    let value = &raw const value;
    // SAFETY: the value is four bytes on this stack, which the kernel reads during the call only.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            option,
            value.cast(),
            VALUE_BYTES,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Bytes of an option's value.
const VALUE_BYTES: libc::socklen_t = 4;

/// `IP_LOCAL_PORT_RANGE` of `linux/in.h`: lowest port in the low half, highest in the high half (6.3).
const IP_LOCAL_PORT_RANGE: libc::c_int = 51;

/// Options of every data socket: no delay for small frames; a close that resets and leaves no
/// `TIME_WAIT` behind, because what had to be said was sent and acknowledged before the close, and
/// thousands of closed sessions must not keep their ports for a minute.
fn set_data_options(socket: &Socket, closes_with_fin: bool) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    if closes_with_fin {
        return Ok(());
    }
    socket.set_linger(Some(Duration::ZERO))
}
