//! A receiver of webhooks that keeps what it is sent, and answers as a test wants it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

/// Longer than anything takes that is to come, on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// 200.
pub(crate) const FINE: &str = "200 OK";
/// 500.
pub(crate) const BROKEN: &str = "500 Internal Server Error";
/// Nobody may come again within the hour.
pub(crate) const LATER: &str = "429 Too Many Requests\r\nretry-after: 3600";

/// The receiver; it ends when dropped.
pub(crate) struct Ear {
    name: &'static str,
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    answer: Mutex<&'static str>,
    /// While it is false no request is answered.
    answers: watch::Sender<bool>,
    /// The bodies, as they came; null of what is no JSON.
    heard: watch::Sender<Vec<serde_json::Value>>,
}

impl Ear {
    pub(crate) async fn listen(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            answer: Mutex::new(FINE),
            answers: watch::Sender::new(true),
            heard: watch::Sender::new(Vec::new()),
        });
        let of_task = shared.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, of_task.clone()));
            }
        });
        Self {
            name,
            address,
            shared,
            task,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// `[notifier.NAME]`.
    pub(crate) fn declared(&self) -> String {
        format!(
            "[notifier.{}]\ntype = \"webhook\"\nurl = {:?}\n",
            self.name,
            self.url()
        )
    }

    pub(crate) fn answer(&self, answer: &'static str) {
        *self.shared.answer.lock().unwrap() = answer;
    }

    /// Answers nobody until it is let go.
    pub(crate) fn hold(&self) {
        self.shared.answers.send_replace(false);
    }

    pub(crate) fn let_go(&self) {
        self.shared.answers.send_replace(true);
    }

    pub(crate) fn heard(&self) -> Vec<serde_json::Value> {
        self.shared.heard.borrow().clone()
    }

    /// The numbers of the messages about one class, as they came.
    pub(crate) fn numbers(&self, class: &str) -> Vec<u64> {
        let heard = self.heard();
        let of_class = heard.iter().filter(|message| message["class"] == class);
        of_class
            .map(|message| message["number"].as_u64().unwrap())
            .collect()
    }

    /// Waits for a message, past or to come.
    pub(crate) async fn hears(
        &self,
        what: &str,
        wanted: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let mut heard = self.shared.heard.subscribe();
        let came = heard.wait_for(|heard| heard.iter().any(&wanted));
        let all = match timeout(SOON, came).await {
            Ok(all) => all.unwrap().clone(),
            Err(_) => panic!("{} never heard {what}: {:#?}", self.name, self.heard()),
        };
        all.into_iter().find(|message| wanted(message)).unwrap()
    }

    /// Waits until so many messages of one class came.
    pub(crate) async fn hears_again(&self, class: &str, count: usize) {
        let of_class = |heard: &Vec<serde_json::Value>| {
            let of_class = heard.iter().filter(|message| message["class"] == class);
            of_class.count() >= count
        };
        let mut heard = self.shared.heard.subscribe();
        let came = timeout(SOON, heard.wait_for(of_class)).await;
        assert!(came.is_ok(), "{} heard {class} no more", self.name);
    }

    /// Waits until so many more messages came than there are now.
    pub(crate) async fn hears_more(&self, count: usize) {
        let mut heard = self.shared.heard.subscribe();
        let before = heard.borrow_and_update().len();
        let came = heard.wait_for(|heard| heard.len() >= before + count);
        let more = timeout(SOON, came).await;
        assert!(more.is_ok(), "{} heard no more", self.name);
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(mut stream: TcpStream, shared: Arc<Shared>) -> Option<()> {
    let mut bytes = Vec::new();
    let body = loop {
        let head = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(head) = head.map(|at| at + 4) {
            let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
            let length = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .map_or(0, |length| length.trim().parse().unwrap());
            if bytes.len() >= head + length {
                break bytes.split_off(head);
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let message = serde_json::from_slice(&body).unwrap_or_default();
    shared.heard.send_modify(|heard| heard.push(message));
    let mut answers = shared.answers.subscribe();
    answers.wait_for(|answers| *answers).await.ok()?;
    let answer = *shared.answer.lock().unwrap();
    let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await.ok()
}
