//! What the command line asks for.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, value_parser};
use serde_json::{Map, Value};
use tributary_runtime::Result;
use tributary_runtime::cli::yes;

use crate::given;

/// What is compared.
const COUNTS: &str = "counts";
const DOCUMENTS: &str = "documents";

/// What a reindex is to do.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) topic: Option<String>,
    pub(super) alias: Option<String>,
    /// What stands before the mapping that follows from the columns.
    pub(super) mapping: Option<Map<String, Value>>,
    pub(super) keep_old: bool,
    /// An index that has the alias' name may be deleted.
    pub(super) replace_index: bool,
    pub(super) verify_counts: bool,
    /// Each document is compared before.
    pub(super) compare_documents: bool,
    /// The index that was kept is to be in use again.
    pub(super) rollback: bool,
    pub(super) abandon: bool,
    /// A service runs the command by itself.
    pub(super) attended: bool,
    pub(super) yes: bool,
}

pub(super) fn definition(name: &'static str) -> Command {
    let text = |id: &'static str, value: &'static str, help: &'static str| {
        Arg::new(id).long(id).value_name(value).help(help)
    };
    let flag = |id: &'static str, help: &'static str| {
        Arg::new(id).long(id).action(ArgAction::SetTrue).help(help)
    };
    Command::new(name)
        .about(
            "Builds a topic's index again from the beginning of the log, beside the running service, and moves the alias to it; run \
             again after an interruption it goes on",
        )
        .args([
            text("topic", "TOPIC", "The topic whose index is built again"),
            text("index", "ALIAS", "The same, by its alias"),
            text("mapping", "FILE", "A mapping in JSON, {\"properties\": {…}}, that stands before what follows from the columns and from elasticsearch.documents")
                .value_parser(value_parser!(PathBuf)),
            flag("keep-old", "Keep the index that was replaced; without this it is deleted once no search uses it"),
            text("verify-counts", "BOOL", "Compare the numbers of documents before the alias is moved, and do not move it where the new index has fewer")
                .value_parser(value_parser!(bool))
                .default_value("true"),
            text("compare", "WHAT", "What is compared before the alias is moved: how many documents there are, or also each document of the old index with that of the new one, which reads both")
                .value_parser([COUNTS, DOCUMENTS])
                .default_value(COUNTS),
            flag("replace-index", "Where the alias' name is an index, as another connector makes it: delete that one, which nobody can take back, once the new one is whole, and have the alias in its place. It cannot be kept: a name is either an index or an alias")
                .conflicts_with_all(["keep-old", "compare"]),
            flag("rollback", "Have the alias lead again to the index that a reindex with --keep-old has kept: it is read on from where it was left, and takes the place of the one in use, as a new index does")
                .conflicts_with_all(["mapping", "replace-index"]),
            flag("abandon", "Delete what an unfinished reindex has made, and do nothing else; wants --yes. An index that was to be gone back to stays kept")
                .conflicts_with_all(["mapping", "keep-old", "replace-index", "rollback", "compare"]),
            yes().requires("abandon"),
            flag("attended", "For the service, which runs the command by itself: it ends when stdin does").hide(true),
        ])
        .group(ArgGroup::new("what").args(["topic", "index"]).required(true))
}

impl Wanted {
    /// # Errors
    /// Stop: the mapping's file cannot be read, or is none.
    pub(super) fn read(arguments: &ArgMatches) -> Result<Self> {
        let text = |id: &str| arguments.get_one::<String>(id).cloned();
        let mapping = arguments.get_one::<PathBuf>("mapping");
        Ok(Self {
            topic: text("topic"),
            alias: text("index"),
            mapping: mapping.map(|file| given::read(file)).transpose()?,
            keep_old: arguments.get_flag("keep-old"),
            replace_index: arguments.get_flag("replace-index"),
            verify_counts: arguments.get_one::<bool>("verify-counts") != Some(&false),
            compare_documents: text("compare").as_deref() == Some(DOCUMENTS),
            rollback: arguments.get_flag("rollback"),
            abandon: arguments.get_flag("abandon"),
            attended: arguments.get_flag("attended"),
            yes: arguments.get_flag("yes"),
        })
    }
}
