//! How rows become documents of the index that is in use.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value};
use tributary_runtime::Result;
use tributary_schemas::record::RecordType;

use crate::document::DocumentPlan;
use crate::shape::Shape;

/// How many row types are kept compiled: old and new ones alternate only while a change of schema passes.
const PLANS: usize = 8;

/// The compiled forms of row types.
#[derive(Debug, Default)]
pub(super) struct Plans(Mutex<Compiled>);

#[derive(Debug, Default)]
struct Compiled {
    /// How the index maps fields.
    mapped: Map<String, Value>,
    plans: Vec<Arc<DocumentPlan>>,
}

impl Plans {
    /// The compiled form of a row type.
    ///
    /// # Errors
    /// Stop: two columns would be one field.
    pub(super) fn get(&self, row_type: &RecordType, shape: &Shape) -> Result<Arc<DocumentPlan>> {
        let mut compiled = self.lock();
        let mut known = compiled.plans.iter();
        if let Some(plan) = known.find(|plan| plan.row_type() == row_type) {
            return Ok(Arc::clone(plan));
        }
        let plan = Arc::new(DocumentPlan::new(row_type, shape, &compiled.mapped)?);
        if let Some(unknown) = shape.unknown_columns(row_type) {
            tracing::warn!("{unknown}");
        }
        if compiled.plans.len() == PLANS {
            compiled.plans.remove(0);
        }
        compiled.plans.push(Arc::clone(&plan));
        Ok(plan)
    }

    /// Documents go to an index that maps fields so: what writes them otherwise is compiled anew.
    pub(super) fn fit(&self, mapped: &Map<String, Value>) {
        let mut compiled = self.lock();
        compiled.plans.retain(|plan| plan.suits(mapped));
        compiled.mapped.clone_from(mapped);
    }

    fn lock(&self) -> MutexGuard<'_, Compiled> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
