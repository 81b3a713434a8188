//! A connection to where a server listens.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::{TcpStream, UnixStream},
};

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// An address.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// A connection to it.
#[derive(Debug)]
pub enum Dialled {
    /// To an address.
    Tcp(TcpStream),
    /// To a Unix socket.
    Unix(UnixStream),
}

impl Place {
    /// Connects, and says first on whose behalf where the server wants to know.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn dial(&self, proxy_protocol: bool) -> io::Result<Dialled> {
        match self {
            Self::Tcp(address) => {
                let mut stream = TcpStream::connect(address).await?;
                if proxy_protocol {
                    let header = proxy_header(stream.local_addr()?, stream.peer_addr()?);
                    stream.write_all(header.as_bytes()).await?;
                }
                Ok(Dialled::Tcp(stream))
            }
            Self::Unix(path) => {
                let mut stream = UnixStream::connect(path).await?;
                if proxy_protocol {
                    stream.write_all(b"PROXY UNKNOWN\r\n").await?;
                }
                Ok(Dialled::Unix(stream))
            }
        }
    }
}

/// Whether this machine has a route to an address, by its own tables: nothing is sent. Without one no server is to blame,
/// whereas the same error of a connection may have come from a router on its way.
pub(crate) fn has_route(address: SocketAddr) -> bool {
    let from: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    UdpSocket::bind(from).is_ok_and(|socket| socket.connect(address).is_ok())
}

/// Version 1 of the PROXY protocol, as any `proxy_protocol` listener reads it.
pub fn proxy_header(from: SocketAddr, to: SocketAddr) -> String {
    let family = if to.is_ipv4() { "TCP4" } else { "TCP6" };
    format!(
        "PROXY {family} {} {} {} {}\r\n",
        from.ip(),
        to.ip(),
        from.port(),
        to.port()
    )
}

impl AsyncRead for Dialled {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Dialled {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
