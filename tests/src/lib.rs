//! The local stack, the services as processes, the oracle, and what the end-to-end tests share.

pub mod http;
pub mod oracle;
pub mod pipeline;
pub mod service;
pub mod shop;
pub mod stack;
