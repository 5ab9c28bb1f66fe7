//! What every HTTP server of a process has in common: its address, its listener, its limits.
//!
//! May not live here: what is answered (`telemetry::server`, `ingress`). Invariants: an address
//! without a host is this machine only; a port that cannot be had is told before anything else is
//! started; one who opens connections and says nothing holds a seat for [`HEADERS_WAIT`] at most.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::sync::Semaphore;

/// Connections that are served at once; more wait in the system's queue.
const CONNECTIONS_MAX: usize = 1_024;
/// How long the head of a request may take to arrive, and how long a connection may stay idle.
const HEADERS_WAIT: Duration = Duration::from_secs(15);
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Pause after a connection that could not be accepted (no file descriptors left).
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// A port that is ours and not served yet.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    address: SocketAddr,
}

/// Reads an address: `9090` is port 9090 for this machine only, `0.0.0.0:9090` for everybody.
///
/// # Errors
/// One sentence.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    text.parse().map_err(|_| {
        format!(
            "`{text}` is no address: write a port (`9090`, for this machine only) or an IP address \
             and a port (`0.0.0.0:9090`, for everybody)"
        )
    })
}

impl Door {
    /// Takes a port. `what` will be served there, for the sentence.
    ///
    /// # Errors
    /// One sentence, if the address cannot be had.
    pub fn open(what: &str, address: SocketAddr) -> Result<Self, String> {
        let advice = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "{what} cannot be served at {address}: the port is in use; end what listens there, \
                 or name another port"
            ),
            _ => format!("{what} cannot be served at {address}: {error}; name another address"),
        };
        let listener = TcpListener::bind(address).map_err(advice)?;
        listener.set_nonblocking(true).map_err(advice)?;
        let address = listener.local_addr().map_err(advice)?;
        Ok(Self { listener, address })
    }

    /// Where it is; the port that was given where 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until the runtime ends. Call it within one.
    ///
    /// # Errors
    /// If the runtime does not take the listener.
    pub fn serve(self, router: Router) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        tokio::spawn(accept(listener, router));
        Ok(())
    }
}

async fn accept(listener: tokio::net::TcpListener, router: Router) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(seat) = seats.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS_WAIT)
                .max_buf_size(HEAD_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "a connection ended");
            }
            drop(seat);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{Door, address};

    #[test]
    fn an_address_without_a_host_is_this_machine_only() {
        assert_eq!(address("9090").unwrap().to_string(), "127.0.0.1:9090");
        assert_eq!(address("0.0.0.0:9090").unwrap().to_string(), "0.0.0.0:9090");
        assert_eq!(address("[::1]:9090").unwrap().to_string(), "[::1]:9090");
        for wrong in ["", "localhost:9090", "70000", ":9090", "127.0.0.1"] {
            let text = address(wrong).unwrap_err();
            assert!(text.contains("is no address: write a port"), "{text}");
        }
    }

    #[test]
    fn a_port_in_use_is_one_sentence() {
        let first = Door::open("metrics", address("0").unwrap()).unwrap();
        let text = Door::open("metrics", first.address()).unwrap_err();
        let want = format!("metrics cannot be served at {}: the port is in use", first.address());
        assert!(text.starts_with(&want), "{text}");
    }
}
