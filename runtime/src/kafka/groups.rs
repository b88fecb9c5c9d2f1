//! Who is in a consumer group, and has which partition.
//!
//! By librdkafka's list of groups: its questions to a group's coordinator (`DescribeConsumerGroups`) can end the process (its issue 4605).
//! The list asks every broker, so it may be unknown while any of them is away.

#![allow(
    unsafe_code,
    reason = "rdkafka never frees a list that lacks a broker's answer; every pointer stays in this file"
)]

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::ptr;
use std::slice;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::bindings as native;
use rdkafka::client::Client;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::classify::classify;
use super::native::{Owned, text};
use crate::{Error, ResultExt};

/// The members of a consumer group, as its coordinator knows them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Members {
    /// Where each of them runs: a host or an address.
    pub hosts: Vec<String>,
    /// What they have together, each partition by its topic and number; `None` while the group divides its partitions.
    pub assigned: Option<BTreeSet<(String, i32)>>,
}

/// The members of a group; none of one that is not there. Blocks, for `timeout` at the most.
///
/// # Errors
/// The coordinator does not answer in time, or refuses (DESCRIBE on the group is needed); or another broker is away.
pub fn members<C: ClientContext>(
    client: &Client<C>,
    group: &str,
    timeout: Duration,
) -> Result<Members, Error> {
    let name = CString::new(group).map_err(Error::stop)?;
    // SAFETY: client and name live for the whole call.
    unsafe { list(client.native_ptr(), &name, timeout).and_then(|list| read(&list)) }
        .map_err(|code| classify(&KafkaError::GroupListFetch(code)))
        .doing(|| format!("ask who is in the consumer group '{group}'"))
}

type List = Owned<native::rd_kafka_group_list>;

/// # Safety
/// `rk` is a client that lives for the whole call.
unsafe fn list(
    rk: *mut native::rd_kafka_t,
    group: &CStr,
    timeout: Duration,
) -> Result<List, RDKafkaErrorCode> {
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let mut list = ptr::null();
    // SAFETY: the caller's promise.
    let code =
        unsafe { native::rd_kafka_list_groups(rk, group.as_ptr(), &raw mut list, timeout_ms) };
    match RDKafkaErrorCode::from(code) {
        RDKafkaErrorCode::NoError | RDKafkaErrorCode::Partial => {}
        code => return Err(code),
    }
    Owned::new(list.cast_mut(), destroy).map_err(|_| RDKafkaErrorCode::Fail)
}

unsafe extern "C" fn destroy(list: *mut native::rd_kafka_group_list) {
    // SAFETY: `Owned` gives what librdkafka has made, once.
    unsafe { native::rd_kafka_group_list_destroy(list) }
}

/// # Safety
/// The list is one of librdkafka's, of one group at the most.
unsafe fn read(list: &List) -> Result<Members, RDKafkaErrorCode> {
    // SAFETY: the caller's promise; all parts live as long as the list, and are as many as librdkafka says.
    unsafe {
        let Some(group) = parts((*list.object).groups, (*list.object).group_cnt).first() else {
            return Ok(Members::default());
        };
        match RDKafkaErrorCode::from(group.err) {
            RDKafkaErrorCode::NoError => {}
            code => return Err(code),
        }
        let members = parts(group.members, group.member_cnt);
        let hosts = members.iter().filter_map(|member| text(member.client_host));
        let hosts = hosts.map(|host| host.trim_start_matches('/').to_owned());
        let is_divided = matches!(text(group.state).as_deref(), Some("Stable" | "Empty"));
        let assigned = members.iter().map(|member| {
            let bytes = member.member_assignment.cast::<u8>();
            partitions(parts(bytes, member.member_assignment_size))
        });
        let assigned = is_divided.then(|| {
            let each: Option<Vec<_>> = assigned.collect();
            each.ok_or(RDKafkaErrorCode::BadMessage)
        });
        Ok(Members {
            hosts: hosts.collect(),
            assigned: assigned
                .transpose()?
                .map(|each| each.into_iter().flatten().collect()),
        })
    }
}

/// # Safety
/// There are so many of them, and they outlive the answer; or none, or `first` is null.
unsafe fn parts<'a, T>(first: *const T, count: i32) -> &'a [T] {
    match usize::try_from(count) {
        // SAFETY: the caller's promise.
        Ok(count) if count > 0 && !first.is_null() => unsafe {
            slice::from_raw_parts(first, count)
        },
        _ => &[],
    }
}

/// The partitions of an assignment as Kafka's consumers write it (`ConsumerProtocolAssignment`): a version, and for each topic its name
/// and partitions. No bytes at all are none. `None` if it is something else.
fn partitions(mut bytes: &[u8]) -> Option<Vec<(String, i32)>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let bytes = &mut bytes;
    let mut partitions = Vec::new();
    let _version = i16::from_be_bytes(take(bytes)?);
    for _ in 0..i32::from_be_bytes(take(bytes)?) {
        let length = usize::try_from(i16::from_be_bytes(take(bytes)?)).ok()?;
        let (topic, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        let topic = str::from_utf8(topic).ok()?;
        for _ in 0..i32::from_be_bytes(take(bytes)?) {
            partitions.push((topic.to_owned(), i32::from_be_bytes(take(bytes)?)));
        }
    }
    Some(partitions)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version 3; "ab" with 1 and 258, "c" with none; no user data.
    const ASSIGNMENT: &[u8] =
        b"\0\x03\0\0\0\x02\0\x02ab\0\0\0\x02\0\0\0\x01\0\0\x01\x02\0\x01c\0\0\0\0\xff\xff\xff\xff";

    #[test]
    fn an_assignment_names_its_partitions() {
        let expected = vec![("ab".to_owned(), 1), ("ab".to_owned(), 258)];
        assert_eq!(partitions(ASSIGNMENT), Some(expected));
        assert_eq!(partitions(b""), Some(Vec::new()));
    }

    #[test]
    fn an_assignment_that_ends_early_is_none() {
        let user_data = 4;
        for end in 1..ASSIGNMENT.len() - user_data {
            assert_eq!(partitions(&ASSIGNMENT[..end]), None, "{end} bytes");
        }
    }
}
