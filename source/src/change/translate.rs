//! From the messages of the stream to records: transactions, order, `seq`.

mod events;
mod merge;
mod rows;
mod tally;
#[cfg(test)]
mod tests;
mod translator;
mod waiting;
mod window;

pub(crate) use merge::{Merged, ReadRows};
pub(crate) use translator::{Applied, Translator};
