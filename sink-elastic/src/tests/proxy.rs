//! A node of the engine's cluster that can be made to fail: what it lets through goes to the real engine.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};

use super::fixture::listen;

/// The status that a request to this path, of so many bytes, is answered with; none lets it through.
type Fault = dyn Fn(&str, usize) -> Option<u16> + Send + Sync;

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
    /// Requests to `_bulk` that are under way, and the most that were together.
    under_way: AtomicUsize,
    most: AtomicUsize,
}

async fn serve(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, Bytes) {
    let fault = Arc::clone(&shared.fault.lock().unwrap());
    let is_bulk = uri.path().ends_with("/_bulk");
    if is_bulk {
        let under_way = shared.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most.fetch_max(under_way, Ordering::SeqCst);
    }
    let answer = pass(&shared, &*fault, method, &uri, &headers, body).await;
    if is_bulk {
        shared.under_way.fetch_sub(1, Ordering::SeqCst);
    }
    answer
}

async fn pass(
    shared: &Shared,
    fault: &Fault,
    method: Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: Bytes,
) -> (StatusCode, Bytes) {
    if let Some(status) = fault(uri.path(), body.len()) {
        shared.failed.fetch_add(1, Ordering::Relaxed);
        return (StatusCode::from_u16(status).unwrap(), Bytes::new());
    }
    shared.passed.fetch_add(1, Ordering::Relaxed);
    let mut request = shared
        .http
        .request(method, format!("{}{uri}", shared.target))
        .body(body);
    for name in ["content-type", "content-encoding"] {
        if let Some(value) = headers.get(name) {
            request = request.header(name, value);
        }
    }
    let response = request.send().await.unwrap();
    (response.status(), response.bytes().await.unwrap())
}

impl Proxy {
    pub(super) async fn start(
        target: &str,
        fault: impl Fn(&str) -> Option<u16> + Send + Sync + 'static,
    ) -> Self {
        Self::start_by_size(target, move |path, _| fault(path)).await
    }

    pub(super) async fn start_by_size(
        target: &str,
        fault: impl Fn(&str, usize) -> Option<u16> + Send + Sync + 'static,
    ) -> Self {
        tributary_runtime::http::install_tls_provider();
        let shared = Arc::new(Shared {
            target: target.to_owned(),
            http: reqwest::Client::new(),
            fault: Mutex::new(Arc::new(fault)),
            failed: AtomicUsize::new(0),
            passed: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        });
        let router = Router::new()
            .fallback(serve)
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(Arc::clone(&shared));
        let url = listen(router).await;
        Self { url, shared }
    }

    /// Lets everything through from now on.
    pub(super) fn mend(&self) {
        *self.shared.fault.lock().unwrap() = Arc::new(|_, _| None);
    }

    /// How many requests were answered with a fault.
    pub(super) fn failed(&self) -> usize {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// How many requests to `_bulk` were under way together since this was asked last.
    pub(super) fn most(&self) -> usize {
        self.shared.most.swap(0, Ordering::SeqCst)
    }

    /// How many requests went to the engine.
    pub(super) fn passed(&self) -> usize {
        self.shared.passed.load(Ordering::Relaxed)
    }
}
