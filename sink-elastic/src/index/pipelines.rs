//! The ingest pipelines that documents pass through on their way into an index.

use tributary_runtime::Result;

use super::Index;

/// The settings that name them.
const SETTINGS: [&str; 2] = ["index.default_pipeline", "index.final_pipeline"];
/// What an engine takes for no pipeline.
const NONE: &str = "_none";

impl Index {
    /// Their names, read anew.
    ///
    /// # Errors
    /// As [`Index::find`].
    pub(crate) async fn pipelines(&self) -> Result<Vec<String>> {
        let Some(found) = self.read().await? else {
            return Ok(Vec::new());
        };
        let names = SETTINGS
            .iter()
            .filter_map(|name| found.settings.get(*name)?.as_str());
        let names = names.filter(|name| *name != NONE);
        Ok(names.map(str::to_owned).collect())
    }
}
