//! A small bounded pool of connections, each with its temporary tables remembered.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::Config;
use tributary_runtime::Error;

use crate::postgres::session::Session;
use crate::postgres::stage::Stages;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;
/// How long sent bytes may stay unacknowledged before the connection counts as lost.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(60);

/// A bounded number of connections, shared by all partitions.
pub(crate) struct Pool {
    config: Config,
    statement_timeout: Duration,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
}

/// A connection that nobody uses, with its temporary tables.
struct Idle {
    session: Session,
    stages: Stages,
}

impl Pool {
    /// Makes the pool; connections are opened when they are asked for.
    pub(crate) fn new(mut config: Config, connections: usize, statement_timeout: Duration) -> Self {
        config
            .connect_timeout(CONNECT_TIMEOUT)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES)
            .tcp_user_timeout(TCP_USER_TIMEOUT);
        Self {
            config,
            statement_timeout,
            permits: Arc::new(Semaphore::new(connections)),
            idle: Mutex::new(Vec::new()),
        }
    }

    /// The longest that one statement may take.
    pub(crate) const fn statement_timeout(&self) -> Duration {
        self.statement_timeout
    }

    /// Waits for a free place, then takes an idle connection or opens one.
    ///
    /// # Errors
    /// As [`Session::connect`].
    pub(crate) async fn lease(&self) -> Result<Lease<'_>, Error> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(Error::stop)?;
        let idle = self.take_idle();
        let Idle { session, stages } = match idle {
            Some(idle) => idle,
            None => Idle {
                session: Session::connect(&self.config, self.statement_timeout).await?,
                stages: Stages::default(),
            },
        };
        Ok(Lease {
            session,
            stages,
            pool: self,
            _permit: permit,
        })
    }

    fn take_idle(&self) -> Option<Idle> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(kept) = idle.pop() {
            if !kept.session.client.is_closed() {
                return Some(kept);
            }
        }
        None
    }
}

/// A connection taken from the pool. Dropped, it is closed, and the server rolls back what was open: only
/// who ended its transaction in order gives it back.
pub(crate) struct Lease<'a> {
    pub(crate) session: Session,
    /// The temporary tables of this connection.
    pub(crate) stages: Stages,
    pool: &'a Pool,
    _permit: OwnedSemaphorePermit,
}

impl Lease<'_> {
    /// Gives the connection back, no transaction being open on it.
    pub(crate) fn give_back(self) {
        self.pool
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Idle {
                session: self.session,
                stages: self.stages,
            });
    }
}
