//! A proxy that speaks HTTP by hand, so that it can break off anywhere; what it lets through goes to the real engine.

use std::io::Result;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// So many times of a hundred, the same for a number each time.
pub(super) fn chance(number: usize, of_hundred: usize) -> bool {
    Dice(number as u64).roll() % 100 < of_hundred as u64
}

/// SplitMix64.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// A request, of which the body has not been read yet.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) bytes: usize,
    /// How many were asked before, at this wire.
    pub(super) number: usize,
    pub(super) method: String,
    kind: String,
}

/// What is done with a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    Pass,
    /// Answers so, and does not ask the engine.
    Answer(u16, &'static str),
    /// Has the engine do it, and answers so all the same.
    AnswerAfter(u16, &'static str),
    /// Has the engine do it, and breaks off in the middle of its answer.
    BreakOff,
    /// Has the engine do it, and never answers.
    Hang,
    /// Has the engine do some of the operations, and turns so many of a hundred away.
    TurnAway(usize),
    /// Does not read the body: answers so, and closes the connection.
    AnswerUnread(u16, &'static str),
    /// Does not read the body: resets the connection.
    Reset,
}

type Fault = dyn Fn(&Asked) -> Act + Send + Sync;

pub(super) struct Wire {
    pub(super) url: String,
    shared: Arc<Shared>,
}

struct Shared {
    target: String,
    http: reqwest::Client,
    fault: Mutex<Arc<Fault>>,
    asked: AtomicUsize,
    failed: AtomicUsize,
}

impl Wire {
    pub(super) async fn start(target: &str) -> Self {
        tributary_runtime::http::install_tls_provider();
        let shared = Arc::new(Shared {
            target: target.to_owned(),
            http: reqwest::Client::new(),
            fault: Mutex::new(Arc::new(|_| Act::Pass)),
            asked: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let of_all = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Who has broken off is of no interest.
                tokio::spawn(serve(Arc::clone(&of_all), stream));
            }
        });
        Self { url, shared }
    }

    /// What is done with requests from now on, counted anew.
    pub(super) fn fails(&self, fault: impl Fn(&Asked) -> Act + Send + Sync + 'static) {
        self.shared.asked.store(0, Ordering::SeqCst);
        self.shared.failed.store(0, Ordering::SeqCst);
        *self.shared.fault.lock().unwrap() = Arc::new(fault);
    }

    pub(super) fn mend(&self) {
        *self.shared.fault.lock().unwrap() = Arc::new(|_| Act::Pass);
    }

    /// How many requests met a fault.
    pub(super) fn failed(&self) -> usize {
        self.shared.failed.load(Ordering::SeqCst)
    }
}

async fn serve(shared: Arc<Shared>, stream: TcpStream) -> Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(mut asked) = head(&mut stream).await? {
        asked.number = shared.asked.fetch_add(1, Ordering::SeqCst);
        let fault = Arc::clone(&shared.fault.lock().unwrap());
        let act = fault(&asked);
        if !matches!(act, Act::Pass) {
            shared.failed.fetch_add(1, Ordering::SeqCst);
        }
        match act {
            // What lies unread in the socket makes a reset of its end.
            Act::Reset => return Ok(()),
            Act::AnswerUnread(status, text) => {
                return answer(&mut stream, status, text.as_bytes()).await;
            }
            _ => {}
        }
        let mut body = vec![0; asked.bytes];
        stream.read_exact(&mut body).await?;
        match act {
            Act::Answer(status, text) => answer(&mut stream, status, text.as_bytes()).await?,
            Act::TurnAway(of_hundred) => {
                let text = turn_away(&shared, &asked, &body, of_hundred).await;
                answer(&mut stream, 200, text.as_bytes()).await?;
            }
            _ => {
                let (status, told) = ask(&shared, &asked, body).await;
                match act {
                    Act::AnswerAfter(status, text) => {
                        answer(&mut stream, status, text.as_bytes()).await?;
                    }
                    Act::BreakOff => {
                        let whole = written(status, &told);
                        return stream.write_all(&whole[..whole.len() - 1]).await;
                    }
                    // Until who asks has had enough of it.
                    Act::Hang => return stream.read_u8().await.map(drop),
                    _ => answer(&mut stream, status, &told).await?,
                }
            }
        }
    }
    Ok(())
}

/// Reads a request up to its body; `None` at the connection's end.
async fn head(stream: &mut BufReader<TcpStream>) -> Result<Option<Asked>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ').map(str::to_owned);
    let mut asked = Asked {
        method: words.next().unwrap(),
        path: words.next().unwrap(),
        bytes: 0,
        number: 0,
        kind: "application/json".to_owned(),
    };
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            return Ok(Some(asked));
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => asked.bytes = value.parse().unwrap(),
            "content-type" => value.clone_into(&mut asked.kind),
            _ => {}
        }
    }
}

async fn ask(shared: &Shared, asked: &Asked, body: Vec<u8>) -> (u16, Vec<u8>) {
    let url = format!("{}{}", shared.target, asked.path);
    let request = shared.http.request(asked.method.parse().unwrap(), url);
    // Elasticsearch refuses the header where nothing follows.
    let request = if body.is_empty() {
        request
    } else {
        request.header("content-type", &asked.kind).body(body)
    };
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.bytes().await.unwrap().to_vec())
}

/// As an engine of which some shards are too busy.
async fn turn_away(shared: &Shared, asked: &Asked, body: &[u8], of_hundred: usize) -> String {
    let text = std::str::from_utf8(body).unwrap();
    let (mut kept, mut names) = (String::new(), Vec::new());
    let mut lines = text.lines();
    while let Some(action) = lines.next() {
        let name = if action.starts_with("{\"delete\"") {
            "delete"
        } else {
            "index"
        };
        let document = (name == "index").then(|| lines.next().unwrap());
        let is_kept = !chance(asked.number * 10_000 + names.len(), of_hundred);
        names.push((name, is_kept));
        for line in [Some(action), document]
            .into_iter()
            .flatten()
            .filter(|_| is_kept)
        {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    let mut done = Vec::new();
    if !kept.is_empty() {
        let (status, told) = ask(shared, asked, kept.into_bytes()).await;
        let told: Value = serde_json::from_slice(&told).unwrap();
        assert_eq!(status, 200, "{told}");
        done.clone_from(told["items"].as_array().unwrap());
    }
    let mut done = done.into_iter();
    let index = asked.path.split(['/', '?']).nth(1).unwrap();
    let items = names.into_iter().map(|(name, is_kept)| {
        if is_kept {
            return done.next().unwrap();
        }
        let error = json!({"type": "rejected_execution_exception", "reason": "secret"});
        json!({(name): {"_index": index, "status": 429, "error": error}})
    });
    json!({"items": items.collect::<Vec<_>>()}).to_string()
}

async fn answer(stream: &mut BufReader<TcpStream>, status: u16, body: &[u8]) -> Result<()> {
    stream.write_all(&written(status, body)).await?;
    stream.flush().await
}

fn written(status: u16, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status} -\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}
