//! A service of AWS: lets requests in that are signed with a key that it knows, to the real engine, and says of all others what AWS says.

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{Request, StatusCode};
use serde_json::json;

use super::fixture::listen;
use super::sigv4::{Come, Lock};

/// What becomes of a request on its way.
type Tampering = dyn Fn(&mut Come) + Send + Sync;

pub(super) struct Gate {
    pub(super) url: String,
    shared: Arc<Shared>,
}

struct Shared {
    target: String,
    http: reqwest::Client,
    state: Mutex<Inside>,
}

struct Inside {
    lock: Lock,
    tampering: Arc<Tampering>,
    /// How far the gate's clock is ahead, in seconds.
    ahead: i64,
    /// Method and path of those let in.
    let_in: Vec<String>,
    /// What the others were told.
    refused: Vec<String>,
}

impl Gate {
    pub(super) async fn start(lock: Lock) -> Self {
        let target = std::env::var("TRIBUTARY_SEARCH").unwrap();
        tributary_runtime::http::install_tls_provider();
        let shared = Arc::new(Shared {
            target,
            http: reqwest::Client::new(),
            state: Mutex::new(Inside {
                lock,
                tampering: Arc::new(|_| {}),
                ahead: 0,
                let_in: Vec::new(),
                refused: Vec::new(),
            }),
        });
        let router = Router::new()
            .fallback(serve)
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(Arc::clone(&shared));
        let url = listen(router).await;
        Self { url, shared }
    }

    /// Changes requests on their way from now on.
    pub(super) fn tamper(&self, tampering: impl Fn(&mut Come) + Send + Sync + 'static) {
        self.shared.state.lock().unwrap().tampering = Arc::new(tampering);
    }

    pub(super) fn set_lock(&self, lock: Lock) {
        self.shared.state.lock().unwrap().lock = lock;
    }

    pub(super) fn set_ahead(&self, seconds: i64) {
        self.shared.state.lock().unwrap().ahead = seconds;
    }

    /// Method and path of the requests that were let in since this was asked last.
    pub(super) fn let_in(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.state.lock().unwrap().let_in)
    }

    /// What the others were told.
    pub(super) fn refused(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.state.lock().unwrap().refused)
    }
}

async fn serve(
    State(shared): State<Arc<Shared>>,
    request: Request<axum::body::Body>,
) -> (StatusCode, Bytes) {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let come = come(&parts, &body);
    if let Err(told) = shared.state.lock().unwrap().judge(come) {
        let told = json!({"message": told}).to_string();
        return (StatusCode::FORBIDDEN, told.into());
    }
    let url = format!("{}{}", shared.target, parts.uri);
    let mut request = shared.http.request(parts.method, url).body(body);
    for name in ["content-type", "content-encoding"] {
        if let Some(value) = parts.headers.get(name) {
            request = request.header(name, value);
        }
    }
    let response = request.send().await.unwrap();
    (response.status(), response.bytes().await.unwrap())
}

fn come(parts: &Parts, body: &Bytes) -> Come {
    let headers = parts.headers.iter();
    Come {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: headers
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect(),
        body: body.to_vec(),
    }
}

impl Inside {
    fn judge(&mut self, mut come: Come) -> Result<(), String> {
        (self.tampering)(&mut come);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = i64::try_from(now.as_secs()).unwrap() + self.ahead;
        let judged = self.lock.try_open(&come, now);
        match &judged {
            Ok(()) => self.let_in.push(format!("{} {}", come.method, come.path)),
            Err(told) => self.refused.push(told.clone()),
        }
        judged
    }
}
