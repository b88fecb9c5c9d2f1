//! Keeps an index per topic in OpenSearch or Elasticsearch equal to its table.
//!
//! A row is a document whose `_id` follows from its key. Every write carries the row's `seq` as an external
//! version, so writing again, or an older row after a newer one, changes nothing.

mod access;
mod answer;
mod bulk;
mod check;
mod chunk;
mod client;
mod config;
mod credentials;
mod document;
mod failure;
mod found;
mod handshake;
mod id;
mod index;
mod lane;
mod mapping;
mod mark;
mod metric;
mod naming;
mod nodes;
mod outlook;
mod reindex;
mod requests;
mod service;
mod succession;
mod suspects;
mod sweep;
mod target;
mod throttle;
mod tls;

pub use config::{Compression, Config, ElasticConfig};
pub use lane::{Elastic, ElasticLane};
pub use service::ElasticSink;

#[cfg(test)]
mod tests;
