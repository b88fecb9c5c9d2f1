//! The running service, as the commands that ask it over its HTTP port reach it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::{Arg, ArgMatches};
use reqwest::{Client, RequestBuilder};
use serde_json::Value;
use url::Url;

use crate::config::Settings;
use crate::{Error, Result, ResultExt};

/// How long the service may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
const ELSEWHERE: &str = "start the service, or say where it serves HTTP: --address HOST:PORT";

/// The argument `--address` of a command that asks the running service: where it is, if not where the configuration says.
pub fn address() -> Arg {
    Arg::new("address")
        .long("address")
        .value_name("HOST:PORT")
        .help("Where the running service serves HTTP, if not at http.listen of FILE")
}

/// The service that runs, wherever that is. Nothing is looked for until it is asked.
#[derive(Debug, Clone)]
pub struct Running {
    listen: Option<SocketAddr>,
    default_port: u16,
    address: Option<String>,
}

/// The way to it.
struct Way {
    base: Url,
    client: Client,
}

impl Running {
    /// Where the configuration says.
    pub(super) const fn of(settings: &Settings, default_port: u16) -> Self {
        Self {
            listen: settings.http.listen,
            default_port,
            address: None,
        }
    }

    /// Where it says so: at `host:port`.
    pub const fn at(address: String) -> Self {
        Self {
            listen: None,
            default_port: 0,
            address: Some(address),
        }
    }

    /// Where [`address`] says, if it is given.
    #[must_use]
    pub fn or_at(self, arguments: &ArgMatches) -> Self {
        match arguments.get_one::<String>("address") {
            Some(address) => Self::at(address.clone()),
            None => self,
        }
    }

    fn way(&self) -> Result<Way> {
        let address = match &self.address {
            Some(address) => address.clone(),
            None => reachable(self.listen, self.default_port)?.to_string(),
        };
        let base = Url::parse(&format!("http://{address}/"))
            .map_err(|error| Error::stop(error).remedy(ELSEWHERE))?;
        let client = crate::http::client_builder(&base, TIMEOUT, TIMEOUT)
            .build()
            .map_err(Error::stop)?;
        Ok(Way { base, client })
    }

    /// What it answers at a path.
    ///
    /// # Errors
    /// Stop: it does not answer, or not as a service does.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let way = self.way()?;
        let url = way.url(path)?;
        let answered = send(way.client.get(url.clone())).await;
        answered
            .map_err(|error| error.remedy(ELSEWHERE))
            .doing(|| format!("ask {url}"))
    }

    /// What it answers when it is asked to do something.
    ///
    /// # Errors
    /// Stop: it does not answer, or refuses.
    pub async fn control(&self, name: &str, arguments: &Value) -> Result<Value> {
        let way = self.way()?;
        let url = way.url(&format!("control/{name}"))?;
        let request = way
            .client
            .post(url.clone())
            .header("content-type", "application/json")
            .body(arguments.to_string());
        send(request)
            .await
            .map_err(|error| match error.remedy_text() {
                Some(_) => error,
                None => error.remedy(ELSEWHERE),
            })
            .doing(|| format!("ask {url}"))
    }
}

impl Way {
    fn url(&self, path: &str) -> Result<Url> {
        self.base.join(path).map_err(Error::stop)
    }
}

async fn send(request: RequestBuilder) -> Result<Value> {
    // The URL is said by the caller.
    let failed = |error: reqwest::Error| Error::stop(error.without_url());
    let response = request.send().await.map_err(failed)?;
    let code = response.status();
    let text = response.text().await.map_err(failed)?;
    if code.is_success() {
        return serde_json::from_str(&text).map_err(Error::stop);
    }
    // A refusal says why, and what to do.
    let refusal: Value = serde_json::from_str(&text).unwrap_or_default();
    let Some(what) = refusal["error"].as_str() else {
        return Err(Error::stop_msg(format!(
            "the answer is {code}: this is no service of this version"
        )));
    };
    let error = Error::stop_msg(what.to_owned());
    Err(match refusal["remedy"].as_str() {
        Some(remedy) => error.remedy(remedy),
        None => error,
    })
}

/// The address at which a service on this machine that listens on `listen` is reached.
fn reachable(listen: Option<SocketAddr>, default_port: u16) -> Result<SocketAddr> {
    let listen = listen.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, default_port)));
    if listen.port() == 0 {
        return Err(Error::stop_msg(
            "http.listen has port 0: only the service knows which port it took",
        )
        .remedy(
            "say where it serves HTTP: --address HOST:PORT (its log line `started` names it)",
        ));
    }
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    Ok(SocketAddr::new(ip, listen.port()))
}

#[cfg(test)]
mod tests {
    use super::reachable;

    #[test]
    fn a_service_is_reached_where_it_listens() {
        let at = |listen: &str| reachable(Some(listen.parse().unwrap()), 1);
        assert_eq!(reachable(None, 9401).unwrap().to_string(), "127.0.0.1:9401");
        assert_eq!(at("0.0.0.0:8000").unwrap().to_string(), "127.0.0.1:8000");
        assert_eq!(at("[::]:8000").unwrap().to_string(), "[::1]:8000");
        assert_eq!(at("10.0.0.1:8000").unwrap().to_string(), "10.0.0.1:8000");
        assert!(at("127.0.0.1:0").is_err());
    }
}
