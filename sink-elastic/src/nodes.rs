//! Which node a request goes to: each in turn, and one that fails is left alone for a while.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tributary_runtime::health::Health;
use url::Url;

use crate::metric;

/// How long a node that fails is left alone at first; twice as long each time that it fails again.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);
/// A node that lets a request wait is left alone for so many times as long: few requests are to wait for it.
const REST_PER_WAIT: u32 = 10;
const LONGEST_REST_AFTER_WAIT: Duration = Duration::from_secs(300);
/// The subject of the warning in the service's status.
const SUBJECT: &str = "search nodes";

/// One of the configured nodes.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) url: Url,
    /// Host and port; the rest of a URL may hold secrets.
    pub(crate) host: Arc<str>,
}

/// What a request asks of a node. A node may fail at the one and not at the other: each has a health of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Bulk,
    Other,
}

/// The configured nodes, and how each does.
#[derive(Debug)]
pub(crate) struct Nodes {
    nodes: Vec<Node>,
    state: Mutex<State>,
    health: OnceLock<Health>,
}

#[derive(Debug)]
struct State {
    /// Who comes first at the next request, modulo the number of nodes.
    turn: usize,
    fitness: Vec<Fitness>,
}

/// How one node does one kind of work.
#[derive(Debug, Clone, Default)]
struct Fitness {
    /// How often in a row it has failed.
    failures: u32,
    failed_at: Option<Instant>,
    /// Until when it is left alone.
    rest_until: Option<Instant>,
    /// What it answered last, while it fails.
    why: String,
    /// What somebody has to do about it, where it does not pass by itself.
    remedy: Option<String>,
}

/// The nodes that one request tries, one after the other.
#[derive(Debug)]
pub(crate) struct Turn<'n> {
    nodes: &'n Nodes,
    work: Work,
    first: usize,
    tried: Vec<usize>,
    /// A node was tried that was to be left alone.
    has_woken: bool,
}

/// One attempt at one node.
#[derive(Debug)]
pub(crate) struct Attempt<'n> {
    pub(crate) node: &'n Node,
    nodes: &'n Nodes,
    index: usize,
    work: Work,
    begun: Instant,
}

impl Node {
    pub(crate) fn new(url: Url) -> Self {
        let name = url.host_str().unwrap_or_default();
        let host = match url.port_or_known_default() {
            Some(port) => format!("{name}:{port}"),
            None => name.to_owned(),
        };
        Self {
            url,
            host: host.into(),
        }
    }
}

impl Nodes {
    pub(crate) fn new(urls: impl IntoIterator<Item = Url>) -> Self {
        let nodes: Vec<_> = urls.into_iter().map(Node::new).collect();
        Self {
            state: Mutex::new(State {
                turn: 0,
                fitness: vec![Fitness::default(); nodes.len() * Work::ALL.len()],
            }),
            nodes,
            health: OnceLock::new(),
        }
    }

    /// Says from now on in the service's status which nodes fail.
    pub(crate) fn report_to(&self, health: Health) {
        // The first one stays: there is one service in a process.
        let _ = self.health.set(health);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    /// Begins a request: the nodes that it may go to.
    pub(crate) fn turn(&self, work: Work) -> Turn<'_> {
        let mut state = self.lock();
        state.turn = state.turn.wrapping_add(1);
        Turn {
            nodes: self,
            work,
            first: state.turn,
            tried: Vec::new(),
            has_woken: false,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the status of a node that begins or ends to fail. Where all fail it is the engine that is away, which the
    /// caller of the request hears of; the status tells of it only where that does not pass by itself.
    fn tell(&self, state: &State) {
        let Some(health) = self.health.get() else {
            return;
        };
        let failing: Vec<_> = (0..self.nodes.len())
            .filter_map(|index| Some((self.nodes.get(index)?, state.failing(index)?)))
            .collect();
        let remedies = failing
            .iter()
            .filter_map(|(_, fitness)| fitness.remedy.as_deref());
        let mut remedies: Vec<_> = remedies.collect();
        remedies.dedup();
        let named = failing
            .iter()
            .map(|(node, fitness)| format!("{} {}", node.host, fitness.why));
        let named = named.collect::<Vec<_>>().join(", ");
        let warning = if failing.len() < self.nodes.len() {
            remedies.push("mend it, or take it out of `elasticsearch.url`");
            (!failing.is_empty()).then(|| {
                format!("a node of the search engine is left alone while others work: {named}")
            })
        } else {
            (!remedies.is_empty()).then(|| format!("the search engine cannot be used: {named}"))
        };
        let warning = warning.map(|what| format!("{what}; to do: {}", remedies.join("; ")));
        health.set_warning(SUBJECT, warning);
    }
}

impl Work {
    const ALL: [Self; 2] = [Self::Bulk, Self::Other];

    const fn slot(self, node: usize) -> usize {
        node * Self::ALL.len() + self as usize
    }
}

impl State {
    fn fitness(&mut self, node: usize, work: Work) -> Option<&mut Fitness> {
        self.fitness.get_mut(work.slot(node))
    }

    /// How a node fails, if it does at anything: what somebody has to mend before what passes, then the newest.
    fn failing(&self, node: usize) -> Option<&Fitness> {
        let kinds = Work::ALL
            .iter()
            .filter_map(|work| self.fitness.get(work.slot(node)));
        let failing = kinds.filter(|fitness| fitness.failures > 0);
        failing.max_by_key(|fitness| (fitness.remedy.is_some(), fitness.failed_at))
    }
}

impl Fitness {
    fn rests(&self, now: Instant) -> bool {
        self.rest_until.is_some_and(|until| now < until)
    }

    /// Keeps all others away while one request tries a node that has failed.
    fn begin_trial(&mut self, now: Instant) {
        if self.failures > 0 {
            self.rest_until = Some(now + self.rest(Duration::ZERO));
        }
    }

    fn rest(&self, waited: Duration) -> Duration {
        let doubled = FIRST_REST * 2_u32.saturating_pow(self.failures.saturating_sub(1).min(16));
        let for_wait = (waited * REST_PER_WAIT).min(LONGEST_REST_AFTER_WAIT);
        doubled.min(LONGEST_REST).max(for_wait)
    }
}

impl<'n> Turn<'n> {
    /// The next node to try: one that works, in turn; when all of these have failed, the one that is to be left
    /// alone for the shortest time, and no other one: who is away or overloaded is not asked by each request.
    pub(crate) fn next(&mut self) -> Option<Attempt<'n>> {
        let now = Instant::now();
        let nodes = self.nodes;
        let mut state = nodes.lock();
        let count = nodes.nodes.len();
        let mut awake = None;
        let mut resting: Option<(Instant, usize)> = None;
        for turn in 0..count {
            let index = self.first.wrapping_add(turn) % count;
            if self.tried.contains(&index) {
                continue;
            }
            let fitness = state.fitness(index, self.work)?;
            match fitness.rest_until {
                Some(until) if fitness.rests(now) => {
                    if resting.is_none_or(|(soonest, _)| until < soonest) {
                        resting = Some((until, index));
                    }
                }
                _ => {
                    awake = Some(index);
                    break;
                }
            }
        }
        let index = match (awake, resting) {
            (Some(index), _) => index,
            (None, Some((_, index))) if !self.has_woken => {
                self.has_woken = true;
                index
            }
            (None, _) => return None,
        };
        state.fitness(index, self.work)?.begin_trial(now);
        self.tried.push(index);
        Some(Attempt {
            node: nodes.nodes.get(index)?,
            nodes,
            index,
            work: self.work,
            begun: now,
        })
    }
}

impl Attempt<'_> {
    /// The node has done its work, whatever it said.
    pub(crate) fn worked(self) {
        let mut state = self.nodes.lock();
        let Some(fitness) = state.fitness(self.index, self.work) else {
            return;
        };
        let is_news = fitness.failures > 0 && fitness.failed_at.is_none_or(|at| at < self.begun);
        if is_news {
            *fitness = Fitness::default();
            tracing::info!(node = %self.node.host, "a node of the search engine works again");
            self.nodes.tell(&state);
        }
    }

    /// The node has failed: `why` says how, as what a node does ("answers 503"); `remedy` what to do, where it does not pass
    /// by itself.
    pub(crate) fn failed(self, why: &str, remedy: Option<&str>) {
        metrics::counter!(metric::NODE_FAILURES).increment(1);
        let now = Instant::now();
        let mut state = self.nodes.lock();
        let Some(fitness) = state.fitness(self.index, self.work) else {
            return;
        };
        // Requests that were under way together fail together: that is one failure.
        if fitness.failed_at.is_some_and(|at| self.begun <= at) {
            return;
        }
        fitness.failures += 1;
        fitness.failed_at = Some(now);
        why.clone_into(&mut fitness.why);
        fitness.remedy = remedy.map(str::to_owned);
        let rest = fitness.rest(now - self.begun);
        fitness.rest_until = Some(now + rest);
        if fitness.failures == 1 && self.nodes.nodes.len() > 1 {
            tracing::warn!(
                node = %self.node.host,
                "a node of the search engine {why}: it is left alone for a while, the others are used"
            );
        }
        self.nodes.tell(&state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: usize) -> Nodes {
        Nodes::new((0..count).map(|n| Url::parse(&format!("http://node{n}:9200")).unwrap()))
    }

    /// The nodes of one request that fails everywhere.
    fn all_fail(nodes: &Nodes, work: Work) -> Vec<usize> {
        let mut turn = nodes.turn(work);
        let mut tried = Vec::new();
        while let Some(attempt) = turn.next() {
            tried.push(attempt.index);
            attempt.failed("fails", None);
        }
        tried
    }

    fn works(nodes: &Nodes, work: Work) -> usize {
        let attempt = nodes.turn(work).next().unwrap();
        let index = attempt.index;
        attempt.worked();
        index
    }

    #[tokio::test(start_paused = true)]
    async fn each_node_has_its_turn() {
        let nodes = nodes(3);
        let taken: Vec<_> = (0..6).map(|_| works(&nodes, Work::Bulk)).collect();
        assert_eq!(taken, [1, 2, 0, 1, 2, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_fails_rests_longer_each_time_and_is_tried_by_one_request() {
        let nodes = nodes(2);
        for rest in [1, 2, 4, 8, 16, 32, 60, 60] {
            while nodes.turn(Work::Bulk).first % 2 != 1 {}
            let attempt = nodes.turn(Work::Bulk).next().unwrap();
            assert_eq!(attempt.index, 0);
            // All others leave it alone meanwhile.
            assert_eq!(works(&nodes, Work::Bulk), 1);
            if nodes.lock().fitness(0, Work::Bulk).unwrap().failures > 0 {
                assert_eq!(works(&nodes, Work::Bulk), 1);
            }
            attempt.failed("fails", None);
            tokio::time::advance(Duration::from_millis(rest * 1000 - 1)).await;
            for _ in 0..4 {
                assert_eq!(works(&nodes, Work::Bulk), 1);
            }
            tokio::time::advance(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_rest_one_is_woken_by_each_request() {
        let nodes = nodes(3);
        assert_eq!(all_fail(&nodes, Work::Bulk), [1, 2, 0]);
        let mut woken: Vec<_> = (0..3)
            .flat_map(|_| {
                let tried = all_fail(&nodes, Work::Bulk);
                assert_eq!(tried.len(), 1);
                tried
            })
            .collect();
        woken.sort_unstable();
        assert_eq!(woken, [0, 1, 2]);
        // Other work is not concerned.
        assert_eq!(all_fail(&nodes, Work::Other).len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_fail_together_are_one_failure_and_an_old_success_is_none() {
        let nodes = nodes(1);
        let [first, second, late] = [(); 3].map(|()| nodes.turn(Work::Bulk).next().unwrap());
        tokio::time::advance(Duration::from_millis(1)).await;
        first.failed("fails", None);
        second.failed("fails", None);
        late.worked();
        assert_eq!(nodes.lock().fitness(0, Work::Bulk).unwrap().failures, 1);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(works(&nodes, Work::Bulk), 0);
        assert_eq!(nodes.lock().fitness(0, Work::Bulk).unwrap().failures, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_lets_requests_wait_rests_for_ten_times_as_long() {
        let nodes = nodes(2);
        let attempt = nodes.turn(Work::Bulk).next().unwrap();
        tokio::time::advance(Duration::from_secs(30)).await;
        let slow = attempt.index;
        attempt.failed("does not answer", None);
        tokio::time::advance(Duration::from_secs(299)).await;
        for _ in 0..4 {
            assert_ne!(works(&nodes, Work::Bulk), slow);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_status_tells_of_a_node_only_while_another_one_works() {
        let nodes = nodes(2);
        let health = Health::new();
        nodes.report_to(health.clone());
        let mut turn = nodes.turn(Work::Bulk);
        turn.next().unwrap().failed("answers 503", None);
        let warnings = health.warnings();
        assert!(
            warnings[0].contains("node1:9200 answers 503"),
            "{warnings:?}"
        );
        turn.next().unwrap().failed("answers 503", None);
        assert_eq!(health.warnings(), [""; 0]);
        tokio::time::advance(Duration::from_secs(1)).await;
        while !nodes
            .lock()
            .fitness
            .iter()
            .all(|fitness| fitness.failures == 0)
        {
            works(&nodes, Work::Bulk);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(health.warnings(), [""; 0]);
    }
}
