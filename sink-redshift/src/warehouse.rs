//! What any warehouse needs, whatever SQL it speaks: where tables go, which columns records lead to, what a table lacks for
//! them, which column takes which value; what the ledger's rows mean, who may write, and in which order that is done.
//!
//! Nothing here sends a statement or knows one. A dialect brings its [`TableRules`](rules::TableRules) and does the steps of
//! a [`Write`](order::Write); everything else it takes from here as data, and turns into its SQL.

pub(crate) mod batch;
pub(crate) mod claims;
pub(crate) mod deadline;
pub(crate) mod failure;
pub(crate) mod growth;
pub(crate) mod ledger;
pub(crate) mod mark;
pub(crate) mod metric;
pub(crate) mod name;
pub(crate) mod order;
pub(crate) mod placement;
pub(crate) mod plan;
pub(crate) mod rules;
pub(crate) mod search;
pub(crate) mod target;
