//! What can be wrong with a schema, and with a body.

use std::fmt;

/// A writer's schema that no plan can be compiled from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// The registry has a schema of another kind under the id.
    #[error("the registry says that it is a {kind} schema, not an Avro one")]
    NotAvro {
        /// As the registry names it.
        kind: String,
    },
    /// The text is not JSON, or nested too deeply for a schema.
    #[error("the schema is not readable JSON: {0}")]
    Json(String),
    /// The JSON is no Avro schema.
    #[error("the schema is not valid Avro at '{at}': {problem}")]
    Invalid {
        /// The path of names from the top of the schema.
        at: String,
        /// What the Avro specification asks for there.
        problem: String,
    },
    /// A name that nothing before it defines.
    #[error(
        "the schema refers at '{at}' to the type '{name}', which it does not define before that \
         (register the schema with its references inlined)"
    )]
    UnknownType {
        /// The path of names from the top of the schema.
        at: String,
        /// The name as it is written.
        name: String,
    },
    /// A type that contains itself.
    #[error("the type '{name}' contains itself at '{at}': recursive schemas are not supported")]
    Recursive {
        /// The path of names from the top of the schema.
        at: String,
        /// The type's full name.
        name: String,
    },
    /// More types than any table has, once references are followed.
    #[error("the schema has more than {limit} types, or nests deeper than {depth}")]
    TooLarge {
        /// The most types that a plan takes.
        limit: usize,
        /// The deepest nesting that a plan takes.
        depth: usize,
    },
    /// A `-value` schema of another kind.
    #[error(
        "'{name}' is not a Debezium change event envelope ({problem}). The topic needs whole envelopes: if \
         the ExtractNewRecordState transform flattens its records, take that transform out of the connector"
    )]
    NotAnEnvelope {
        /// The full name of the record, or the name of the Avro type.
        name: String,
        /// What is missing or of the wrong type.
        problem: String,
    },
}

/// What is wrong with a body. No variant holds anything of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The body is shorter than its data.
    #[error("the body ends {missing} bytes too early")]
    EndOfBody {
        /// How many bytes are missing at least.
        missing: usize,
    },
    /// The body goes on behind the data.
    #[error("{count} bytes are left over behind the record")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// A variable-length integer of more than ten bytes, or past 64 bits.
    #[error("an integer has more than 64 bits")]
    LongTooLong,
    /// An `int` past 32 bits.
    #[error("an int has more than 32 bits")]
    IntTooLong,
    /// A negative length.
    #[error("a length is negative")]
    NegativeLength,
    /// A boolean that is neither 0 nor 1.
    #[error("a boolean is neither 0 nor 1")]
    NotABoolean,
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    NotUtf8,
    /// A branch that the union does not have.
    #[error("a union of {branches} branches has no branch of this index")]
    NoSuchBranch {
        /// How many branches the union has.
        branches: usize,
    },
    /// A symbol that the enum does not have.
    #[error("an enum of {symbols} symbols has no symbol of this index")]
    NoSuchSymbol {
        /// How many symbols the enum has.
        symbols: usize,
    },
    /// A block of an array or map whose announced size is not its size.
    #[error("a block of items has another size than it announces")]
    BlockSize,
    /// An array or map that announces more items than the body can hold.
    #[error("an array or map announces more items than the body can hold")]
    TooManyItems,
    /// An `op` that is no operation of Debezium's.
    #[error("op is none of r, c, u, d, t, m")]
    UnknownOp,
    /// A read, create or update without the row.
    #[error("a read, create or update has no row in 'after'")]
    NoRow,
    /// Null where a record has to be.
    #[error("the record itself is null")]
    NullRecord,
}

/// A body that does not decode with its schema: what is wrong, and where; never a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    path: String,
    offset: usize,
    problem: Problem,
}

impl DecodeError {
    pub(super) const fn new(offset: usize, problem: Problem) -> Self {
        Self {
            path: String::new(),
            offset,
            problem,
        }
    }

    /// The path of field names (as the schema writes them) and item indexes; empty for the whole body.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Bytes from the body's beginning (behind the schema id) to where the problem was found.
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// What is wrong.
    pub const fn problem(&self) -> Problem {
        self.problem
    }

    /// Puts the name of the field that the error came from in front of the path.
    pub(super) fn prepend(&mut self, step: &str) {
        if !self.path.is_empty() && !self.path.starts_with('[') {
            self.path.insert(0, '.');
        }
        self.path.insert_str(0, step);
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            offset,
            problem,
        } = self;
        let place = if path.is_empty() { "the record" } else { path };
        write!(
            f,
            "the body does not fit its schema at {place}, byte {offset}: {problem}"
        )
    }
}

impl std::error::Error for DecodeError {}
