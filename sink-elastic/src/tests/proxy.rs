//! A node of the engine's cluster that can be made to fail: what it lets through goes to the real engine.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};

/// The status that a request to this path is answered with; none lets it through.
type Fault = dyn Fn(&str) -> Option<u16> + Send + Sync;

pub(super) struct Proxy {
    pub(super) url: String,
    shared: Arc<Shared>,
}

struct Shared {
    target: String,
    http: reqwest::Client,
    fault: Mutex<Arc<Fault>>,
    failed: AtomicUsize,
    passed: AtomicUsize,
}

async fn serve(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, Bytes) {
    let fault = Arc::clone(&shared.fault.lock().unwrap());
    if let Some(status) = fault(uri.path()) {
        shared.failed.fetch_add(1, Ordering::Relaxed);
        return (StatusCode::from_u16(status).unwrap(), Bytes::new());
    }
    shared.passed.fetch_add(1, Ordering::Relaxed);
    let mut request = shared
        .http
        .request(method, format!("{}{uri}", shared.target))
        .body(body);
    if let Some(kind) = headers.get("content-type") {
        request = request.header("content-type", kind);
    }
    let response = request.send().await.unwrap();
    (response.status(), response.bytes().await.unwrap())
}

impl Proxy {
    pub(super) async fn start(
        target: &str,
        fault: impl Fn(&str) -> Option<u16> + Send + Sync + 'static,
    ) -> Self {
        tributary_runtime::http::install_tls_provider();
        let shared = Arc::new(Shared {
            target: target.to_owned(),
            http: reqwest::Client::new(),
            fault: Mutex::new(Arc::new(fault)),
            failed: AtomicUsize::new(0),
            passed: AtomicUsize::new(0),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .fallback(serve)
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, shared }
    }

    /// Lets everything through from now on.
    pub(super) fn mend(&self) {
        *self.shared.fault.lock().unwrap() = Arc::new(|_| None);
    }

    /// How many requests were answered with a fault.
    pub(super) fn failed(&self) -> usize {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// How many requests went to the engine.
    pub(super) fn passed(&self) -> usize {
        self.shared.passed.load(Ordering::Relaxed)
    }
}
