//! `_bulk`: sends operations until each is confirmed, refused, or has failed for too long.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use tokio::time::Instant;
use tributary_engine::Rejection;
use tributary_runtime::retry::Backoff;
use tributary_runtime::{Error, Result, ResultExt};

use crate::answer::{self, Item, Outcome, TurnedAway};
use crate::chunk::{Chunk, Operation};
use crate::client::{Client, Content, Reply};
use crate::config::Compression;
use crate::failure;
use crate::index::Index;
use crate::metric;
use crate::throttle::Signal;

/// How often the alias may move, or a reindex hand over, while one request is settled.
const MOVES: usize = 5;
/// How many operations are put to the proof by one request.
const PROVED: usize = 100;
/// How often an operation is cut off beside a request that is not, before that is for its size.
const CUTS: usize = 3;
/// How long is waited behind a request that was cut off.
const PAUSE: Duration = Duration::from_millis(100);
/// The type of the failure where a shard, or as many copies as it needs, are not there.
const AWAY: &str = "unavailable_shards_exception";
/// The engines find this wrong with an operation before they look at any index.
const INVALID: &str = "action_request_validation_exception";

/// Sends chunks; shared by all writers.
#[derive(Debug)]
pub(crate) struct Bulk {
    client: Arc<Client>,
    timeout: String,
    compression: Compression,
    /// How long operations that a busy engine has turned away are sent again here, before the loop's own
    /// back-off takes over.
    patience: Duration,
}

/// A chunk on its way.
struct Submission<'s> {
    bulk: &'s Bulk,
    index: &'s Index,
    rejections: Vec<Rejection>,
    /// Records whose request the engine has refused although there was nothing else in it, and as what.
    refused_alone: Vec<(Rejection, String)>,
    /// Operations of which it is proved that the engine fails at them. They stay suspected until that is told: what keeps it from being
    /// told has them proved again at once.
    proved: Vec<Box<[u8]>>,
    /// What the index had confirmed before.
    confirmed_before: u64,
    /// There is one operation in all.
    is_alone: bool,
    /// They are letters that are replayed.
    is_replay: bool,
}

/// What the engine says to one request.
enum Response {
    Settled(Outcome),
    /// Operations went to this index, which the alias did not lead to before.
    Moved(String),
    /// Operations went to an index that has the alias' name, so the alias is gone.
    Plain,
    /// Larger than this setting of the engine allows.
    TooLarge(&'static str),
    /// Nothing: the connection was cut off.
    Cut(Error),
    /// The request as a whole, as this type of failure.
    Refused(String),
}

impl Bulk {
    pub(crate) fn new(client: Arc<Client>, compression: Compression, patience: Duration) -> Self {
        Self {
            timeout: client.engine_timeout(),
            compression,
            client,
            patience,
        }
    }

    /// Sends a chunk to an index that is made fit for it; returns the documents that the engine refuses. All other
    /// operations are confirmed then. Of letters that are replayed (`is_replay`) any number may be refused.
    ///
    /// # Errors
    /// Retry: the engine is away, blocked or busy for longer than the patience. Stop: the index is gone or
    /// not ours, or the engine does not allow the request.
    pub(crate) async fn submit(
        &self,
        index: &Index,
        mut chunk: Chunk,
        is_replay: bool,
    ) -> Result<Vec<Rejection>> {
        let mut submission = Submission {
            bulk: self,
            index,
            rejections: std::mem::take(&mut chunk.rejections),
            refused_alone: Vec::new(),
            proved: Vec::new(),
            confirmed_before: index.suspects().confirmed(),
            is_alone: chunk.operations.len() == 1,
            is_replay,
        };
        let mut parts = vec![chunk];
        while let Some(part) = parts.pop() {
            parts.extend(submission.settle(part).await?);
        }
        submission.finish()
    }

    async fn send(&self, alias: &str, chunk: &Chunk) -> (Result<Reply>, Signal) {
        let (content, bytes) = Content::lines(chunk.body(), self.compression);
        let started = Instant::now();
        let (reply, signal) = self
            .client
            .sound(
                Method::POST,
                &[alias, "_bulk"],
                // Without require_alias an engine would make an index of the alias' name once that is gone. It heeds that for documents:
                // a request of deletes alone makes one nevertheless.
                &[
                    ("require_alias", "true"),
                    ("timeout", &self.timeout),
                    ("filter_path", answer::FILTER),
                ],
                content,
            )
            .await;
        if reply.is_ok() {
            metrics::counter!(metric::REQUESTS).increment(1);
            metrics::counter!(metric::BYTES).increment(bytes as u64);
            metrics::histogram!(metric::SECONDS).record(started.elapsed());
        }
        let reply = reply.doing(|| format!("write to '{alias}'"));
        (reply, signal)
    }
}

impl Submission<'_> {
    /// Sends one request until all its operations are settled, or hands it back in halves where the engine does not
    /// take it as a whole.
    async fn settle(&mut self, mut part: Chunk) -> Result<Vec<Chunk>> {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5), 2.0);
        let give_up = Instant::now() + self.bulk.patience;
        let mut moves = 0;
        while !part.operations.is_empty() {
            let target = self.index.prepare(&part.plans).await?;
            let response = match self.request(&part, &target).await {
                Err(error) if failure::is_blocked(&error) && moves < MOVES => {
                    moves += 1;
                    self.index.wait_out(&target, error).await?;
                    continue;
                }
                response => response?,
            };
            let outcome = match response {
                Response::Settled(outcome) => outcome,
                Response::Moved(to) => {
                    moves += 1;
                    if moves > MOVES {
                        return Err(failure::elsewhere(self.index.alias(), &target, &to));
                    }
                    self.index.follow(&target).await?;
                    part = part.repeated();
                    continue;
                }
                Response::Plain => return Err(self.index.unmake().await),
                Response::TooLarge(setting) => return Ok(self.too_large(&part, setting)),
                Response::Cut(error) => return self.cut_off(part, error, &target).await,
                Response::Refused(kind) => return self.refused(&part, kind),
            };
            self.check_pipelines(&outcome).await?;
            let again = self.take(&part, outcome);
            if again.is_empty() {
                break;
            }
            let delay = backoff.next_delay();
            if Instant::now() + delay > give_up {
                self.give_up(&part, again, &target).await?;
                break;
            }
            let operations: Vec<_> = again.into_iter().map(|one| one.operation).collect();
            part = part.only(&operations);
            tokio::time::sleep(delay).await;
        }
        Ok(Vec::new())
    }

    async fn request(&self, chunk: &Chunk, target: &str) -> Result<Response> {
        let place = self.index.throttle().place().await;
        let (reply, mut signal) = self.bulk.send(self.index.alias(), chunk).await;
        let response = match reply {
            Err(error) if signal == Signal::Cut => {
                if chunk.operations.len() == 1 {
                    signal = Signal::Away;
                }
                Ok(Response::Cut(error))
            }
            reply => reply.and_then(|reply| self.read(chunk, target, &reply, &mut signal)),
        };
        place.ended(signal);
        response
    }

    /// Reads the answer to a request, and what it says of the load beyond its status.
    fn read(
        &self,
        chunk: &Chunk,
        target: &str,
        reply: &Reply,
        signal: &mut Signal,
    ) -> Result<Response> {
        let alias = self.index.alias();
        match reply.status {
            status if reply.is_too_large() => {
                if chunk.operations.len() == 1 {
                    // A document that is too large by itself says nothing of requests.
                    *signal = Signal::Fine;
                }
                Ok(Response::TooLarge(match status {
                    StatusCode::TOO_MANY_REQUESTS => "indexing_pressure.memory.limit",
                    _ => "http.max_content_length",
                }))
            }
            StatusCode::NOT_FOUND => Err(failure::vanished(alias)),
            StatusCode::BAD_REQUEST => Ok(Response::Refused(reply.failure_kind())),
            status if status.is_success() => {
                if let Some(outcome) = Outcome::of_all_done(chunk, target, &reply.body) {
                    return Ok(Response::Settled(outcome));
                }
                let items = answer::items(alias, chunk.operations.len(), &reply.body)?;
                if items.iter().any(Item::is_turned_away) {
                    *signal = Signal::Busy;
                }
                if answer::is_plain(&items, alias) {
                    return Ok(Response::Plain);
                }
                if let Some(to) = answer::elsewhere(&items, alias, target) {
                    return Ok(Response::Moved(to));
                }
                Outcome::of(alias, chunk, items).map(Response::Settled)
            }
            status => Err(self.refusal(status, &reply.failure_kind())),
        }
    }

    /// Of the engine's words only the type is told: they may quote keys.
    fn refusal(&self, status: StatusCode, kind: &str) -> Error {
        let alias = self.index.alias();
        let error = Error::stop_msg(format_args!(
            "the engine refuses a bulk request to '{alias}' with {status} ({kind})"
        ));
        match self.bulk.compression {
            Compression::None => error,
            // Who answers may be a proxy that knows no compressed requests, or takes their header away.
            Compression::Gzip => error.remedy(
                "set elasticsearch.compression = \"none\", or have what stands in front of the engine pass requests with Content-Encoding: gzip as they are",
            ),
        }
    }

    /// Where nothing but refusals comes which the mapping does not explain, and documents pass through ingest pipelines, it is those.
    async fn check_pipelines(&self, outcome: &Outcome) -> Result<()> {
        let (suspects, alias) = (self.index.suspects(), self.index.alias());
        // What is refused beside what is sent again comes again with it, where that fails for long; letters were refused before.
        let is_counted = outcome.again.is_empty() && !self.is_replay;
        let refused = if is_counted { outcome.by_pipelines } else { 0 };
        let Some(count) = suspects.refused(outcome.passed, refused) else {
            return Ok(());
        };
        let pipelines = self.index.pipelines().await?;
        if pipelines.is_empty() {
            suspects.refused_rightly();
            return Ok(());
        }
        let refused = (count, outcome.why.as_str());
        Err(failure::refused_by_pipelines(alias, refused, &pipelines))
    }

    /// Notes what became of the operations; returns those that are to be sent again.
    fn take(&mut self, part: &Chunk, outcome: Outcome) -> Vec<TurnedAway> {
        outcome.record();
        self.index.note_conflicts(outcome.conflicts);
        let suspects = self.index.suspects();
        let confirmed_before = suspects.confirmed();
        suspects.pass(outcome.passed);
        for one in outcome.again.iter().filter(|one| one.is_failure()) {
            suspects.failed(part.action_of(&one.operation), confirmed_before);
        }
        suspects.confirm(outcome.indexed);
        self.rejections.extend(outcome.rejections);
        outcome.again
    }

    /// The patience is over: rejects the operations that fail by themselves, and gives all others back to the loop.
    async fn give_up(&mut self, part: &Chunk, again: Vec<TurnedAway>, target: &str) -> Result<()> {
        let (patience, suspects) = (self.bulk.patience, self.index.suspects());
        let is_alone = part.operations.len() == 1;
        let is_piped =
            again.iter().any(TurnedAway::is_failure) && !self.index.pipelines().await?.is_empty();
        let (mut suspected, mut others): (Vec<_>, Vec<_>) = again.into_iter().partition(|one| {
            let action = part.action_of(&one.operation);
            one.is_failure()
                && one.operation.place.is_some()
                && suspects.is_suspect(action, (is_alone, is_piped), patience)
        });
        while !suspected.is_empty() {
            let later = suspected.split_off(suspected.len().min(PROVED));
            others.extend(self.prove(part, suspected, target).await?);
            suspected = later;
        }
        match others.first() {
            None => Ok(()),
            Some(first) => {
                let error = Error::retry_msg(format_args!(
                    "the engine turns operations on '{}' away for {} s ({} {})",
                    self.index.alias(),
                    patience.as_secs(),
                    first.status,
                    first.what
                ));
                Err(if first.what.contains(AWAY) {
                    error.remedy(failure::ABSENT)
                } else {
                    error
                })
            }
        }
    }

    /// Sends each of the operations once more, together with one that must work where the shard works at all. Rejects
    /// those that fail nevertheless; returns those of which nothing is proved.
    async fn prove(
        &mut self,
        part: &Chunk,
        suspected: Vec<TurnedAway>,
        target: &str,
    ) -> Result<Vec<TurnedAway>> {
        let alias = self.index.alias();
        let operations: Vec<_> = suspected.iter().map(|one| one.operation.clone()).collect();
        let probed = part.probed(&operations);
        let place = self.index.throttle().place().await;
        let (reply, signal) = self.bulk.send(alias, &probed).await;
        place.ended(signal);
        let reply = reply?;
        if !reply.status.is_success() {
            return Ok(suspected);
        }
        let items = answer::items(alias, probed.operations.len(), &reply.body)?;
        if answer::is_plain(&items, alias) {
            return Err(self.index.unmake().await);
        }
        let mut unproved = Vec::new();
        for (one, pair) in suspected.into_iter().zip(items.chunks(2)) {
            let [probe, item] = pair else { continue };
            let action = part.action_of(&one.operation);
            if pair.iter().any(|item| item.is_elsewhere(alias, target)) {
                unproved.push(one);
            } else if item.is_confirmed() {
                self.index.suspects().forget(action);
            } else if probe.is_confirmed() && item.is_failure() {
                self.proved.push(action.into());
                metrics::counter!(metric::REJECTED).increment(1);
                self.rejections.extend(one.operation.place.map(|(partition, offset)| Rejection {
                    partition,
                    offset,
                    reason: format!(
                        "the engine fails at it again and again, and takes others in the same shard ({} {})",
                        one.status, one.what
                    ),
                }));
            } else {
                unproved.push(one);
            }
        }
        Ok(unproved)
    }

    /// The halves of a part that is too large; a single operation that is too large by itself is rejected.
    fn too_large(&mut self, part: &Chunk, setting: &str) -> Vec<Chunk> {
        let [only] = part.operations.as_slice() else {
            return halves(part);
        };
        metrics::counter!(metric::REJECTED).increment(1);
        self.rejections
            .extend(only.place.map(|(partition, offset)| Rejection {
            partition,
            offset,
            reason: format!(
                "the document has {} bytes, more than the engine takes in one request ({setting})",
                Chunk::bytes_of(only)
            ),
        }));
        Vec::new()
    }

    /// The halves of a part at which the connection was cut off: the request may be larger than something on the way takes, which does
    /// not say so. A single operation is rejected where that befalls it each time, and no other request.
    async fn cut_off(&mut self, part: Chunk, error: Error, target: &str) -> Result<Vec<Chunk>> {
        // Whoever has cut it off may have passed it on: it may still be at work.
        tokio::time::sleep(PAUSE).await;
        let [only] = part.operations.as_slice() else {
            return Ok(halves(&part));
        };
        let (suspects, action) = (self.index.suspects(), part.action_of(only));
        suspects.failed(action, self.confirmed_before);
        let Some((partition, offset)) = only.place else {
            return Err(error);
        };
        if !suspects.is_suspect(action, (self.is_alone, false), self.bulk.patience) {
            return Err(error);
        }
        let probe = part.probe(only);
        for _ in 0..CUTS {
            match self.request(&probe, target).await? {
                Response::Settled(outcome) if outcome.again.is_empty() => {}
                _ => return Err(error),
            }
            if !matches!(self.request(&part, target).await?, Response::Cut(_)) {
                return Ok(vec![part]);
            }
        }
        // It stays suspected: further such documents may keep this one's rejection from being told, and it is proved at once again.
        metrics::counter!(metric::REJECTED).increment(1);
        self.rejections.push(Rejection {
            partition,
            offset,
            reason: format!(
                "the connection is cut off each time that the document is sent, with {} bytes, and not at others: more than something between takes in one request or waits for, or the engine fails at it",
                Chunk::bytes_of(only)
            ),
        });
        Ok(Vec::new())
    }

    /// The halves of a part that the engine refuses as a whole, for it may be one operation that it cannot read.
    fn refused(&mut self, part: &Chunk, kind: String) -> Result<Vec<Chunk>> {
        let [only] = part.operations.as_slice() else {
            return Ok(halves(part));
        };
        let Some((partition, offset)) = only.place else {
            return Err(self.refusal(StatusCode::BAD_REQUEST, &kind));
        };
        let reason = format!("the engine refuses a request with it alone (400 {kind})");
        self.refused_alone.push((
            Rejection {
                partition,
                offset,
                reason,
            },
            kind,
        ));
        // Two in a row and none that passed: it is not the records.
        if self.refused_alone.len() > 1 {
            self.check_refused()?;
        }
        Ok(Vec::new())
    }

    /// Where all requests are refused it is for what they have in common.
    fn check_refused(&self) -> Result<()> {
        let has_passed = self.index.suspects().confirmed() > self.confirmed_before;
        match self.refused_alone.first() {
            Some((_, kind)) if !has_passed && kind != INVALID => {
                Err(self.refusal(StatusCode::BAD_REQUEST, kind))
            }
            _ => Ok(()),
        }
    }

    fn finish(mut self) -> Result<Vec<Rejection>> {
        self.check_refused()?;
        for action in &self.proved {
            self.index.suspects().forget(action);
        }
        metrics::counter!(metric::REJECTED).increment(self.refused_alone.len() as u64);
        let refused = self.refused_alone.drain(..);
        self.rejections
            .extend(refused.map(|(rejection, _)| rejection));
        Ok(self.rejections)
    }
}

fn halves(chunk: &Chunk) -> Vec<Chunk> {
    let operations: &[Operation] = &chunk.operations;
    let (left, right) = operations.split_at(operations.len() / 2);
    vec![chunk.only(right), chunk.only(left)]
}
