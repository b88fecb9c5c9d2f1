//! Who has which partition in a consumer group, asked of its coordinator alone. rdkafka asks every broker, and tells nothing while one
//! of them is away.

#![allow(
    unsafe_code,
    reason = "librdkafka's DescribeConsumerGroups has no safe wrapper; every pointer stays in this file"
)]

use std::collections::BTreeSet;
use std::ffi::{CString, c_char};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::admin::AdminClient;
use rdkafka::bindings as native;
use rdkafka::client::Client;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::classify::classify;
use super::native::{Owned, code_of, text};
use crate::Error;

/// How long the request may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Partitions, each by its topic and number.
pub type Assigned = BTreeSet<(String, i32)>;

/// What the members of a group have together; `None` while the group divides its partitions, and where it is of another kind.
///
/// # Errors
/// The coordinator does not answer in time, or refuses (DESCRIBE on the group is needed).
pub async fn assigned<C: ClientContext + 'static>(
    admin: &Arc<AdminClient<C>>,
    group: &str,
) -> Result<Option<Assigned>, Error> {
    let (admin, asked) = (Arc::clone(admin), group.to_owned());
    let asking = tokio::task::spawn_blocking(move || ask(admin.inner(), &asked));
    let answer = asking.await.map_err(Error::stop)?;
    answer.map_err(|error| {
        classify(&error).context(format!(
            "ask who has which partition in the group '{group}'"
        ))
    })
}

/// The same; blocks.
fn ask<C: ClientContext>(client: &Client<C>, group: &str) -> Result<Option<Assigned>, KafkaError> {
    let group =
        CString::new(group).map_err(|_| KafkaError::AdminOp(RDKafkaErrorCode::InvalidGroupId))?;
    let mut groups: [*const c_char; 1] = [group.as_ptr()];
    let rk = client.native_ptr();
    // SAFETY: `rk` lives as long as the borrow of `client`; the name lives until the end of this function, and librdkafka copies it; the
    // event, and with it all that is read from it, lives until `event` is dropped.
    unsafe {
        let kind = native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
        let event = super::native::ask(rk, kind, TIMEOUT, |options, queue| {
            native::rd_kafka_DescribeConsumerGroups(
                rk,
                groups.as_mut_ptr(),
                groups.len(),
                options,
                queue,
            );
        })?;
        read(&event)
    }
}

/// # Safety
/// The event is one of librdkafka's.
unsafe fn read(event: &Owned<native::rd_kafka_event_t>) -> Result<Option<Assigned>, KafkaError> {
    use native::rd_kafka_consumer_group_state_t as State;
    let mut assigned = BTreeSet::new();
    // SAFETY: the caller's promise; all parts live as long as the event, and are as many as librdkafka says.
    unsafe {
        let result = native::rd_kafka_event_DescribeConsumerGroups_result(event.object);
        let mut count = 0;
        let groups = match result.is_null() {
            true => std::ptr::null_mut(),
            false => native::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count),
        };
        if groups.is_null() || count != 1 {
            return Err(KafkaError::AdminOp(RDKafkaErrorCode::Fail));
        }
        let group = *groups;
        match code_of(native::rd_kafka_ConsumerGroupDescription_error(group)) {
            RDKafkaErrorCode::NoError => {}
            code => return Err(KafkaError::AdminOp(code)),
        }
        let state = native::rd_kafka_ConsumerGroupDescription_state(group);
        if !matches!(
            state,
            State::RD_KAFKA_CONSUMER_GROUP_STATE_STABLE
                | State::RD_KAFKA_CONSUMER_GROUP_STATE_EMPTY
        ) {
            return Ok(None);
        }
        for at in 0..native::rd_kafka_ConsumerGroupDescription_member_count(group) {
            let member = native::rd_kafka_ConsumerGroupDescription_member(group, at);
            let assignment = native::rd_kafka_MemberDescription_assignment(member);
            if assignment.is_null() {
                continue;
            }
            let list = native::rd_kafka_MemberAssignment_partitions(assignment);
            let Some(list) = list.as_ref().filter(|list| !list.elems.is_null()) else {
                continue;
            };
            let places = usize::try_from(list.cnt).unwrap_or_default();
            for place in slice::from_raw_parts(list.elems, places) {
                if let Some(topic) = text(place.topic) {
                    assigned.insert((topic, place.partition));
                }
            }
        }
    }
    Ok(Some(assigned))
}
