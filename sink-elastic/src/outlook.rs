//! What the service would make and change on the engine, asked by requests that only read.

use serde_json::json;
use tributary_engine::{Foresight, Intent, Mark, Needs, Outlook, RowForm, TableName};
use tributary_runtime::{Error, Problem};

use crate::lane::Elastic;
use crate::requests::Request;

impl Foresight for Elastic {
    async fn common(&self) -> Result<Vec<Intent>, Error> {
        Ok(Vec::new())
    }

    async fn outlook(&self, topic: &str, _table: &TableName) -> Result<Outlook, Error> {
        let index = self.index(topic);
        Ok(Outlook {
            target: index.alias().to_owned(),
            known: index.foreseen().await?,
            stands: None,
        })
    }

    async fn needs(
        &self,
        topic: &str,
        _table: &TableName,
        mark: &Mark,
        form: Option<&RowForm>,
        is_rebuilt: bool,
    ) -> Result<Needs, Error> {
        let row_type = form.map(|form| &form.row_type);
        let index = self.index(topic);
        let (requests, notes) = index.needs(mark, row_type, is_rebuilt).await?;
        Ok(Needs {
            steps: requests.iter().map(step).collect(),
            notes: notes.into_iter().map(Problem::note).collect(),
        })
    }
}

fn step(request: &Request) -> Intent {
    let (method, path) = (request.method.as_str(), request.path.join("/"));
    let body = request.content.as_ref();
    let body_text = body.map_or_else(String::new, |body| format!(" {body}"));
    Intent {
        text: format!("{method} /{path}{body_text}"),
        json: json!({"method": method, "path": format!("/{path}"), "body": body}),
    }
}
