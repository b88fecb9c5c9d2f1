//! Keeps an index per topic in OpenSearch or Elasticsearch equal to its table.
//!
//! A row is a document whose `_id` follows from its key. Every write carries the row's `seq` as an external
//! version, so writing again, or an older row after a newer one, changes nothing.

mod access;
mod announced;
mod answer;
mod attended;
mod aws;
mod bulk;
mod check;
mod chunk;
mod client;
mod config;
mod credentials;
mod difference;
mod document;
mod failure;
mod found;
mod given;
mod handshake;
mod id;
mod index;
mod json_text;
mod kept;
mod lane;
mod mapping;
mod mark;
mod metric;
mod naming;
mod nodes;
mod options;
mod outlook;
mod reindex;
mod renewals;
mod renewing;
mod requests;
mod secrets;
mod service;
mod shape;
mod snapshot;
mod stored;
mod succession;
mod suspects;
mod sweep;
mod target;
mod throttle;
mod tls;
mod tries;
mod value;
mod verify;
mod voice;
mod wkb;

pub use aws::{AwsConfig, AwsService};
pub use config::{Compression, Config, ElasticConfig, OnUnfitMapping};
pub use lane::{Elastic, ElasticLane};
pub use options::DocumentOptions;
pub use service::ElasticSink;

#[cfg(test)]
mod tests;
