//! A small bounded pool of connections, each with its temporary tables remembered.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::Config;
use tributary_runtime::Error;

use crate::postgres::session::{Limits, Session};
use crate::postgres::stage::Stages;
use crate::warehouse::name::Qualified;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;
/// How long sent bytes may stay unacknowledged before the connection counts as lost.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(60);

/// How old a connection becomes. Its temporary tables hold back the age of the database's oldest transaction id.
const MAX_AGE: Duration = Duration::from_secs(3600);

/// A bounded number of connections, shared by all partitions.
pub(crate) struct Pool {
    config: Config,
    limits: Limits,
    connections: usize,
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
    pub(crate) fn new(mut config: Config, connections: usize, limits: Limits) -> Self {
        config
            .connect_timeout(CONNECT_TIMEOUT)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES)
            .tcp_user_timeout(TCP_USER_TIMEOUT);
        Self {
            config,
            limits,
            connections,
            permits: Arc::new(Semaphore::new(connections)),
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Whether more than half of the connections are free.
    pub(crate) fn has_plenty(&self) -> bool {
        self.permits.available_permits() * 2 > self.connections
    }

    /// A connection beyond those of the pool, for a moment.
    ///
    /// # Errors
    /// As [`Session::connect`].
    pub(crate) async fn aside(&self) -> Result<Session, Error> {
        Session::connect(&self.config, self.limits).await
    }

    /// Waits for a free place, then takes an idle connection or opens one.
    ///
    /// # Errors
    /// As [`Session::connect`].
    pub(crate) async fn lease(&self) -> Result<Lease<'_>, Error> {
        self.lease_by(|_| 0).await
    }

    /// The same, preferring a connection that has a temporary table for `target`, then one with room for it.
    ///
    /// # Errors
    /// As [`Session::connect`].
    pub(crate) async fn lease_for(&self, target: &Qualified) -> Result<Lease<'_>, Error> {
        self.lease_by(|stages| stages.cost_of(target)).await
    }

    async fn lease_by(&self, cost: impl Fn(&Stages) -> usize + Send) -> Result<Lease<'_>, Error> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(Error::stop)?;
        let idle = self.take_idle(cost);
        let Idle { session, stages } = match idle {
            Some(idle) => idle,
            None => Idle {
                session: self.aside().await?,
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

    fn take_idle(&self, cost: impl Fn(&Stages) -> usize) -> Option<Idle> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|kept| !kept.session.client.is_closed() && kept.session.age() <= MAX_AGE);
        // Of equals the one used last, so that the others can be left alone.
        let best = (0..idle.len())
            .rev()
            .min_by_key(|at| cost(&idle[*at].stages))?;
        Some(idle.remove(best))
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
        if self.session.age() > MAX_AGE {
            return;
        }
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
