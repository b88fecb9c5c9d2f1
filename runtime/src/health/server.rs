//! `/metrics`, `/health`, `/ready` and `/status` over HTTP, and what a service is asked to do while it runs.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::Health;
use crate::telemetry::Metrics;
use crate::{Error, Problem, Result};

/// How often the samples of histograms are put into their buckets.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// The media type of all other answers, and of requests.
const JSON: &str = "application/json";
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
            .route("/control/{name}", post(control))
            .with_state(self.state)
            .into_make_service_with_connect_info::<SocketAddr>();
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
    let content_type = [(header::CONTENT_TYPE, JSON)];
    (content_type, format!("{body}\n")).into_response()
}

/// Does what somebody on this machine asks. Reading may be for everybody who reaches the port; this is not. A page in a browser on
/// this machine cannot ask either: it may not send JSON to another origin.
async fn control(
    State(state): State<Served>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: String,
) -> Response {
    if !peer.ip().to_canonical().is_loopback() {
        let error = Error::stop_msg("requests are taken from this machine only")
            .remedy("run the command where the service runs, in its container");
        return refusal(StatusCode::FORBIDDEN, &error);
    }
    if headers
        .get(header::CONTENT_TYPE)
        .is_none_or(|of| of != JSON)
    {
        let error = Error::stop_msg(format_args!("a request has the content type {JSON}"));
        return refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, &error);
    }
    let arguments: Value = match serde_json::from_str(&body) {
        Ok(arguments) => arguments,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, &Error::stop(error)),
    };
    match state.health.control(&name, &arguments) {
        Ok(answer) => {
            tracing::info!(request = name, %arguments, "done as asked");
            ([(header::CONTENT_TYPE, JSON)], format!("{answer}\n")).into_response()
        }
        Err(error) => refusal(StatusCode::CONFLICT, &error),
    }
}

fn refusal(status: StatusCode, error: &Error) -> Response {
    let problem = Problem::from(error);
    let body = json!({ "error": problem.what, "remedy": problem.remedy });
    let content_type = [(header::CONTENT_TYPE, JSON)];
    (status, content_type, format!("{body}\n")).into_response()
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
        let content_type = [(header::CONTENT_TYPE, JSON)];
        (status, content_type, format!("{body}\n")).into_response()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::extract::{ConnectInfo, Path, State};
    use axum::http::{HeaderMap, HeaderValue, header};
    use serde_json::Value;

    use super::{JSON, Server, control};
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
    async fn what_the_service_is_asked_to_do() {
        let health = Health::new();
        let server = bind(SocketAddr::from(([127, 0, 0, 1], 0)), &health)
            .await
            .unwrap();
        let address = server.address();
        let serving = tokio::spawn(server.serve());
        let base = url::Url::parse(&format!("http://{address}")).unwrap();
        let second = std::time::Duration::from_secs(5);
        let client = crate::http::client_builder(&base, second, second)
            .build()
            .unwrap();
        let ask = async |name: &str, body: &'static str, content_type: &str| {
            let url = base.join(&format!("/control/{name}")).unwrap();
            let request = client.post(url).header("content-type", content_type);
            let response = request.body(body).send().await.unwrap();
            let status = response.status().as_u16();
            let text = response.text().await.unwrap();
            let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
            (status, answer)
        };
        let json = "application/json";
        assert_eq!(ask("pause", "{}", json).await.0, 409);
        health.set_control(|name, arguments| match name {
            "pause" => Ok(serde_json::json!({"paused": arguments["topic"]})),
            _ => Err(crate::Error::stop_msg("unknown").remedy("pause")),
        });
        let (status, answer) = ask("pause", r#"{"topic": "a"}"#, json).await;
        assert_eq!((status, &answer["paused"]), (200, &"a".into()));
        let (status, answer) = ask("else", "{}", json).await;
        assert_eq!((status, &answer["remedy"]), (409, &"pause".into()));
        assert_eq!(ask("pause", "{", json).await.0, 400);
        // What a page in a browser may send unasked.
        assert_eq!(ask("pause", "{}", "text/plain").await.0, 415);
        assert_eq!(get(address, "/control/pause").await.0, 405);
        serving.abort();
    }

    #[tokio::test]
    async fn another_machine_may_look_and_not_ask() {
        let server = bind(SocketAddr::from(([127, 0, 0, 1], 0)), &Health::new())
            .await
            .unwrap();
        server.state.health.set_control(|_, _| Ok(Value::Null));
        let status = async |peer: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
            let (state, peer) = (State(server.state.clone()), peer.parse().unwrap());
            let name = Path("pause".to_owned());
            let answer = control(state, ConnectInfo(peer), name, headers, "{}".to_owned());
            answer.await.status().as_u16()
        };
        assert_eq!(status("10.0.0.7:40000").await, 403);
        assert_eq!(status("[2001:db8::1]:40000").await, 403);
        assert_eq!(status("127.0.0.1:40000").await, 200);
        assert_eq!(status("[::ffff:127.0.0.1]:40000").await, 200);
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
