//! Decode plans by schema id: asked from the registry once per id, compiled once, shared by all partitions.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ahash::AHashMap;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tributary_schemas::decode::{KeyPlan, SchemaError, ValuePlan};
use tributary_schemas::wire;

use crate::flow::records::Records;
use crate::lock::lock;
use tributary_runtime::registry::{Registry, Schema};
use tributary_runtime::{Error, Result};

/// How long the registry may take to know an id. What its replicas read is behind what one of them has registered, and a
/// record may come in between.
const PATIENCE: Duration = Duration::from_secs(30);
/// So many ids are remembered that the registry does not know: junk may have any number of them.
const UNKNOWN_MAX: usize = 1_000;

/// What an id stands for. A schema that is no plan stays one: ids are never given to another schema.
type Compiled<P> = std::result::Result<Arc<P>, Arc<SchemaError>>;

/// The plans that one partition has met. `None`: the registry does not know the id (yet).
#[derive(Debug, Default)]
pub(crate) struct Plans {
    pub(crate) keys: AHashMap<u32, Option<Compiled<KeyPlan>>>,
    pub(crate) values: AHashMap<u32, Option<Compiled<ValuePlan>>>,
}

/// An answer about a schema; `None` where nobody knows it.
type Answer<'a, A> = Pin<Box<dyn Future<Output = Result<Option<A>>> + Send + 'a>>;

/// Who knows the schemas. Asked once per id, so that a box costs nothing.
pub(crate) trait Schemas: fmt::Debug + Send + Sync {
    /// The schema of this id.
    fn schema(&self, id: u32) -> Answer<'_, Schema>;

    /// The text of the newest schema of this subject.
    fn latest<'a>(&'a self, subject: &'a str) -> Answer<'a, String>;
}

impl Schemas for Registry {
    fn schema(&self, id: u32) -> Answer<'_, Schema> {
        Box::pin(Self::schema(self, id))
    }

    fn latest<'a>(&'a self, subject: &'a str) -> Answer<'a, String> {
        Box::pin(async {
            Ok(Self::latest(self, subject)
                .await?
                .map(|latest| latest.schema))
        })
    }
}

/// The plans of all partitions.
#[derive(Debug)]
pub(crate) struct SchemaCache {
    registry: Box<dyn Schemas>,
    keys: Cells<KeyPlan>,
    values: Cells<ValuePlan>,
    /// Since when an id has been asked for in vain.
    unknown: Mutex<AHashMap<u32, Instant>>,
}

#[derive(Debug)]
struct Cells<P>(Mutex<AHashMap<u32, Arc<OnceCell<Compiled<P>>>>>);

impl SchemaCache {
    pub(crate) fn new(registry: impl Schemas + 'static) -> Self {
        Self {
            registry: Box::new(registry),
            keys: Cells::new(),
            values: Cells::new(),
            unknown: Mutex::default(),
        }
    }

    /// The newest schema of this subject; `None` where nobody knows it.
    ///
    /// # Errors
    /// The registry's.
    pub(crate) async fn latest(&self, subject: &str) -> Result<Option<String>> {
        self.registry.latest(subject).await
    }

    /// Makes `plans` know every schema id of `records`, as far as the registry does. What it did not know is asked for
    /// again in every batch.
    ///
    /// # Errors
    /// The registry's: retry while it is away, and while it may come to know an id.
    pub(crate) async fn complete(&self, plans: &mut Plans, records: &Records) -> Result<()> {
        plans.keys.retain(|_, plan| plan.is_some());
        plans.values.retain(|_, plan| plan.is_some());
        let (mut last_key, mut last_value) = (None, None);
        for record in records.iter() {
            if let Some(id) = schema_id(record.key)
                && last_key != Some(id)
            {
                self.keys
                    .complete(&mut plans.keys, id, &*self.registry, KeyPlan::compile)
                    .await?;
                last_key = Some(id);
            }
            if let Some(id) = schema_id(record.value)
                && last_value != Some(id)
            {
                self.values
                    .complete(&mut plans.values, id, &*self.registry, ValuePlan::compile)
                    .await?;
                last_value = Some(id);
            }
        }
        self.await_unknown(plans, Instant::now())
    }

    /// All ids of the batch wait at the same time.
    fn await_unknown(&self, plans: &Plans, now: Instant) -> Result<()> {
        let mut unknown = lock(&self.unknown);
        let mut fresh = None;
        for id in plans.unknown() {
            let since = *unknown.entry(id).or_insert(now);
            if now - since < PATIENCE {
                fresh = Some(id);
            }
        }
        if unknown.len() > UNKNOWN_MAX {
            unknown.retain(|&id, &mut since| plans.lacks(id) || now - since < PATIENCE);
        }
        match fresh {
            None => Ok(()),
            Some(id) => Err(Error::retry_msg(format_args!(
                "the schema registry does not know schema id {id}; it is given {} s",
                PATIENCE.as_secs()
            ))),
        }
    }
}

impl Plans {
    fn unknown(&self) -> impl Iterator<Item = u32> {
        let keys = self.keys.iter().filter(|(_, plan)| plan.is_none());
        let values = self.values.iter().filter(|(_, plan)| plan.is_none());
        keys.map(|(&id, _)| id).chain(values.map(|(&id, _)| id))
    }

    fn lacks(&self, id: u32) -> bool {
        let key = self.keys.get(&id).is_some_and(Option::is_none);
        key || self.values.get(&id).is_some_and(Option::is_none)
    }
}

/// Registries give positive numbers of 32 bits: another one is junk, and they do not take it for an id.
fn schema_id(data: Option<&[u8]>) -> Option<u32> {
    let (id, _) = wire::parse(data?)?;
    i32::try_from(id).is_ok().then_some(id)
}

impl<P> Cells<P> {
    fn new() -> Self {
        Self(Mutex::default())
    }

    async fn complete(
        &self,
        known: &mut AHashMap<u32, Option<Compiled<P>>>,
        id: u32,
        registry: &dyn Schemas,
        compile: fn(&str) -> std::result::Result<P, SchemaError>,
    ) -> Result<()> {
        if known.contains_key(&id) {
            return Ok(());
        }
        let plan = self.get(id, registry, compile).await?;
        known.insert(id, plan);
        Ok(())
    }

    /// The plan of an id. Partitions that miss at the same time wait for one request.
    async fn get(
        &self,
        id: u32,
        registry: &dyn Schemas,
        compile: fn(&str) -> std::result::Result<P, SchemaError>,
    ) -> Result<Option<Compiled<P>>> {
        let cell = {
            let mut cells = lock(&self.0);
            Arc::clone(cells.entry(id).or_default())
        };
        let plan = cell
            .get_or_try_init(|| async {
                match registry.schema(id).await {
                    Ok(Some(Schema::Avro(text))) => {
                        Ok(compile(&text).map(Arc::new).map_err(Arc::new))
                    }
                    Ok(Some(Schema::Other(kind))) => {
                        Ok(Err(Arc::new(SchemaError::NotAvro { kind })))
                    }
                    Ok(None) => Err(None),
                    Err(error) => Err(Some(error)),
                }
            })
            .await;
        match plan {
            Ok(plan) => Ok(Some(plan.clone())),
            Err(None) => {
                // Whoever asks again makes another one: what is never known is not kept.
                let mut cells = lock(&self.0);
                cells.remove(&id);
                Ok(None)
            }
            Err(Some(error)) => Err(error.context(format!("ask the registry for schema id {id}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;
    use tributary_runtime::Policy;
    use tributary_runtime::registry::Registry;

    use super::{PATIENCE, Plans, SchemaCache, UNKNOWN_MAX};

    fn unknown(ids: std::ops::Range<u32>) -> Plans {
        let mut plans = Plans::default();
        plans.values.extend(ids.map(|id| (id, None)));
        plans
    }

    #[test]
    fn unknown_ids_are_waited_for_together_and_once() {
        let cache = SchemaCache::new(Registry::new("http://127.0.0.1:1").unwrap());
        let many = u32::try_from(UNKNOWN_MAX).unwrap() * 2;
        let begin = Instant::now();
        let first = cache.await_unknown(&unknown(0..many), begin).unwrap_err();
        assert_eq!(first.policy(), Policy::Retry);
        let later = begin + PATIENCE;
        assert!(cache.await_unknown(&unknown(0..many), later).is_ok());
        assert!(cache.await_unknown(&unknown(0..many), later).is_ok());
        assert!(
            cache
                .await_unknown(&unknown(many..many + 1), later)
                .is_err()
        );
        // Those that another batch had are forgotten.
        assert_eq!(cache.unknown.lock().unwrap().len(), 1);
    }
}
