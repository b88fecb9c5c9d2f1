//! placeholder
pub mod stack;
