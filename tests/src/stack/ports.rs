//! Which ports the servers get. A port once chosen stays with its part, so that clients find it again after a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::RngExt;

use super::part::Part;

/// How the ports of a new stack are chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Ports {
    /// Any free port for each part.
    #[default]
    Free,
    /// The conventional port of each part where it is free, else any free one.
    Conventional,
    /// These ports, and any free one for a part that is not named.
    Fixed(BTreeMap<Part, u16>),
}

impl FromStr for Ports {
    type Err = anyhow::Error;

    /// Reads `free`, `conventional`, or `postgres=5432,kafka=9092` and so on.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "free" => return Ok(Ports::Free),
            "conventional" => return Ok(Ports::Conventional),
            _ => {}
        }
        let mut fixed = BTreeMap::new();
        for pair in text.split(',') {
            let Some((part, port)) = pair.split_once('=') else {
                bail!("'{pair}' is no port: write free, conventional, or PART=PORT,PART=PORT");
            };
            let port = port
                .parse()
                .with_context(|| format!("'{port}' is no port number"))?;
            fixed.insert(part.parse()?, port);
        }
        Ok(Ports::Fixed(fixed))
    }
}

/// The ports of one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PartPorts {
    pub(super) port: u16,
    pub(super) inner_port: Option<u16>,
}

/// Chooses the ports of all parts, no two alike.
pub(super) fn choose(wanted: &Ports) -> Result<BTreeMap<Part, PartPorts>> {
    let mut taken = BTreeSet::new();
    let mut chosen = BTreeMap::new();
    for part in Part::ALL {
        let port = match wanted {
            Ports::Fixed(fixed) => fixed.get(&part).copied(),
            Ports::Conventional => Some(part.conventional_port()).filter(|port| is_free(*port)),
            Ports::Free => None,
        };
        if port.is_some_and(|port| !taken.insert(port)) {
            bail!("two parts cannot share port {}", port.unwrap_or_default());
        }
        chosen.insert(part, port);
    }
    let mut ports = BTreeMap::new();
    for (part, port) in chosen {
        let port = port.map_or_else(|| free(&mut taken), Ok)?;
        let inner_port = if part.has_inner_port() {
            Some(free(&mut taken)?)
        } else {
            None
        };
        ports.insert(part, PartPorts { port, inner_port });
    }
    Ok(ports)
}

/// Any port that nobody listens on.
///
/// # Errors
/// There is none.
pub(super) fn any_free() -> Result<u16> {
    free(&mut BTreeSet::new())
}

/// Whether nothing listens on this loopback port.
pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Whether nothing listens on this loopback port any more within this time.
pub(super) fn becomes_free(port: u16, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while !is_free(port) {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

/// A free port below the range from which the kernel takes the ports of outgoing connections: while its server is
/// down, a port inside it could go to some client (even to one that connects to itself) and not come back.
fn free(taken: &mut BTreeSet<u16>) -> Result<u16> {
    const TRIES: usize = 1000;
    let mut random = rand::rng();
    for _ in 0..TRIES {
        let port = random.random_range(12_000..32_000);
        if !taken.contains(&port) && is_free(port) {
            taken.insert(port);
            return Ok(port);
        }
    }
    bail!("found no free port on 127.0.0.1 between 12000 and 32000 in {TRIES} tries")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_gets_ports_of_its_own() {
        let ports = choose(&Ports::Free).unwrap();
        let mut all: Vec<u16> = ports
            .values()
            .flat_map(|p| [Some(p.port), p.inner_port])
            .flatten()
            .collect();
        assert_eq!(all.len(), 6);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 6);
    }

    #[test]
    fn fixed_ports_are_kept_and_the_others_are_free() {
        let ports = choose(&"postgres=11001,search=11002".parse().unwrap()).unwrap();
        assert_eq!(ports[&Part::Postgres].port, 11_001);
        assert_eq!(ports[&Part::Search].port, 11_002);
        assert!((12_000..32_000).contains(&ports[&Part::Kafka].port));
    }

    #[test]
    fn two_parts_on_one_port_are_refused() {
        let error = choose(&"postgres=11001,kafka=11001".parse().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "two parts cannot share port 11001");
    }

    #[test]
    fn a_taken_port_is_not_free() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!is_free(port));
        drop(listener);
        assert!(is_free(port));
    }

    #[test]
    fn nonsense_is_named() {
        for (text, expected) in [
            (
                "postgres",
                "'postgres' is no port: write free, conventional, or PART=PORT,PART=PORT",
            ),
            ("kafka=x", "'x' is no port number"),
            (
                "mysql=1",
                "no part is called 'mysql': use postgres, kafka, registry or search",
            ),
        ] {
            assert_eq!(text.parse::<Ports>().unwrap_err().to_string(), expected);
        }
    }
}
