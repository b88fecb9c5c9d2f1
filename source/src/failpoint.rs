//! Named places at which a test kills the process: one in every window between two steps that are not one. How, says
//! [`tributary_runtime::failpoint`].

pub(crate) use tributary_runtime::failpoint::{hit, pause};

/// All records of a Kafka transaction, and its position, are with the broker; the transaction is open.
pub(crate) const PRODUCED: &str = "produced";
/// The same, where there are records beside the position. For pauses.
pub(crate) const PRODUCED_RECORDS: &str = "produced-records";
/// A Kafka transaction is committed; nobody in this process knows it yet, and the slot least of all.
pub(crate) const COMMITTED: &str = "committed";
/// The slot is about to hear of a newer position.
pub(crate) const CONFIRMING: &str = "confirming";
/// Earlier producers are fenced (`init_transactions`); progress is not read yet.
pub(crate) const TAKEN_OVER: &str = "taken-over";
/// A table's first schema is about to be registered.
pub(crate) const REGISTERING: &str = "registering";
/// A table's schemas are registered; the log does not know their ids.
pub(crate) const REGISTERED: &str = "registered";
/// The slot is about to be created; progress says that a snapshot runs.
pub(crate) const CREATING_SLOT: &str = "creating-slot";
/// The slot exists; the log does not know its consistent point.
pub(crate) const CREATED_SLOT: &str = "created-slot";
/// Within a chunk of the first snapshot: some of its rows are handed over.
pub(crate) const SNAPSHOT_CHUNK: &str = "snapshot-chunk";
/// Within a chunk read beside the stream: between its low and its high watermark.
pub(crate) const WATERMARK_CHUNK: &str = "watermark-chunk";

/// A pause: the first snapshot is there, and a range of it is about to be read.
pub(crate) const SNAPSHOT_READING: &str = "snapshot-reading";
/// A pause: a chunk beside the stream is about to be locked; its low watermark is written.
pub(crate) const CHUNK_LOCKING: &str = "chunk-locking";
/// A pause: a chunk beside the stream has its snapshot, and none of its rows.
pub(crate) const CHUNK_SNAPSHOT: &str = "chunk-snapshot";
/// A pause: the snapshot of a table without a key is there, and nothing was looked at under it.
pub(crate) const KEYLESS_SNAPSHOT: &str = "keyless-snapshot";
/// A pause: the stream stands where a table without a key is to be read.
pub(crate) const KEYLESS_READING: &str = "keyless-reading";
/// A pause: a look-up has its snapshot, and has found no row yet.
pub(crate) const LOOKUP_SNAPSHOT: &str = "lookup-snapshot";
