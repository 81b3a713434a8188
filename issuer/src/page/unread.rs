//! Cuts off whoever asks and doesn't read: an answer that isn't taken keeps a place for ever.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// From the first byte that finds no room on its way to the moment when all that was to be written has, or …
const LIMIT: Duration = Duration::from_secs(60);
/// … so many bytes were taken: whoever reads slowly goes on reading.
const ENOUGH: usize = 64 * 1024;

/// A connection whose other end has to take what it asked for. A stream of events waits as long as it likes: what it
/// says finds room at once.
pub(super) struct Limited<S> {
    stream: S,
    late: Pin<Box<Sleep>>,
    is_behind: bool,
    /// Bytes, since the time began to run.
    taken: usize,
}

impl<S> Limited<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            late: Box::pin(sleep(LIMIT)),
            is_behind: false,
            taken: 0,
        }
    }

    /// What became of an attempt to write so many bytes.
    fn judge(
        &mut self,
        wrote: Poll<io::Result<usize>>,
        offered: usize,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match wrote {
            Poll::Ready(Ok(length)) if length < offered => {
                self.taken += length;
                self.is_behind &= self.taken < ENOUGH;
            }
            Poll::Pending => {}
            Poll::Ready(_) => {
                self.is_behind = false;
                return wrote;
            }
        }
        if !self.is_behind {
            self.is_behind = true;
            self.taken = 0;
            self.late.as_mut().reset(Instant::now() + LIMIT);
        }
        match self.late.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the answer isn't read",
            ))),
            Poll::Pending => wrote,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Limited<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Limited<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(wrote, bytes.len(), context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.judge(wrote, slices.iter().map(|slice| slice.len()).sum(), context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
