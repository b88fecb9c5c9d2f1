//! Connections that end, by silence, by the server or with it: the slot can be had again.

use std::time::{Duration, Instant};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tributary_postgres::replication::{Failure, Frame, ReplicationConnection, ReplicationStream};
use tributary_schemas::Lsn;

use crate::corner::Corner;
use crate::replica::error_of;

#[tokio::test]
async fn a_status_is_answered_and_silence_gives_the_slot_up() {
    Corner::run("silence", async |corner| {
        corner.create_slot().await;
        let mut config = corner.config.clone();
        config.wal_sender_timeout_ms = 1500;
        let mut stream = corner.start_over(&config).await.unwrap();
        let started = Instant::now();
        stream
            .send_status(Lsn::ZERO, Lsn::ZERO, Lsn::ZERO, true)
            .await
            .unwrap();
        // The answer asks for nothing; half the time-out later the server asks.
        let mut keepalive = next_keepalive(&mut stream).await;
        assert!(keepalive.1 > Lsn::ZERO && stream.silence() < Duration::from_secs(1));
        while !keepalive.0 {
            keepalive = next_keepalive(&mut stream).await;
        }
        assert!(
            started.elapsed() >= Duration::from_millis(500),
            "{:?}",
            started.elapsed()
        );
        let error = error_of(&mut stream).await;
        assert!(error.is_connection_lost(), "{error}");
        assert!(
            started.elapsed() >= Duration::from_millis(1000),
            "{:?}",
            started.elapsed()
        );
    })
    .await;
}

/// Reads until the next keepalive: whether it asks for a reply, and its position.
async fn next_keepalive(stream: &mut ReplicationStream) -> (bool, Lsn) {
    loop {
        match stream.next_buffered().unwrap() {
            Some(Frame::Keepalive {
                wal_end,
                sent_at_us,
                reply_requested,
            }) => {
                assert!(sent_at_us > 1_700_000_000_000_000);
                return (reply_requested, wal_end);
            }
            Some(Frame::XLogData { .. }) => {}
            None => stream.fill().await.unwrap(),
        }
    }
}

#[tokio::test]
async fn a_terminated_walsender_is_a_lost_connection() {
    Corner::run("terminated", async |corner| {
        let name = &corner.name;
        corner.create_slot().await;
        let mut stream = corner.start().await;
        corner.sql(&format!(
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE slot_name = '{name}'"
        )).await;
        let error = error_of(&mut stream).await;
        assert_eq!(error.sqlstate(), Some("57P01"), "{error}");
        assert!(error.is_connection_lost());
        corner.start().await.close().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_vanished_server_is_a_lost_connection() {
    Corner::run("vanished", async |corner| {
        corner.create_slot().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = corner.config.clone();
        config.host = "127.0.0.1".to_owned();
        config.port = listener.local_addr().unwrap().port();
        let server = (corner.config.host.clone(), corner.config.port);
        let proxy = tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut server = TcpStream::connect(server).await.unwrap();
            let _ = copy_bidirectional(&mut client, &mut server).await;
        });
        let mut stream = corner.start_over(&config).await.unwrap();
        proxy.abort();
        let error = error_of(&mut stream).await;
        assert!(
            matches!(error.failure(), Failure::Closed | Failure::Lost(_)),
            "{error}"
        );
        assert!(error.is_connection_lost());
        // The listener went with the proxy.
        let error = ReplicationConnection::connect(&config).await.unwrap_err();
        assert!(
            matches!(error.failure(), Failure::Unreachable(_)),
            "{error}"
        );
        assert!(error.is_connection_lost());
    })
    .await;
}
