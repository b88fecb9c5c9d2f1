//! Whether a server does its work, asked in its own protocol.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::launch::last_lines;
use super::part::Part;
use super::postgres::postgres_program;
use super::process::Process;

const PROBE_LIMIT: Duration = Duration::from_secs(2);
const PROBE_EVERY: Duration = Duration::from_millis(100);
/// A cold start of the engine took 24 s on two idle cores, one of the registry 200 s beside ten other builds.
const START_LIMIT: Duration = Duration::from_secs(300);

/// Waits until the part serves, and says so on standard error.
///
/// # Errors
/// The process ended, or the time is up; with the last lines of its log.
pub(super) fn wait(part: Part, port: u16, process: Process, log: &Path) -> Result<()> {
    let began = Instant::now();
    if is_ready(part, port) {
        return Ok(());
    }
    say(&format!(
        "waiting for {part} on 127.0.0.1:{port}, log {}",
        log.display()
    ));
    loop {
        if !process.is_alive() {
            bail!(
                "{part} ended while it was started; the end of {}:\n{}",
                log.display(),
                last_lines(log)
            );
        }
        if is_ready(part, port) {
            say(&format!(
                "{part} is up after {:.1} s",
                began.elapsed().as_secs_f64()
            ));
            return Ok(());
        }
        if began.elapsed() > START_LIMIT {
            let seconds = START_LIMIT.as_secs();
            bail!(
                "{part} is not ready after {seconds} s; the end of {}:\n{}",
                log.display(),
                last_lines(log)
            );
        }
        std::thread::sleep(PROBE_EVERY);
    }
}

/// Whether the part serves now; takes a few seconds at the most.
pub(super) fn is_ready(part: Part, port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if TcpStream::connect_timeout(&address, PROBE_LIMIT).is_err() {
        return false;
    }
    match part {
        Part::Postgres => postgres_accepts(port),
        Part::Kafka => kafka_has_a_broker(port),
        // Its health is on another port with 3.x than with 2.x; this asks the store, too.
        Part::Registry => http_ok(&address, "/apis/ccompat/v7/config"),
        Part::Search => http_ok(
            &address,
            "/_cluster/health?wait_for_status=yellow&timeout=1s",
        ),
    }
}

#[allow(
    clippy::print_stderr,
    reason = "the stack tells people what it waits for"
)]
pub(super) fn say(text: &str) {
    eprintln!("stack: {text}");
}

fn postgres_accepts(port: u16) -> bool {
    let Ok(program) = postgres_program("pg_isready") else {
        return false;
    };
    let limit_seconds = PROBE_LIMIT.as_secs().to_string();
    Command::new(program)
        .args([
            "-q",
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-t",
            &limit_seconds,
        ])
        .stdin(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// A broker that is fenced, as it is for a moment after a restart, is not in the metadata.
fn kafka_has_a_broker(port: u16) -> bool {
    let client: Result<BaseConsumer, _> = ClientConfig::new()
        .set("bootstrap.servers", format!("127.0.0.1:{port}"))
        .set("client.id", "stack-readiness")
        .create();
    client
        .and_then(|client| client.fetch_metadata(None, PROBE_LIMIT))
        .is_ok_and(|found| !found.brokers().is_empty())
}

fn http_ok(address: &SocketAddr, path: &str) -> bool {
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(address, PROBE_LIMIT)?;
        stream.set_read_timeout(Some(PROBE_LIMIT))?;
        stream.set_write_timeout(Some(PROBE_LIMIT))?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        // In one piece: a server may answer and close as soon as it has read the first.
        stream.write_all(request.as_bytes())?;
        let mut status = vec![0; "HTTP/1.1 200".len()];
        stream.read_exact(&mut status)?;
        Ok(status)
    };
    ask().is_ok_and(|status| status == b"HTTP/1.1 200")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers one request, after the probe's first connection that only looks whether somebody listens.
    fn server(answer: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().take(2) {
                let mut stream = stream.unwrap();
                let mut request = [0; 1024];
                if stream.read(&mut request).unwrap() > 0 {
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            }
        });
        port
    }

    #[test]
    fn only_200_is_ready() {
        assert!(is_ready(Part::Registry, server("HTTP/1.1 200 OK\r\n\r\n")));
        assert!(!is_ready(
            Part::Registry,
            server("HTTP/1.1 503 Service Unavailable\r\n\r\n")
        ));
        assert!(!is_ready(Part::Search, server("HTTP")));
    }

    #[test]
    fn a_process_that_ends_is_an_error_with_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("registry.log");
        std::fs::write(&log, "first\ncannot bind\n").unwrap();
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let unused = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let error = wait(Part::Registry, unused, process, &log)
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("registry ended while it was started; the end of "),
            "{error}"
        );
        assert!(error.ends_with("first\ncannot bind"), "{error}");
    }
}
