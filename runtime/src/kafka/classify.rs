//! The error policy of Kafka, on one page: what can go wrong, whether it passes, and what to do about it.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::Error;

/// A row of the table: errors that somebody must put right first, so that the service stops.
struct Row {
    codes: &'static [Code],
    /// What to do; none where the error's own text says it.
    remedy: Option<&'static str>,
}

/// The table. What is not here passes by itself: brokers away, time-outs, elections, rebalances. docs/operations.md has the
/// same rows for whoever reads a message.
const STOPS: [Row; 10] = [
    Row {
        codes: &[
            Code::Authentication,
            Code::SaslAuthenticationFailed,
            Code::UnsupportedSASLMechanism,
        ],
        remedy: Some("check the user, the password and the SASL mechanism of the Kafka settings"),
    },
    Row {
        codes: &[
            Code::TopicAuthorizationFailed,
            Code::TransactionalIdAuthorizationFailed,
        ],
        remedy: Some(
            "grant the service's user READ and DESCRIBE (a source: WRITE and CREATE too, and WRITE on its transactional id) on the \
         topic",
        ),
    },
    Row {
        codes: &[Code::GroupAuthorizationFailed],
        remedy: Some(
            "grant the service's user READ on the consumer group (its name is the key `name`)",
        ),
    },
    Row {
        codes: &[Code::ClusterAuthorizationFailed],
        remedy: Some("grant the service's user the cluster operation that the message names"),
    },
    Row {
        codes: &[
            Code::UnknownTopicOrPartition,
            Code::UnknownTopic,
            Code::UnknownPartition,
        ],
        remedy: Some("create the topic, or correct its name in the configuration"),
    },
    Row {
        codes: &[Code::InconsistentGroupProtocol],
        remedy: Some("another kind of consumer uses this group: give the service another `name`"),
    },
    Row {
        codes: &[Code::MessageSizeTooLarge],
        remedy: Some("raise the topic's max.message.bytes"),
    },
    // librdkafka skips what it cannot read and goes on behind it, or asks for it again for ever.
    Row {
        codes: &[Code::NotImplemented],
        remedy: Some(
            "the topic is in a form that this version cannot read (a codec, or a message format, of later years): run a newer one, \
         or have the topic written with gzip, snappy, lz4, zstd or uncompressed",
        ),
    },
    Row {
        codes: &[Code::BadMessage, Code::BadCompression],
        remedy: Some(
            "the records are damaged where the broker keeps them: let another replica lead the partition \
         (kafka-leader-election.sh), or, if none is whole, delete the topic and let its source write it again \
         (docs/operations.md, 'Gaps')",
        ),
    },
    // Settings that a broker or the client refuses, versions that do not fit, positions that are not there, and a client that
    // is beyond repair.
    Row {
        codes: &[
            Code::UnknownTopicId,
            Code::InvalidTopic,
            Code::InvalidConfig,
            Code::InvalidArgument,
            Code::InvalidGroupId,
            Code::InvalidSessionTimeout,
            Code::InvalidReplicationFactor,
            Code::InvalidReplicaAssignment,
            Code::PolicyViolation,
            Code::UnsupportedVersion,
            Code::UnsupportedFeature,
            Code::UnsupportedCompressionType,
            Code::UnsupportedForMessageFormat,
            Code::AutoOffsetReset,
            Code::OffsetOutOfRange,
            Code::Fatal,
            Code::Fenced,
            Code::ProducerFenced,
            Code::FencedInstanceId,
        ],
        remedy: None,
    },
];

/// Classifies an error once: what somebody must put right first stops the service, everything else passes by itself.
pub fn classify(error: &KafkaError) -> Error {
    let row = code(error).and_then(|code| STOPS.iter().find(|row| row.codes.contains(&code)));
    let is_stop = matches!(
        error,
        KafkaError::ClientConfig(..)
            | KafkaError::ClientCreation(_)
            | KafkaError::Subscription(_)
            | KafkaError::Nul(_)
            | KafkaError::MessageConsumptionFatal(_)
    );
    let classified = if is_stop || row.is_some() {
        Error::stop(error.clone())
    } else {
        Error::retry(error.clone())
    };
    match row.and_then(|row| row.remedy) {
        Some(remedy) => classified.remedy(remedy),
        None => classified,
    }
}

/// librdkafka's error code, where the error has one.
pub fn code(error: &KafkaError) -> Option<Code> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// Whether the error is that a broker, or the client's own metadata, does not know a topic or partition.
pub fn is_unknown_topic(error: &KafkaError) -> bool {
    matches!(
        code(error),
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition)
    )
}

#[cfg(test)]
mod tests {
    use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

    use super::{STOPS, classify};
    use crate::Policy;

    #[test]
    fn what_passes_by_itself_is_tried_again() {
        for code in [
            Code::BrokerTransportFailure,
            Code::AllBrokersDown,
            Code::OperationTimedOut,
            Code::CoordinatorNotAvailable,
            Code::NotCoordinator,
            Code::RebalanceInProgress,
            Code::LeaderNotAvailable,
        ] {
            let error = classify(&KafkaError::MetadataFetch(code));
            assert_eq!(error.policy(), Policy::Retry, "{code:?}");
        }
    }

    #[test]
    fn what_needs_somebody_stops_and_says_what_to_do() {
        for (code, remedy) in [
            (Code::SaslAuthenticationFailed, "the SASL mechanism"),
            (Code::GroupAuthorizationFailed, "READ on the consumer group"),
            (
                Code::TransactionalIdAuthorizationFailed,
                "on its transactional id",
            ),
            (Code::UnknownTopicOrPartition, "create the topic"),
            (Code::NotImplemented, "run a newer one"),
            (Code::BadCompression, "another replica"),
        ] {
            let error = classify(&KafkaError::MetadataFetch(code));
            assert_eq!(error.policy(), Policy::Stop, "{code:?}");
            let found = error.remedy_text().unwrap();
            assert!(found.contains(remedy), "{code:?}: {found}");
        }
        for code in [Code::PolicyViolation, Code::Fatal, Code::OffsetOutOfRange] {
            let error = classify(&KafkaError::AdminOp(code));
            assert_eq!((error.policy(), error.remedy_text()), (Policy::Stop, None));
        }
    }

    #[test]
    fn every_row_of_the_policy_is_documented() {
        let docs = include_str!("../../../docs/operations.md");
        for row in &STOPS {
            let names: Vec<String> = row.codes.iter().map(|code| format!("`{code:?}`")).collect();
            let names = names.join(", ");
            let documented = docs
                .lines()
                .find(|line| line.starts_with(&format!("| {names} |")))
                .unwrap_or_else(|| panic!("no row for {names}"));
            let remedy = row.remedy.unwrap_or_default();
            let remedy = remedy.split(" (").next().unwrap().to_lowercase();
            assert!(
                documented.to_lowercase().contains(&remedy),
                "{documented}: {remedy}"
            );
        }
    }
}
