//! On a cluster that the client brings along, which refuses what it is told to.

use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tributary_runtime::Policy;

use super::{TRANSACTIONAL_ID, fence, start};

const TOPIC: &str = "a-b.progress";

#[test]
fn a_transactional_id_that_is_refused_is_named() {
    let cluster = MockCluster::new(1).unwrap();
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set(TRANSACTIONAL_ID, "tributary-a-b/c");
    let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED];
    // Without DESCRIBE, and without WRITE.
    for request in [
        RDKafkaApiKey::FindCoordinator,
        RDKafkaApiKey::InitProducerId,
    ] {
        cluster.request_errors(request, &refused);
        let error = start(&client, TOPIC).map(|_| ()).unwrap_err();
        assert_eq!(error.policy(), Policy::Stop, "{error}");
        let said = error.to_string();
        assert!(
            said.contains("the transactional id 'tributary-a-b/c'"),
            "{said}"
        );
        assert!(said.contains("WRITE on its transactional id"), "{said}");
        // Nobody has written with it whom this start would have to fence.
        cluster.request_errors(request, &refused);
        fence(&client, TOPIC).unwrap();
    }
    start(&client, TOPIC).map(|_| ()).unwrap();
}
