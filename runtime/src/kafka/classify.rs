//! What a service does about an error of Kafka's.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::Error;

/// Classifies an error once: what somebody must put right first stops the service, everything else
/// (brokers away, time-outs, elections, rebalances) passes by itself.
pub fn classify(error: &KafkaError) -> Error {
    let is_stop = match error {
        KafkaError::ClientConfig(..)
        | KafkaError::ClientCreation(_)
        | KafkaError::Subscription(_)
        | KafkaError::Nul(_)
        | KafkaError::MessageConsumptionFatal(_) => true,
        _ => code(error).is_some_and(needs_somebody),
    };
    let classified = if is_stop {
        Error::stop(error.clone())
    } else {
        Error::retry(error.clone())
    };
    match code(error).and_then(remedy) {
        Some(remedy) => classified.remedy(remedy),
        None => classified,
    }
}

/// librdkafka's error code, where the error has one.
pub(crate) fn code(error: &KafkaError) -> Option<Code> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// Whether the error is that a broker, or the client's own metadata, does not know a topic or partition.
pub(crate) fn is_unknown_topic(error: &KafkaError) -> bool {
    matches!(
        code(error),
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition)
    )
}

const fn needs_somebody(code: Code) -> bool {
    matches!(
        code,
        Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicId
            | Code::InvalidTopic
            | Code::InvalidConfig
            | Code::InvalidArgument
            | Code::InvalidGroupId
            | Code::InvalidSessionTimeout
            | Code::InconsistentGroupProtocol
            | Code::InvalidReplicationFactor
            | Code::InvalidReplicaAssignment
            | Code::PolicyViolation
            | Code::MessageSizeTooLarge
            | Code::UnsupportedVersion
            | Code::UnsupportedFeature
            | Code::UnsupportedCompressionType
            | Code::UnsupportedForMessageFormat
            | Code::AutoOffsetReset
            | Code::OffsetOutOfRange
            | Code::Fatal
            | Code::Fenced
            | Code::ProducerFenced
            | Code::FencedInstanceId
    )
}

const fn remedy(code: Code) -> Option<&'static str> {
    Some(match code {
        Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => {
            "check the user, the password and the SASL mechanism of the Kafka settings"
        }
        Code::TopicAuthorizationFailed => {
            "grant the service's user READ and DESCRIBE (a source: WRITE and CREATE too) on the topic"
        }
        Code::GroupAuthorizationFailed => {
            "grant the service's user READ on the consumer group (its name is the key `name`)"
        }
        Code::ClusterAuthorizationFailed => {
            "grant the service's user the cluster operation that the message names"
        }
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
            "create the topic, or correct its name in the configuration"
        }
        Code::InconsistentGroupProtocol => {
            "another kind of consumer uses this group: give the service another `name`"
        }
        Code::MessageSizeTooLarge => "raise the topic's max.message.bytes",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

    use super::classify;
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
        for code in [
            Code::SaslAuthenticationFailed,
            Code::GroupAuthorizationFailed,
            Code::UnknownTopicOrPartition,
        ] {
            let error = classify(&KafkaError::MetadataFetch(code));
            assert_eq!(error.policy(), Policy::Stop, "{code:?}");
            assert!(error.remedy_text().is_some(), "{code:?}");
        }
        let admin = classify(&KafkaError::AdminOp(Code::PolicyViolation));
        assert_eq!(admin.policy(), Policy::Stop);
    }
}
