//! What the service would make and change, asked in transactions that can do neither.

use std::collections::BTreeMap;

use serde_json::Value;
use tributary_engine::{Foresight, Intent, Mark, Needs, Outlook, RowForm, TableName};
use tributary_runtime::Error;

use crate::postgres::access::Shared;
use crate::postgres::database::PostgresWarehouse;
use crate::postgres::ddl::emptying;
use crate::postgres::failure::Attempt;
use crate::postgres::growth::needed;
use crate::postgres::rules::Postgres;
use crate::postgres::session::Session;
use crate::postgres::table;
use crate::warehouse::failure::Failure;

impl Foresight for PostgresWarehouse {
    async fn common(&self) -> Result<Vec<Intent>, Error> {
        self.read("the ledger", async |shared, session| {
            let presence = shared.ledger.presence(session).await?;
            Ok(steps(shared.ledger.statements(presence)))
        })
        .await
    }

    async fn outlook(&self, topic: &str, table: &TableName) -> Result<Outlook, Error> {
        let target = self.shared.placement.table::<Postgres>(table)?;
        self.read(&target.to_string(), async |shared, session| {
            let presence = shared.ledger.presence(session).await?;
            let known = shared.foreseen(session, topic, &target, presence).await?;
            let stands = match presence.table {
                true => shared.ledger.offsets(session, topic).await?,
                false => BTreeMap::new(),
            };
            Ok(Outlook {
                target: target.to_string(),
                known,
                stands: Some(stands),
            })
        })
        .await
    }

    async fn needs(
        &self,
        _topic: &str,
        table: &TableName,
        _mark: &Mark,
        form: Option<&RowForm>,
        is_rebuilt: bool,
    ) -> Result<Needs, Error> {
        let target = self.shared.placement.table::<Postgres>(table)?;
        let what = target.to_string();
        let statements = self.read(&what, async |_, session| {
            let mut statements = Vec::new();
            if is_rebuilt && table::read(session, &target).await?.is_some() {
                statements.push(emptying(&target));
            }
            if let Some(form) = form {
                statements.extend(needed(session, &target, form, is_rebuilt).await?);
            }
            Ok(statements)
        });
        Ok(Needs {
            steps: steps(statements.await?),
            notes: Vec::new(),
        })
    }
}

impl PostgresWarehouse {
    /// Looks at something in a transaction that cannot write.
    async fn read<A>(
        &self,
        what: &str,
        work: impl AsyncFnOnce(&Shared, &Session) -> Result<A, Failure>,
    ) -> Result<A, Error> {
        let shared = &*self.shared;
        let lease = shared.pool.lease().await?;
        let session = &lease.session;
        let reading = async {
            let begin = "BEGIN TRANSACTION READ ONLY";
            let begun = session.client.batch_execute(begin).await;
            begun.attempt(|| "begin a transaction".to_owned(), String::new)?;
            let answer = work(shared, session).await?;
            session.commit().await?;
            Ok(answer)
        };
        let answer = session
            .deadline
            .within("look at", what, reading)
            .await
            .map_err(Failure::into_error)?;
        lease.give_back();
        Ok(answer)
    }
}

fn steps(statements: Vec<String>) -> Vec<Intent> {
    let step = |statement: String| Intent {
        text: format!("{statement};"),
        json: Value::String(statement),
    };
    statements.into_iter().map(step).collect()
}
