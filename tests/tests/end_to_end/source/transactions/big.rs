//! One transaction that is larger than memory may become.

use super::*;

/// What a source may hold, whatever the transaction's size.
const RESIDENT_BYTES: u64 = 64 << 20;

/// Inserts so many rows in one transaction and carries them without and with streaming, the latter killed on the
/// way: each row comes once, in order, and memory stays bounded.
async fn carry(name: &str, rows: u32) {
    let (stack, pipeline, client) = pipeline(name, TABLES).await;
    let database = pipeline.prefix();
    let bounded = format!("ALTER DATABASE {database} SET logical_decoding_work_mem = '4MB'");
    run(&client, &bounded).await;
    let mut sources = [('a', false), ('b', true)]
        .map(|(letter, streaming)| (letter, start(&pipeline, letter, streaming)));
    let patience = PATIENCE + Duration::from_secs(u64::from(rows) / 2_000);
    let insert =
        format!("INSERT INTO s.t SELECT g, repeat('x', 80) || g FROM generate_series(1, {rows}) g");
    run(&client, &insert).await;
    let (_, with) = &mut sources[1];
    let deadline = Instant::now() + patience;
    while events(with) < f64::from(rows) / 4.0 {
        assert!(Instant::now() < deadline, "{}", with.log_tail());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let before_kill = with.peak_resident_bytes().unwrap();
    with.kill().unwrap();
    with.start().unwrap();
    for (letter, source) in &mut sources {
        let slot = slot(&pipeline, *letter);
        let query = "SELECT confirmed_flush_lsn >= $2::text::pg_lsn FROM pg_replication_slots WHERE slot_name = $1::text";
        let target: String = client
            .query_one("SELECT pg_current_wal_insert_lsn()::text", &[])
            .await
            .unwrap()
            .get(0);
        while !client
            .query_one(query, &[&slot, &target])
            .await
            .unwrap()
            .get::<_, bool>(0)
        {
            assert!(
                Instant::now() < deadline + patience,
                "{}",
                source.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let resident = source
            .peak_resident_bytes()
            .unwrap()
            .max(if *letter == 'b' { before_kill } else { 0 });
        let mode = if *letter == 'b' {
            "streamed"
        } else {
            "not streamed"
        };
        println!(
            "{rows} rows, {mode}: {:.1} MiB resident at the most",
            resident as f64 / f64::from(1 << 20)
        );
        assert!(
            resident < RESIDENT_BYTES,
            "{mode}: {resident} bytes resident"
        );
        once_and_in_order(&stack, &pipeline, *letter, rows);
    }
    let (streamed, _) = streamed_and_spilled(&client, &slot(&pipeline, 'b')).await;
    assert!(streamed > 0, "nothing was streamed");
}

/// Every row has one record, and later rows have a higher `seq`.
fn once_and_in_order(stack: &Stack, pipeline: &Pipeline, letter: char, rows: u32) {
    let topic = format!("{}{letter}.s.t", pipeline.prefix());
    let reader = TopicReader::new(stack.kafka(), stack.registry_url());
    let mut seqs = vec![0_u64; rows as usize + 1];
    let visited = reader.visit_keys(&topic, |seq, key| {
        let id = usize::try_from(int(key)).unwrap();
        assert_eq!(seqs[id], 0, "row {id} comes twice");
        seqs[id] = seq;
    });
    visited.unwrap();
    for (id, pair) in seqs.windows(2).enumerate() {
        assert!(
            pair[0] < pair[1],
            "row {} is missing or out of order",
            id + 1
        );
    }
}

/// An Avro `int`.
fn int(bytes: &[u8]) -> i64 {
    let zigzag = bytes.iter().enumerate().fold(0_i64, |number, (at, byte)| {
        number | i64::from(byte & 0x7f) << (7 * at)
    });
    (zigzag >> 1) ^ -(zigzag & 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_big_transaction_takes_bounded_memory() {
    carry("big", 200_000).await;
}

/// go-pq-cdc#151, airbyte#20873. `TRIBUTARY_LONG_ROWS` sets another size.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes 10 minutes: make test-long"]
async fn five_million_rows_in_one_transaction_take_bounded_memory() {
    let rows = std::env::var("TRIBUTARY_LONG_ROWS").map_or(5_000_000, |rows| rows.parse().unwrap());
    carry("five_million", rows).await;
}
