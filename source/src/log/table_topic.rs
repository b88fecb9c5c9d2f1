//! A table as it is published: its topic, its schemas' ids, its encode plan.

mod allow_text;
mod fault;
mod forms;
mod key_id;
mod registrar;
mod schemas;
mod table;
mod unfit;

pub(crate) use registrar::Registrar;
pub(crate) use table::{TableTopic, topic_spec};
