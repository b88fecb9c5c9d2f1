//! `/metrics`, `/health`, `/ready` and `/status` over HTTP.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;

use super::Health;
use crate::telemetry::Metrics;
use crate::{Error, Result};

/// How often the samples of histograms are put into their buckets.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// The media type of Prometheus' text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The server, bound to its address and not serving yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    state: Served,
}

#[derive(Debug, Clone)]
struct Served {
    service: &'static str,
    started: Instant,
    health: Health,
    metrics: Metrics,
}

impl Server {
    /// Binds the address. Port 0 takes a free one: see [`address`](Self::address).
    ///
    /// # Errors
    /// Stop: the address is taken, or not this machine's.
    pub async fn bind(
        service: &'static str,
        listen: SocketAddr,
        health: Health,
        metrics: Metrics,
    ) -> Result<Self> {
        let cannot = |error: std::io::Error| {
            Error::stop(error)
                .context(format!("listen on {listen} for /metrics, /health, /ready and /status"))
                .remedy("set http.listen to a free address of this machine (port 0 takes any free port)")
        };
        let listener = TcpListener::bind(listen).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let state = Served {
            service,
            started: Instant::now(),
            health,
            metrics,
        };
        Ok(Self {
            listener,
            address,
            state,
        })
    }

    /// The address that was really bound.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is dropped.
    ///
    /// # Errors
    /// Retry: the listener failed.
    pub async fn serve(self) -> Result<()> {
        let metrics = self.state.metrics.clone();
        let router = Router::new()
            .route("/metrics", get(render_metrics))
            .route("/health", get(render_health))
            .route("/ready", get(render_ready))
            .route("/status", get(render_status))
            .with_state(self.state);
        let upkeep = async move {
            let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
            loop {
                ticks.tick().await;
                metrics.upkeep();
            }
        };
        tokio::select! {
            served = axum::serve(self.listener, router) => served.map_err(Error::retry),
            never = upkeep => never,
        }
    }
}

async fn render_metrics(State(state): State<Served>) -> Response {
    let content_type = [(header::CONTENT_TYPE, PROMETHEUS)];
    (content_type, state.metrics.render()).into_response()
}

async fn render_health(State(state): State<Served>) -> Response {
    state.answer("alive", state.health.not_alive().as_deref())
}

async fn render_ready(State(state): State<Served>) -> Response {
    state.answer("ready", state.health.not_ready().as_deref())
}

/// Always 200: whoever asks wants to know, also when it is bad.
async fn render_status(State(state): State<Served>) -> Response {
    let (alive, ready) = (state.health.not_alive(), state.health.not_ready());
    let body = json!({
        "service": state.service,
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": state.started.elapsed().as_secs(),
        "phase": state.health.phase(),
        "alive": alive.is_none(),
        "ready": ready.is_none(),
        "reason": alive.or(ready),
        "warnings": state.health.warnings(),
        "notes": state.health.notes(),
        "details": state.health.details(),
    });
    let content_type = [(header::CONTENT_TYPE, "application/json")];
    (content_type, format!("{body}\n")).into_response()
}

impl Served {
    /// 200, or 503 with the reason.
    fn answer(&self, question: &str, not: Option<&str>) -> Response {
        let status = match not {
            None => StatusCode::OK,
            Some(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let body = json!({
            question: not.is_none(),
            "reason": not,
            "warnings": self.health.warnings(),
            "notes": self.health.notes(),
            "phase": self.health.phase(),
            "service": self.service,
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": self.started.elapsed().as_secs(),
        });
        let content_type = [(header::CONTENT_TYPE, "application/json")];
        (status, content_type, format!("{body}\n")).into_response()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::Server;
    use crate::Policy;
    use crate::health::Health;
    use crate::telemetry::Metrics;

    async fn bind(listen: SocketAddr, health: &Health) -> crate::Result<Server> {
        let (metrics, _) = Metrics::with_recorder("tributary-test")?;
        Server::bind("tributary-test", listen, health.clone(), metrics).await
    }

    async fn get(address: SocketAddr, path: &str) -> (u16, serde_json::Value, String) {
        let base = url::Url::parse(&format!("http://{address}")).unwrap();
        let second = std::time::Duration::from_secs(5);
        let client = crate::http::client_builder(&base, second, second)
            .build()
            .unwrap();
        let response = client.get(base.join(path).unwrap()).send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (
            status,
            serde_json::from_str(&text).unwrap_or_default(),
            text,
        )
    }

    #[tokio::test]
    async fn the_endpoints_follow_the_service() {
        let health = Health::new();
        let server = bind(SocketAddr::from(([127, 0, 0, 1], 0)), &health)
            .await
            .unwrap();
        let address = server.address();
        assert_ne!(address.port(), 0);
        let serving = tokio::spawn(server.serve());

        let (status, body, _) = get(address, "/ready").await;
        assert_eq!(
            (status, &body["ready"], &body["reason"]),
            (503, &false.into(), &"starting".into())
        );
        let (status, body, _) = get(address, "/health").await;
        assert_eq!(
            (status, &body["alive"], &body["phase"]),
            (200, &true.into(), &"starting".into())
        );

        health.set_phase("streaming");
        health.set_ready(true, "");
        let (status, body, _) = get(address, "/ready").await;
        assert_eq!(
            (status, &body["ready"], &body["phase"]),
            (200, &true.into(), &"streaming".into())
        );

        assert!(health.set_warning("lag", Some("3 GiB behind".to_owned())));
        assert!(!health.set_warning("lag", Some("4 GiB behind".to_owned())));
        health.set_details(|| serde_json::json!({"slot": "tributary_shop"}));
        let (status, body, _) = get(address, "/status").await;
        assert_eq!((status, &body["ready"]), (200, &true.into()));
        assert_eq!(body["warnings"][0], "4 GiB behind");
        assert_eq!(body["details"]["slot"], "tributary_shop");
        assert_eq!(
            get(address, "/ready").await.1["warnings"][0],
            "4 GiB behind"
        );
        assert!(health.set_warning("lag", None) && health.warnings().is_empty());

        health.set_ready(false, "Kafka is away");
        let (status, body, _) = get(address, "/ready").await;
        assert_eq!((status, &body["reason"]), (503, &"Kafka is away".into()));
        assert_eq!(
            get(address, "/health").await.0,
            200,
            "waiting is not being stuck"
        );

        health.set_stopping();
        health.set_ready(true, "");
        for path in ["/health", "/ready"] {
            let (status, body, _) = get(address, path).await;
            assert_eq!((status, &body["reason"]), (503, &"stopping".into()));
        }
        let (status, _, text) = get(address, "/metrics").await;
        assert_eq!(status, 200);
        assert!(text.contains("tributary_build_info{"), "{text}");
        assert_eq!(get(address, "/").await.0, 404);
        serving.abort();
    }

    #[tokio::test]
    async fn a_taken_address_names_the_setting() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let error = bind(taken.local_addr().unwrap(), &Health::new())
            .await
            .unwrap_err();
        assert_eq!(error.policy(), Policy::Stop);
        assert!(
            error.to_string().contains("Address already in use"),
            "{error}"
        );
        assert!(
            error.remedy_text().unwrap().contains("http.listen"),
            "{error}"
        );
    }
}
