//! The life of an assignment: its partition is opened, written, let go.

use std::sync::{Arc, Weak};

use crate::destination::Destination;
use crate::destination::Start;
use crate::group::membership::GroupClient;
use crate::group::start;
use crate::write::assignment::Assignment;
use crate::write::instance::Instance;
use crate::write::writer::WriterTask;
use tributary_runtime::retry::Backoff;
use tributary_runtime::{Result, ResultExt};

/// The assignment's whole life. An error stops the instance.
pub(crate) async fn live<D: Destination>(
    assignment: Arc<Assignment>,
    instance: Arc<Instance<D>>,
    client: Weak<GroupClient>,
) {
    let who = assignment.partition().to_string();
    if let Err(error) = work(&assignment, &instance, &client).await {
        instance.failure.stop_with(error);
    }
    instance.status.clear(&who);
}

async fn work<D: Destination>(
    assignment: &Arc<Assignment>,
    instance: &Arc<Instance<D>>,
    client: &Weak<GroupClient>,
) -> Result<()> {
    let (writer, start) = open(assignment, instance).await?;
    let start = find_start(assignment, instance, client, start).await?;
    tracing::info!(partition = %assignment.partition(), offset = start, "begins");
    assignment.position.open_at(start);
    WriterTask::new(Arc::clone(assignment), Arc::clone(instance), writer, start)
        .run()
        .await
}

async fn open<D: Destination>(
    assignment: &Assignment,
    instance: &Instance<D>,
) -> Result<(D::Writer, Start)> {
    let mut backoff = Backoff::default();
    loop {
        let opening = instance
            .destination
            .open(assignment.partition(), &assignment.source.table);
        let opened = assignment.unless_drained(opening).await?;
        match opened.doing(|| format!("open the target of {}", assignment.partition())) {
            Ok(opened) => return Ok(opened),
            Err(error) => {
                let status = &instance.status;
                assignment.back_off(error, status, &mut backoff).await?;
            }
        }
    }
}

async fn find_start<D: Destination>(
    assignment: &Assignment,
    instance: &Instance<D>,
    client: &Weak<GroupClient>,
    start: Start,
) -> Result<i64> {
    let mut backoff = Backoff::default();
    loop {
        let finding = start::find(client, assignment.partition(), start);
        match assignment.unless_drained(finding).await? {
            Ok(offset) => {
                instance.status.clear(&assignment.partition().to_string());
                return Ok(offset);
            }
            Err(error) => {
                let status = &instance.status;
                assignment.back_off(error, status, &mut backoff).await?;
            }
        }
    }
}
