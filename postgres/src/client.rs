//! An ordinary connection that ends what runs on it.

use std::convert::Infallible;
use std::ops::Deref;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::oneshot;

/// So long a connection that nobody holds any more may take to end in order: an answer under way is not read to its end.
const GRACE: Duration = Duration::from_secs(1);

/// A connection. Dropping it closes it soon, however much of an answer is still to come: the server ends the statement.
pub struct Client {
    client: tokio_postgres::Client,
    /// Closed when it is dropped.
    _held: oneshot::Sender<Infallible>,
}

impl Client {
    /// Drives the connection until it ends, or is dropped.
    pub(crate) fn start<C>(client: tokio_postgres::Client, connection: C) -> Self
    where
        C: Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static,
    {
        let (held, dropped) = oneshot::channel();
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = &mut connection => Ok(ended),
                _ = dropped => tokio::time::timeout(GRACE, connection).await,
            };
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a Postgres connection ends"),
                Err(_) => tracing::debug!("a Postgres connection is closed amid a statement"),
            }
        });
        Self {
            client,
            _held: held,
        }
    }
}

impl Deref for Client {
    type Target = tokio_postgres::Client;

    fn deref(&self) -> &Self::Target {
        &self.client
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::{Duration, Instant};

    use futures::TryStreamExt;

    use crate::database::Database;

    /// The statement would take minutes.
    #[tokio::test]
    async fn a_copy_that_is_let_go_leaves_no_backend_behind() {
        let database = Database::of_stack();
        let (client, other) = (
            database.connect().await.unwrap(),
            database.connect().await.unwrap(),
        );
        let pid = client.query_one("SELECT pg_backend_pid()", &[]);
        let pid: i32 = pid.await.unwrap().get(0);
        {
            let copy = "COPY (SELECT repeat('x', 10000), pg_sleep(0.1) FROM generate_series(1, 1000)) TO STDOUT";
            let mut lines = pin!(client.copy_out(copy).await.unwrap());
            assert!(lines.try_next().await.unwrap().is_some());
        }
        drop(client);
        let is_there = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)";
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let row = other.query_one(is_there, &[&pid]).await.unwrap();
            if !row.get::<_, bool>(0) {
                break;
            }
            assert!(Instant::now() < deadline, "the statement goes on");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
