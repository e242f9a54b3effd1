//! Addresses. Every address of 127.0.0.0/8 is local on Linux, so each cluster takes one 127.X.0.0/16 for itself: its Services
//! get their ClusterIPs there and its processes listen there, and no two clusters meet on a port.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, bail};

/// One 127.X.0.0/16, ours for as long as this value lives.
#[derive(Debug)]
pub struct Range {
    second: u8,
    next_port: AtomicU16,
    /// An abstract socket is the lock: it belongs to the same network namespace as the addresses, needs no file, and is
    /// gone as soon as its process is.
    _lock: UnixListener,
}

impl Range {
    /// Takes a free range. `usable` is asked about each before it is taken, so that a caller can refuse one.
    pub fn take(mut usable: impl FnMut(&Self) -> bool) -> Result<Self> {
        for second in 64..=250 {
            let name = SocketAddr::from_abstract_name(format!("kubectl-mesh/127.{second}")).context("naming a lock")?;
            let Ok(lock) = UnixListener::bind_addr(&name) else {
                continue;
            };
            let range = Self { second, next_port: AtomicU16::new(20_000), _lock: lock };
            if usable(&range) {
                return Ok(range);
            }
        }
        bail!("all of 127.64.0.0 to 127.250.0.0 is taken by other test clusters; run `tests/cluster down`, or end them")
    }

    /// The X of 127.X.0.0/16.
    pub fn second(&self) -> u8 {
        self.second
    }

    /// The half that Services get their addresses from.
    pub fn services(&self) -> String {
        format!("127.{}.0.0/17", self.second)
    }

    /// Where the processes of the cluster listen: in the other half.
    pub fn host(&self) -> Ipv4Addr {
        Ipv4Addr::new(127, self.second, 255, 1)
    }

    /// A port of [`Range::host`] that nobody listens on. It is given out once: two processes that start together never get
    /// the same. A program of this machine may listen on all addresses, so a port is tried first.
    pub fn free_port(&self) -> Result<u16> {
        loop {
            let port = self.next_port.fetch_add(1, Ordering::Relaxed);
            match TcpListener::bind((self.host(), port)) {
                Ok(_) => return Ok(port),
                Err(error) if error.kind() == ErrorKind::AddrInUse => {}
                Err(error) => return Err(error).with_context(|| format!("finding a free port of {}", self.host())),
            }
        }
    }
}

/// Fails with what to do about it where this user may not listen on port 443, as every istiod does.
pub fn check_https_port(range: &Range) -> Result<()> {
    if let Err(error) = TcpListener::bind((range.host(), 443)) {
        bail!(
            "cannot listen on {}:443, where the API server calls istiod ({error}): run the tests as root, or allow it with \
             `sudo sysctl net.ipv4.ip_unprivileged_port_start=443`",
            range.host()
        );
    }
    Ok(())
}
