//! A proxy before the page, which answers in the issuer's place while that is away.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Result, ensure};
use certwell_lab::{Settings, browser::Page, story, wait_for};

use crate::{SOON, fleet::watching, with_browser};

const BAD_GATEWAY: &[u8] =
    b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Hands on what comes, or answers it with 502.
struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Whether the issuer is away, as far as anybody sees.
    refuses: AtomicBool,
    /// Whether it hands on all but streams of events.
    refuses_streams: AtomicBool,
    /// Streams of events that were answered with 502.
    refused: AtomicUsize,
    /// Both ends of what is handed on.
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    fn before(page: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        // Ends with the test.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&of_thread);
                thread::spawn(move || shared.one(client, page));
            }
        });
        Ok(Self { address, shared })
    }

    /// From now on it refuses, and what is under way breaks off.
    fn refuse(&self) {
        self.shared.refuses.store(true, Ordering::SeqCst);
        for stream in self.shared.open().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn hand_on(&self) {
        self.shared.refuses.store(false, Ordering::SeqCst);
    }
}

impl Shared {
    fn open(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One connection; an error ends it.
    fn one(&self, mut client: TcpStream, page: SocketAddr) -> std::io::Result<()> {
        let mut head = Vec::new();
        let mut bytes = [0; 1024];
        while !head.ends_with(b"\r\n\r\n") {
            let length = client.read(&mut bytes)?;
            if length == 0 {
                return Ok(());
            }
            head.extend_from_slice(&bytes[..length]);
        }
        let is_stream = head.starts_with(b"GET /live ");
        let refuses = |which: &AtomicBool| which.load(Ordering::SeqCst);
        if refuses(&self.refuses) || is_stream && refuses(&self.refuses_streams) {
            client.write_all(BAD_GATEWAY)?;
            if is_stream {
                self.refused.fetch_add(1, Ordering::SeqCst);
            }
            return Ok(());
        }
        let mut issuer = TcpStream::connect(page)?;
        // Each request comes by itself, and is looked at.
        head.truncate(head.len() - 2);
        head.extend_from_slice(b"connection: close\r\n\r\n");
        issuer.write_all(&head)?;
        {
            let mut open = self.open();
            open.push(client.try_clone()?);
            open.push(issuer.try_clone()?);
            // It began to refuse meanwhile.
            if self.refuses.load(Ordering::SeqCst) {
                return Ok(());
            }
        }
        let (mut from, mut to) = (client.try_clone()?, issuer.try_clone()?);
        thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
        std::io::copy(&mut issuer, &mut client)?;
        client.shutdown(Shutdown::Both)
    }
}

fn says(page: &Page<'_>, selector: &str, words: &str) -> Result<()> {
    wait_for(&format!("{words:?} to be said"), SOON, || {
        let said = page.eval(&format!("document.querySelector({selector:?}).innerText"))?;
        ensure!(
            said.as_str().is_some_and(|said| said.contains(words)),
            "{said}"
        );
        Ok(())
    })
}

#[test]
fn a_page_behind_a_proxy_that_refused_goes_on_by_itself_when_the_issuer_is_back() -> Result<()> {
    with_browser(|browser| {
        story("page-proxied", &Settings::default(), |world| {
            let proxy = Proxy::before(world.net.page())?;
            let page = watching(browser, &format!("http://{}/", proxy.address))?;
            says(&page, "#live", "Live.")?;

            proxy.refuse();
            // The browser came back, and gave up.
            wait_for("a refused stream of events", SOON, || {
                ensure!(proxy.shared.refused.load(Ordering::SeqCst) > 0);
                Ok(())
            })?;
            says(&page, "#live", "can’t be reached")?;
            // The page is to be had, and no stream.
            proxy.shared.refuses_streams.store(true, Ordering::SeqCst);
            proxy.hand_on();
            says(&page, "#live", "Not live")?;
            proxy.refuse();
            proxy.shared.refuses_streams.store(false, Ordering::SeqCst);
            world.issuer.certwell(&["pause"])?.success("pause")?;
            proxy.hand_on();
            says(&page, "main", "the whole fleet is paused")?;
            says(&page, "#live", "Live.")?;
            // And is told of what happens from now on.
            world.issuer.certwell(&["resume"])?.success("resume")?;
            wait_for("the pause to be over", SOON, || {
                let paused = "document.querySelector('main').innerText.includes('is paused')";
                ensure!(page.eval(paused)? == false, "it is shown as paused");
                Ok(())
            })?;
            ensure!(page.eval("window.stayed")? == true, "it was loaded anew");
            Ok(())
        })
    })
}
