//! Learning that the master is gone, without looking again and again.
//!
//! Its pid file doesn't tell: `nginx -t` touches it as well, and a killed master leaves it behind. The kernel does,
//! by a descriptor of the process (`pidfd_open(2)`).

use std::{io, os::fd::OwnedFd};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};
use tokio::io::unix::AsyncFd;

use super::master::Master;

/// Waits for the end of one master.
#[derive(Debug)]
pub struct Ended {
    // With the process id it identifies the process.
    ticks: u64,
    pid: i32,
    // None where it had ended already.
    process: Option<AsyncFd<OwnedFd>>,
}

impl Ended {
    /// Begins to wait for the end of this master.
    ///
    /// # Errors
    /// When there is no descriptor left, or the kernel has none of this kind (before Linux 5.3).
    pub fn of(master: &Master) -> io::Result<Self> {
        let pid = Pid::from_raw(master.pid).ok_or(io::ErrorKind::InvalidInput)?;
        let process = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(process) => Some(watched(process)?),
            Err(Errno::SRCH) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Self {
            ticks: master.ticks,
            pid: master.pid,
            process,
        })
    }

    /// Whether it is this master that is waited for.
    pub fn is_of(&self, master: &Master) -> bool {
        (self.pid, self.ticks) == (master.pid, master.ticks)
    }

    /// Returns when it has ended.
    pub async fn ended(&self) {
        let Some(process) = &self.process else { return };
        // A descriptor that can't be waited for tells nothing more; the slow check remains.
        if process.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe, for what isn't so here: an OwnedFd keeps its descriptor open for as long as it is watched"
)]
fn watched(process: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(process)
}
