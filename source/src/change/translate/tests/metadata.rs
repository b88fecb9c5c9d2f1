//! Transactions and logical messages beside the rows.

use std::sync::Arc;

use super::{begin, change, commit, feed, insert, start, take, translator};
use crate::change::translate::Translator;
use crate::log::metadata::{MessageTopic, MetadataTopics, TransactionTopic};
use crate::log::outbox::Record;
use crate::log::progress::Position;
use tributary_schemas::Lsn;

fn with_metadata(position: Position, transactions: bool, messages: bool) -> Translator {
    translator(position).with_metadata(Arc::new(MetadataTopics {
        transactions: transactions.then(TransactionTopic::for_test),
        messages: messages.then(MessageTopic::for_test),
    }))
}

fn message(transactional: bool, lsn: u64, prefix: &str) -> Vec<u8> {
    let mut bytes = vec![b'M', u8::from(transactional)];
    bytes.extend(lsn.to_be_bytes());
    bytes.extend(prefix.as_bytes());
    bytes.extend(b"\0\0\0\0\x02hi");
    bytes
}

fn move_key(from: &str, to: &str) -> Vec<u8> {
    change(
        b'U',
        &[(b'K', &[Some(from), None]), (b'N', &[Some(to), Some("x")])],
    )
}

fn topics(records: &[Record]) -> Vec<&str> {
    records
        .iter()
        .map(|record| record.topic.strip_prefix("p.").unwrap())
        .collect()
}

/// The texts in a value: enough to tell what it says.
fn says(translator: &mut Translator, topic: &str) -> Vec<String> {
    let (outbox, _) = translator.take(crate::log::outbox::Outbox::default());
    let records = outbox.records.iter();
    let records = records.filter(|record| record.topic.as_ref() == topic);
    records
        .map(|record| {
            let value = outbox.slice(record.value.as_ref().unwrap());
            String::from_utf8_lossy(value).into_owned()
        })
        .collect()
}

#[test]
fn a_transaction_begins_before_its_first_event_and_ends_behind_its_last() {
    let mut translator = with_metadata(start(), true, false);
    let transaction = [
        begin(200),
        insert("1"),
        move_key("1", "2"),
        message(true, 150, "audit"),
        commit(200),
    ];
    feed(&mut translator, &transaction);
    let records = take(&mut translator);
    assert_eq!(
        topics(&records),
        ["transaction", "s.t", "s.t", "s.t", "s.t", "transaction"]
    );
    let seqs: Vec<_> = records.iter().map(|record| record.seq).collect();
    assert_eq!(seqs, [200, 201, 202, 203, 204, 205]);
    assert_eq!(
        (translator.position().seq(), translator.position().ordinal()),
        (205, 3)
    );
    // Without an event there is nothing to say.
    feed(
        &mut translator,
        &[begin(300), message(true, 250, "audit"), commit(300)],
    );
    assert!(take(&mut translator).is_empty());
}

#[test]
fn the_end_counts_what_the_log_has_already() {
    let transaction = [
        begin(200),
        insert("1"),
        move_key("1", "2"),
        insert("3"),
        insert("4"),
        commit(200),
    ];
    let mut whole = with_metadata(start(), true, false);
    feed(&mut whole, &transaction);
    let seq = whole.position().seq();
    let expected = says(&mut whole, "p.transaction").pop();
    for cut in 1..transaction.len() {
        let mut before = with_metadata(start(), true, false);
        feed(&mut before, &transaction[..cut]);
        let published = take(&mut before).len();
        let position = before.position();
        let mut after = with_metadata(position, true, false);
        feed(&mut after, &transaction);
        assert_eq!(after.position(), whole.position(), "cut at {cut}");
        assert_eq!(after.position().seq(), seq);
        let end = says(&mut after, "p.transaction").pop();
        assert_eq!(end, expected, "cut at {cut}, {published} records published");
    }
    // All of it is there.
    let mut again = with_metadata(whole.position(), true, false);
    feed(&mut again, &transaction);
    assert!(take(&mut again).is_empty());
}

#[test]
fn messages_are_published_and_counted() {
    let mut translator = with_metadata(start(), false, true);
    let messages = [
        message(false, 150, "outside"),
        message(false, 160, "tributary"),
        begin(200),
        message(true, 170, "inside"),
        message(true, 180, "tributary"),
        insert("1"),
        commit(200),
        message(false, 250, "outside"),
    ];
    feed(&mut translator, &messages[..7]);
    assert_eq!(translator.position().ordinal(), 3);
    feed(&mut translator, &messages[7..]);
    let position = translator.position();
    assert_eq!(
        (position.commit_lsn(), position.published_of(Lsn(249))),
        (Lsn(249), None)
    );
    let records = take(&mut translator);
    assert_eq!(topics(&records), ["message", "message", "s.t", "message"]);
    let seqs: Vec<_> = records.iter().map(|record| record.seq).collect();
    assert_eq!(seqs, [150, 200, 201, 250]);
    // The server sends them again to who has not confirmed them.
    let mut again = with_metadata(position, false, true);
    feed(&mut again, &messages);
    assert!(take(&mut again).is_empty());
    assert_eq!(again.position(), position);
}

/// Its LSN is the end of its record, where the next one begins: it may be a commit's.
#[test]
fn a_message_right_before_a_commit_takes_nothing_away() {
    let mut translator = with_metadata(start(), false, true);
    let messages = [
        message(false, 200, "outside"),
        begin(200),
        insert("1"),
        commit(200),
    ];
    feed(&mut translator, &messages);
    assert_eq!(topics(&take(&mut translator)), ["message", "s.t"]);
    let mut again = with_metadata(translator.position(), false, true);
    feed(&mut again, &messages);
    assert!(take(&mut again).is_empty());
}

#[test]
fn without_a_topic_messages_only_count() {
    let mut translator = with_metadata(start(), false, false);
    let messages = [
        message(false, 150, "outside"),
        begin(200),
        message(true, 170, "inside"),
        insert("1"),
        commit(200),
    ];
    feed(&mut translator, &messages);
    assert_eq!(topics(&take(&mut translator)), ["s.t"]);
    assert_eq!(translator.position().ordinal(), 2);
}
