//! Decode plans by schema id: asked from the registry once per id, compiled once, shared by all partitions.

use std::sync::{Arc, Mutex, PoisonError};

use ahash::AHashMap;
use tokio::sync::OnceCell;
use tributary_schemas::decode::{KeyPlan, SchemaError, ValuePlan};
use tributary_schemas::wire;

use crate::flow::records::Records;
use tributary_runtime::Result;
use tributary_runtime::registry::Registry;

/// What an id stands for. A schema that is no plan stays one: ids are never given to another schema.
type Compiled<P> = std::result::Result<Arc<P>, Arc<SchemaError>>;

/// The plans that one partition has met. `None`: the registry does not know the id (yet).
#[derive(Debug, Default)]
pub(crate) struct Plans {
    pub(crate) keys: AHashMap<u32, Option<Compiled<KeyPlan>>>,
    pub(crate) values: AHashMap<u32, Option<Compiled<ValuePlan>>>,
}

/// The plans of all partitions.
#[derive(Debug)]
pub(crate) struct SchemaCache {
    registry: Registry,
    keys: Cells<KeyPlan>,
    values: Cells<ValuePlan>,
}

#[derive(Debug)]
struct Cells<P>(Mutex<AHashMap<u32, Arc<OnceCell<Compiled<P>>>>>);

impl SchemaCache {
    pub(crate) fn new(registry: Registry) -> Self {
        Self {
            registry,
            keys: Cells::new(),
            values: Cells::new(),
        }
    }

    /// Makes `plans` know every schema id of `records`. What the registry did not know is asked for again
    /// in every batch.
    ///
    /// # Errors
    /// The registry's: retry while it is away.
    pub(crate) async fn complete(&self, plans: &mut Plans, records: &Records) -> Result<()> {
        plans.keys.retain(|_, plan| plan.is_some());
        plans.values.retain(|_, plan| plan.is_some());
        let (mut last_key, mut last_value) = (None, None);
        for record in records.iter() {
            if let Some(id) = schema_id(record.key)
                && last_key != Some(id)
            {
                self.keys
                    .complete(&mut plans.keys, id, &self.registry, KeyPlan::compile)
                    .await?;
                last_key = Some(id);
            }
            if let Some(id) = schema_id(record.value)
                && last_value != Some(id)
            {
                self.values
                    .complete(&mut plans.values, id, &self.registry, ValuePlan::compile)
                    .await?;
                last_value = Some(id);
            }
        }
        Ok(())
    }
}

fn schema_id(data: Option<&[u8]>) -> Option<u32> {
    wire::parse(data?).map(|(id, _)| id)
}

impl<P> Cells<P> {
    fn new() -> Self {
        Self(Mutex::default())
    }

    async fn complete(
        &self,
        known: &mut AHashMap<u32, Option<Compiled<P>>>,
        id: u32,
        registry: &Registry,
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
        registry: &Registry,
        compile: fn(&str) -> std::result::Result<P, SchemaError>,
    ) -> Result<Option<Compiled<P>>> {
        let cell = {
            let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(cells.entry(id).or_default())
        };
        let plan = cell
            .get_or_try_init(|| async {
                match registry.schema(id).await {
                    Ok(Some(schema)) => Ok(compile(&schema).map(Arc::new).map_err(Arc::new)),
                    Ok(None) => Err(None),
                    Err(error) => Err(Some(error)),
                }
            })
            .await;
        match plan {
            Ok(plan) => Ok(Some(plan.clone())),
            Err(None) => Ok(None),
            Err(Some(error)) => Err(error.context(format!("ask the registry for schema id {id}"))),
        }
    }
}
