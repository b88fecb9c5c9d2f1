//! `status`: asks the running service over its HTTP port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::{Arg, ArgMatches};
use serde_json::Value;
use url::Url;

use super::answer::Answer;
use super::exit;
use super::service::Service;
use crate::config::Settings;
use crate::{Error, Result, ResultExt};

/// How long the service may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where the service is, if not where the configuration says.
pub(super) fn address_argument() -> Arg {
    Arg::new("address")
        .long("address")
        .value_name("HOST:PORT")
        .help("Where the running service serves HTTP, if not at http.listen of FILE")
}

/// What the running service says of itself. The exit code tells whether all is well.
pub(super) async fn ask<S: Service>(settings: &Settings, arguments: &ArgMatches) -> Result<Answer> {
    let address = match arguments.get_one::<String>("address") {
        Some(address) => address.clone(),
        None => reachable(settings.http.listen, S::DEFAULT_PORT)?.to_string(),
    };
    let elsewhere = "start the service, or say where it serves HTTP: --address HOST:PORT";
    let url = Url::parse(&format!("http://{address}/status"))
        .map_err(|error| Error::stop(error).remedy(elsewhere))?;
    let status = fetch(&url)
        .await
        .map_err(|error| error.remedy(elsewhere))
        .doing(|| format!("ask {url}"))?;
    Ok(answer::<S>(status))
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

async fn fetch(url: &Url) -> Result<Value> {
    let client = crate::http::client_builder(url, TIMEOUT, TIMEOUT)
        .build()
        .map_err(Error::stop)?;
    // The URL is said by the caller.
    let failed = |error: reqwest::Error| Error::stop(error.without_url());
    let response = client.get(url.clone()).send().await.map_err(failed)?;
    let code = response.status();
    if !code.is_success() {
        return Err(Error::stop_msg(format!(
            "the answer is {code}: this is no service of this version"
        )));
    }
    let text = response.text().await.map_err(failed)?;
    serde_json::from_str(&text).map_err(Error::stop)
}

fn answer<S: Service>(status: Value) -> Answer {
    let is = |key: &str| status[key].as_bool().unwrap_or(false);
    let word = |key: &str| status[key].as_str().unwrap_or_default().to_owned();
    let state = match (is("alive"), is("ready")) {
        (true, true) => "ready",
        (true, false) => "not ready",
        (false, _) => "not alive",
    };
    let mut text = format!(
        "{} {}: {}, {state}, up {} s\n",
        word("service"),
        word("version"),
        word("phase"),
        status["uptime_seconds"]
    );
    if let Some(reason) = status["reason"].as_str() {
        text.push_str(&format!("reason: {reason}\n"));
    }
    let warnings = status["warnings"].as_array().map_or(&[][..], Vec::as_slice);
    for warning in warnings {
        text.push_str(&format!(
            "warning: {}\n",
            warning.as_str().unwrap_or_default()
        ));
    }
    text.push_str(&S::details_text(&status["details"]));
    let well = is("alive") && is("ready") && warnings.is_empty();
    Answer {
        text,
        json: status,
        code: if well { exit::OK } else { exit::PROBLEMS },
    }
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
