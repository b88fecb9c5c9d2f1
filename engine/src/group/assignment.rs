//! Which partitions the members of a group have, as the coordinator describes it: each member's assignment in the format of
//! Kafka's consumers (`ConsumerProtocolAssignment`).

use std::collections::BTreeSet;

use rdkafka::groups::GroupList;
use tributary_runtime::{Error, Result};

use crate::topics::TopicPartition;

/// What the members have together; `None` while the group divides its partitions, and of a group that does not say.
///
/// # Errors
/// Retry: a member's assignment is none of a consumer's.
pub(crate) fn of_group(groups: &GroupList) -> Result<Option<BTreeSet<TopicPartition>>> {
    let Some(group) = groups.groups().first() else {
        return Ok(None);
    };
    if !matches!(group.state(), "Stable" | "Empty") {
        return Ok(None);
    }
    let mut all = BTreeSet::new();
    for member in group.members() {
        // One that has nothing may have been sent nothing.
        let assignment = member.assignment().filter(|bytes| !bytes.is_empty());
        if let Some(mut bytes) = assignment
            && read(&mut bytes, &mut all).is_none()
        {
            return Err(Error::retry_msg(format_args!(
                "the member '{}' of the group has an assignment that is not a consumer's",
                member.id()
            )));
        }
    }
    Ok(Some(all))
}

/// Reads what stands before the data of the one who has assigned.
fn read(bytes: &mut &[u8], all: &mut BTreeSet<TopicPartition>) -> Option<()> {
    let _version = i16::from_be_bytes(take(bytes)?);
    for _ in 0..i32::from_be_bytes(take(bytes)?) {
        let length = usize::try_from(i16::from_be_bytes(take(bytes)?)).ok()?;
        let (name, rest) = bytes.split_at_checked(length)?;
        let topic = std::str::from_utf8(name).ok()?;
        *bytes = rest;
        for _ in 0..i32::from_be_bytes(take(bytes)?) {
            all.insert(TopicPartition {
                topic: topic.to_owned(),
                partition: i32::from_be_bytes(take(bytes)?),
            });
        }
    }
    Some(())
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version 1; topic `ab` with 0 and 7, topic `c` with 1; no data of the assignor's.
    const ASSIGNMENT: &[u8] = b"\0\x01\0\0\0\x02\0\x02ab\0\0\0\x02\0\0\0\0\0\0\0\x07\0\x01c\0\0\0\x01\0\0\0\x01\xff\xff\xff\xff";

    #[test]
    fn an_assignment_is_read_and_a_short_one_refused() {
        let mut all = BTreeSet::new();
        assert_eq!(read(&mut &*ASSIGNMENT, &mut all), Some(()));
        let named: Vec<_> = all.iter().map(ToString::to_string).collect();
        assert_eq!(named, ["ab[0]", "ab[7]", "c[1]"]);
        let data = ASSIGNMENT.len() - 4;
        for length in 0..data {
            let read = read(&mut &ASSIGNMENT[..length], &mut BTreeSet::new());
            assert_eq!(read, None, "{length} bytes");
        }
    }
}
