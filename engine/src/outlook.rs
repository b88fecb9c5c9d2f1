//! What a target would become, told before anything is done.

use std::collections::BTreeMap;
use std::future::Future;

use serde_json::Value;
use tributary_runtime::{Error, Problem};

use crate::flow::form::RowForm;
use crate::mark::{Known, Mark};
use crate::target::Target;
use crate::topics::TableName;

/// A target that can say what it would do. It must change nothing, and say just what it then does.
pub trait Foresight: Target {
    /// What it does once, whatever the topics are.
    fn common(&self) -> impl Future<Output = Result<Vec<Intent>, Error>> + Send;

    /// What there is of a topic's target.
    fn outlook(
        &self,
        topic: &str,
        table: &TableName,
    ) -> impl Future<Output = Result<Outlook, Error>> + Send;

    /// What the target lacks for rows of this form; of one that is built again (`is_rebuilt`) also what empties it first. Without
    /// a form nothing is known of its rows. `mark` is what a new target begins with.
    fn needs(
        &self,
        topic: &str,
        table: &TableName,
        mark: &Mark,
        form: Option<&RowForm>,
        is_rebuilt: bool,
    ) -> impl Future<Output = Result<Needs, Error>> + Send;
}

/// What there is of a topic's target.
#[derive(Debug, Clone)]
pub struct Outlook {
    /// What it is called.
    pub target: String,
    /// What it knows of itself.
    pub known: Known,
    /// Where it stands with partitions, if it keeps offsets; without one of a partition it has none of that.
    pub stands: Option<BTreeMap<i32, i64>>,
}

/// What a target lacks.
#[derive(Debug, Clone, Default)]
pub struct Needs {
    /// What is done, in this order.
    pub steps: Vec<Intent>,
    /// What is worth knowing, and in nobody's way.
    pub notes: Vec<Problem>,
}

/// One statement, or request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// For people: it can be given to the target as it stands here.
    pub text: String,
    /// For programs.
    pub json: Value,
}
