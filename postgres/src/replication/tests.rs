//! Against a scripted server: what a real one does not do on demand.

use std::future::Future;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tributary_schemas::Lsn;

use super::*;

const AUTH_OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";
const READY: &[u8] = b"Z\0\0\0\x05I";
const COPY_BOTH: &[u8] = b"W\0\0\0\x07\0\0\0";

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

/// An `XLogData` in its `CopyData`.
fn xlog_data(start: u64, payload: &[u8]) -> Vec<u8> {
    let start = start.to_be_bytes();
    message(b'd', &[b"w", &start[..], &start, &[0; 8], payload].concat())
}

fn error(severity: &str, sqlstate: &str, text: &str) -> Vec<u8> {
    let fields =
        format!("SERREUR\0V{severity}\0C{sqlstate}\0M{text}\0Dkey (id)=(7)\0Htry later\0\0");
    message(b'E', fields.as_bytes())
}

/// Takes one message off the wire; the start-up message has no tag.
async fn take(socket: &mut TcpStream, tagged: bool) -> Vec<u8> {
    if tagged {
        socket.read_u8().await.unwrap();
    }
    let length = socket.read_u32().await.unwrap();
    let mut body = vec![0; length as usize - 4];
    socket.read_exact(&mut body).await.unwrap();
    body
}

/// Runs `script` as the server; the configuration connects to it.
async fn server<F: Future<Output = ()> + Send + 'static>(
    script: impl FnOnce(TcpStream) -> F + Send + 'static,
) -> ReplicationConfig {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { script(listener.accept().await.unwrap().0).await });
    let url = format!("postgres://me:secret@127.0.0.1:{port}/shop?connect_timeout=5");
    ReplicationConfig::from_url(&url).unwrap()
}

/// A stream on which the server sends `bytes`, in two pieces, and closes.
async fn stream_of(bytes: Vec<u8>) -> ReplicationStream {
    let config = server(|mut socket| async move {
        take(&mut socket, false).await;
        socket.write_all(&[AUTH_OK, READY].concat()).await.unwrap();
        take(&mut socket, true).await;
        // The first bytes of the stream may come along with the answer.
        let bytes = [COPY_BOTH, &bytes].concat();
        let (first, second) = bytes.split_at(bytes.len().min(20));
        socket.write_all(first).await.unwrap();
        socket.flush().await.unwrap();
        socket.write_all(second).await.unwrap();
        socket.shutdown().await.unwrap();
        // What the client sends is taken, or the kernel would answer it with a reset.
        let _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
    })
    .await;
    let connection = ReplicationConnection::connect(&config).await.unwrap();
    connection
        .start_replication("shop", Lsn::ZERO, &[])
        .await
        .unwrap()
}

/// Reads frames until the error; returns the positions of the XLogData, their bytes in all, and the error.
async fn drain(stream: &mut ReplicationStream) -> (Vec<u64>, usize, ReplicationError) {
    let (mut positions, mut bytes) = (Vec::new(), 0);
    loop {
        match stream.next_buffered() {
            Ok(Some(Frame::XLogData {
                wal_start, payload, ..
            })) => {
                positions.push(wal_start.0);
                bytes += payload.len();
            }
            Ok(Some(Frame::Keepalive { .. })) => {}
            Ok(None) => {
                if let Err(error) = stream.fill().await {
                    return (positions, bytes, error);
                }
            }
            Err(error) => return (positions, bytes, error),
        }
    }
}

#[tokio::test]
async fn frames_come_through_and_the_end_is_an_error() {
    let mut wire = Vec::new();
    for position in 1..=10_000_u64 {
        wire.extend(xlog_data(position, b"payload"));
        if position % 100 == 0 {
            wire.extend(message(b'N', b"\0"));
            wire.extend(message(b'S', b"a\0b\0"));
            wire.extend(message(b'd', b"k\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\x01"));
        }
    }
    wire.extend(xlog_data(10_001, &vec![0; 3 << 20]));
    let mut stream = stream_of(wire).await;
    let (positions, bytes, error) = drain(&mut stream).await;
    assert!(positions.into_iter().eq(1..=10_001));
    assert_eq!(bytes, 10_000 * 7 + (3 << 20));
    assert!(error.is_connection_lost());
    assert_eq!(
        error.to_string(),
        "read the stream of slot 'shop': connection lost: the server closed it"
    );
}

#[tokio::test]
async fn an_error_in_the_stream_keeps_its_meaning() {
    let wire = [
        xlog_data(1, b"x"),
        error("FATAL", "57P01", "terminating connection"),
    ]
    .concat();
    let (positions, _, error) = drain(&mut stream_of(wire).await).await;
    assert_eq!(positions, [1]);
    assert_eq!(error.sqlstate(), Some("57P01"));
    assert!(error.is_connection_lost());
    let server = error.server().unwrap();
    assert_eq!(
        (server.severity.as_str(), server.hint.as_deref()),
        ("FATAL", Some("try later"))
    );
    assert_eq!(
        error.to_string(),
        "read the stream of slot 'shop': terminating connection (FATAL, SQLSTATE 57P01); hint: try later"
    );
}

#[tokio::test]
async fn the_end_in_good_order_is_told_from_a_crash() {
    for end in [message(b'c', b""), message(b'C', b"COPY 0\0")] {
        let (_, _, error) = drain(&mut stream_of(end).await).await;
        assert!(matches!(error.failure(), Failure::Ended), "{error}");
        assert!(error.is_connection_lost());
    }
}

#[tokio::test]
async fn what_is_no_frame_is_refused() {
    let wires = [
        (message(b'd', b""), "0x00 with 0 bytes is no frame"),
        (message(b'd', b"w\0\0\0"), "0x77 with 4 bytes is no frame"),
        (
            message(b'd', b"k\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0"),
            "0x6B with 17 bytes is no frame",
        ),
        (message(b'd', b"zzz"), "0x7A with 3 bytes is no frame"),
        (message(b'D', b"\0\0"), "message 0x44 came in the stream"),
        (
            vec![b'd', 0xff, 0, 0, 0],
            "message 0x64 says it has 4278190080 bytes",
        ),
        (message(b'E', b"M"), "protocol violation"),
    ];
    for (wire, expected) in wires {
        let (_, _, error) = drain(&mut stream_of(wire).await).await;
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!error.is_connection_lost());
    }
}

#[tokio::test]
async fn a_fill_that_is_dropped_loses_nothing() {
    let wire = (1..=20_000).flat_map(|position| xlog_data(position, b"payload"));
    let mut stream = stream_of(wire.collect()).await;
    let mut positions = Vec::new();
    let error = loop {
        match stream.next_buffered().unwrap() {
            Some(Frame::XLogData { wal_start, .. }) => positions.push(wal_start.0),
            Some(Frame::Keepalive { .. }) => {}
            None => {
                // Most fills are cut off by the other branch.
                tokio::select! {
                    biased;
                    filled = stream.fill() => if let Err(error) = filled { break error },
                    () = tokio::task::yield_now() => {}
                }
            }
        }
    };
    assert!(positions.into_iter().eq(1..=20_000));
    assert!(matches!(error.failure(), Failure::Closed));
}

#[tokio::test]
async fn a_status_has_the_form_of_the_manual() {
    let (sender, mut statuses) = tokio::sync::mpsc::channel(1);
    let config = server(|mut socket| async move {
        take(&mut socket, false).await;
        socket.write_all(&[AUTH_OK, READY].concat()).await.unwrap();
        take(&mut socket, true).await;
        socket.write_all(COPY_BOTH).await.unwrap();
        sender.send(take(&mut socket, true).await).await.unwrap();
    })
    .await;
    let connection = ReplicationConnection::connect(&config).await.unwrap();
    let mut stream = connection
        .start_replication("s", Lsn(1), &[])
        .await
        .unwrap();
    stream
        .send_status(Lsn(3), Lsn(2), Lsn(1), true)
        .await
        .unwrap();
    let status = statuses.recv().await.unwrap();
    assert_eq!(status.len(), 34);
    assert_eq!(
        status[..25],
        *b"r\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x01"
    );
    assert_eq!(status[33], 1);
}

#[tokio::test]
async fn silence_is_waiting_in_vain() {
    const STEP: Duration = Duration::from_millis(60);
    let config = server(|mut socket| async move {
        take(&mut socket, false).await;
        socket.write_all(&[AUTH_OK, READY].concat()).await.unwrap();
        take(&mut socket, true).await;
        socket.write_all(COPY_BOTH).await.unwrap();
        // It speaks once it is spoken to.
        take(&mut socket, true).await;
        socket.write_all(&xlog_data(1, b"x")).await.unwrap();
        take(&mut socket, true).await;
    })
    .await;
    let connection = ReplicationConnection::connect(&config).await.unwrap();
    let mut stream = connection
        .start_replication("s", Lsn(1), &[])
        .await
        .unwrap();
    for _ in 0..2 {
        assert!(tokio::time::timeout(STEP, stream.fill()).await.is_err());
    }
    let silence = stream.silence();
    assert!(silence >= 2 * STEP, "{silence:?}");
    tokio::time::sleep(STEP).await;
    assert_eq!(stream.silence(), silence, "nobody waited");
    stream
        .send_status(Lsn(1), Lsn(1), Lsn(1), true)
        .await
        .unwrap();
    stream.fill().await.unwrap();
    assert_eq!(stream.silence(), Duration::ZERO);
}

/// What the server got as a password when it asked by `request`.
async fn password_given(request: &'static [u8]) -> Vec<u8> {
    let (sender, mut passwords) = tokio::sync::mpsc::channel(1);
    let config = server(move |mut socket| async move {
        take(&mut socket, false).await;
        socket.write_all(request).await.unwrap();
        sender.send(take(&mut socket, true).await).await.unwrap();
        socket.write_all(&[AUTH_OK, READY].concat()).await.unwrap();
    })
    .await;
    ReplicationConnection::connect(&config).await.unwrap();
    passwords.recv().await.unwrap()
}

#[tokio::test]
async fn older_password_methods_work() {
    assert_eq!(password_given(b"R\0\0\0\x08\0\0\0\x03").await, b"secret\0");
    // From md5sum: the digest of the digest of "secretme", in hex, and the salt.
    let md5 = b"md58322d584bf59f0253d58346307bb6ba3\0";
    assert_eq!(
        password_given(b"R\0\0\0\x0c\0\0\0\x05\x01\x02\x03\x04").await,
        md5
    );
}

#[tokio::test]
async fn log_ins_that_cannot_work_say_why() {
    let requests: [(&'static [u8], &str); 4] = [
        (
            b"R\0\0\0\x08\0\0\0\x07",
            "asks for GSSAPI, SSPI or another method",
        ),
        (b"R\0\0\0\x10\0\0\0\x0aOTHER\0\0\0", "protocol violation"),
        (
            b"R\0\0\0\x0f\0\0\0\x0aOTHER\0\0",
            "does not offer SCRAM-SHA-256",
        ),
        (b"R\0\0\0\x0c\0\0\0\x0c\0\0\0\0", "protocol violation"),
    ];
    for (request, expected) in requests {
        let config = server(move |mut socket| async move {
            take(&mut socket, false).await;
            socket.write_all(request).await.unwrap();
        })
        .await;
        let error = ReplicationConnection::connect(&config).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!error.is_connection_lost());
    }
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let mut config = server(|mut socket| async move {
        let _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
    })
    .await;
    config.connect_timeout = Duration::from_millis(50);
    let error = ReplicationConnection::connect(&config).await.unwrap_err();
    assert!(matches!(error.failure(), Failure::TimedOut(_)), "{error}");
    assert!(error.is_connection_lost());
}

#[test]
fn urls_say_what_is_not_supported() {
    let cases = [
        (
            "postgres://u@h/d?sslmode=require",
            "sslmode=require asks for TLS",
        ),
        ("postgres://u@h/d?sslmode=verify-full", "sslmode"),
        ("postgres://u@%2Fvar%2Frun/d", "the host is a Unix socket"),
        ("postgres://u@h1,h2/d", "several hosts are given"),
        ("postgres://h/d", "no user is given"),
        ("postgres:///d?user=u", "no host is given"),
        (
            "postgres://u@h/d?options=-c%20x",
            "'options' are not supported",
        ),
        ("postgres://u@h/d?nonsense=1", "nonsense"),
        ("http://u@h/d", "connection"),
    ];
    for (url, expected) in cases {
        let error = ReplicationConfig::from_url(url).unwrap_err().to_string();
        assert!(error.contains(expected), "{url}: {error}");
    }
}

#[test]
fn urls_are_read_and_the_password_is_never_shown() {
    for sslmode in ["", "?sslmode=disable", "?sslmode=prefer"] {
        let url = format!("postgresql://us%65r:p%40ss@db.example:6543/shop{sslmode}");
        let config = ReplicationConfig::from_url(&url).unwrap();
        assert_eq!(
            (config.user.as_str(), config.host.as_str(), config.port),
            ("user", "db.example", 6543)
        );
        assert_eq!(config.password.as_deref(), Some(&b"p@ss"[..]));
        assert_eq!(config.dbname, "shop");
        assert!(!format!("{config:?}").contains("p@ss"));
    }
    let config = ReplicationConfig::from_url("postgres://me@db").unwrap();
    assert_eq!(
        (config.dbname.as_str(), config.port, config.password),
        ("me", 5432, None)
    );
}
