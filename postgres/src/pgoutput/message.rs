//! The messages.

use super::tuple::TupleData;
use tributary_schemas::Lsn;

/// One message of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// A transaction starts.
    Begin(Begin),
    /// The transaction that began last ends.
    Commit(Commit),
    /// The transaction came from another server: follows its `Begin` at once.
    Origin(Origin<'a>),
    /// A table's shape, before its first change in this session and after every change of the shape.
    Relation(Relation<'a>),
    /// A type's name, before the relation that uses it; built-in types are not announced.
    Type(Type<'a>),
    /// A new row.
    Insert(Insert<'a>),
    /// A changed row.
    Update(Update<'a>),
    /// A deleted row.
    Delete(Delete<'a>),
    /// Emptied tables.
    Truncate(Truncate),
    /// A message of `pg_logical_emit_message`.
    Logical(LogicalMessage<'a>),
    /// A change that our publications would have left out: it is on the wire, so it is counted, and nothing
    /// more. Only other plug-ins send such.
    Unpublished,
}

/// The start of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// The LSN of the transaction's commit record: equals [`Commit::commit_lsn`].
    pub final_lsn: Lsn,
    /// When it was committed: microseconds since 1970. For a transaction with an [`Origin`] the
    /// origin's commit time.
    pub commit_time_us: i64,
    /// The transaction's id, without its epoch.
    pub xid: u32,
}

/// The end of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Unused so far: zero.
    pub flags: u8,
    /// The LSN of the commit record.
    pub commit_lsn: Lsn,
    /// The LSN just behind the commit record: what is confirmed to the server.
    pub end_lsn: Lsn,
    /// When it was committed: microseconds since 1970.
    pub commit_time_us: i64,
}

/// Where a replicated transaction came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The commit's LSN on the origin server.
    pub commit_lsn: Lsn,
    /// The origin's name.
    pub name: &'a str,
}

/// How a table's old rows are identified (`pg_class.relreplident`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// By the primary key, if there is one.
    Default,
    /// Not at all.
    Nothing,
    /// By the whole row.
    Full,
    /// By the columns of a chosen unique index.
    Index,
}

/// A table's shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation<'a> {
    /// The table's OID, which its rows refer to.
    pub oid: u32,
    /// The schema; the wire's empty name is given as `pg_catalog`.
    pub schema: &'a str,
    /// The table.
    pub name: &'a str,
    /// How old rows are identified.
    pub replica_identity: ReplicaIdentity,
    /// The columns that are published, in the order of the tuples.
    pub columns: Vec<RelationColumn<'a>>,
}

/// A column of a [`Relation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelationColumn<'a> {
    /// Part of the replica identity; with [`ReplicaIdentity::Full`] every column is.
    pub key: bool,
    /// The column.
    pub name: &'a str,
    /// The OID of its type.
    pub type_oid: u32,
    /// The type's modifier (`atttypmod`), -1 without one.
    pub type_modifier: i32,
}

/// A type's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Type<'a> {
    /// The type's OID.
    pub oid: u32,
    /// The schema; the wire's empty name is given as `pg_catalog`.
    pub schema: &'a str,
    /// The type.
    pub name: &'a str,
}

/// A new row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insert<'a> {
    /// The table's OID.
    pub relation: u32,
    /// The row.
    pub new: TupleData<'a>,
}

/// What an update or delete says of the row before it.
///
/// Both forms have as many cells as the relation has columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldRow<'a> {
    /// The columns of the replica identity; all others are null.
    Key(TupleData<'a>),
    /// The whole row, with [`ReplicaIdentity::Full`].
    Full(TupleData<'a>),
}

/// A changed row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update<'a> {
    /// The table's OID.
    pub relation: u32,
    /// The row before; absent where the identity did not change and is not the whole row.
    pub old: Option<OldRow<'a>>,
    /// The row after.
    pub new: TupleData<'a>,
}

/// A deleted row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delete<'a> {
    /// The table's OID.
    pub relation: u32,
    /// The row before.
    pub old: OldRow<'a>,
}

/// Emptied tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truncate {
    /// The tables' OIDs.
    pub relations: Vec<u32>,
    /// `TRUNCATE … CASCADE`.
    pub cascade: bool,
    /// `TRUNCATE … RESTART IDENTITY`.
    pub restart_identity: bool,
}

/// A message of `pg_logical_emit_message`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogicalMessage<'a> {
    /// Part of the transaction around it; otherwise it stands alone, and outside of any.
    pub transactional: bool,
    /// What Postgres says where it stands: for a message outside of any transaction the end of its record, which is also the
    /// commit LSN of a transaction whose commit record is the next one.
    pub lsn: Lsn,
    /// Who it is for.
    pub prefix: &'a str,
    /// What it says.
    pub content: &'a [u8],
}

impl LogicalMessage<'_> {
    /// A place inside its record, if it is outside of any transaction: no other message's, and no commit's.
    #[must_use]
    pub const fn place(&self) -> Lsn {
        Lsn(self.lsn.0.saturating_sub(1))
    }
}
