//! What a slot sends: all changes behind the snapshot, or behind what was confirmed.

use crate::corner::Corner;
use crate::replica::Replica;

#[tokio::test]
async fn snapshot_and_stream_together_give_the_table() {
    Corner::run("table", async |corner| {
        let name = &corner.name;
        corner.sql(&format!("INSERT INTO {name}.t SELECT i, 'before' FROM generate_series(1, 100) i")).await;
        let mut connection = corner.connect().await;
        let slot = connection.create_slot_exporting_snapshot(name, "pgoutput").await.unwrap();
        corner.sql(&format!("INSERT INTO {name}.t SELECT i, 'after' FROM generate_series(101, 3000) i")).await;
        for round in 0..20 {
            for statement in [
                format!("UPDATE {name}.t SET text = 'round {round} ' || id WHERE id % 20 = {round}"),
                format!("DELETE FROM {name}.t WHERE id % 100 = {round}"),
                format!("UPDATE {name}.t SET id = id + 100000 WHERE id < 100000 AND id % 100 = {round} + 50"),
            ] {
                corner.sql(&statement).await;
            }
        }
        corner.emit_stop().await;

        let mut replica = Replica::default();
        let snapshot = corner.texts(&format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '{}'; SELECT id FROM {name}.t; COMMIT",
            slot.snapshot_name
        )).await;
        assert_eq!(snapshot.len(), 100);
        replica.rows.extend(snapshot.iter().map(|id| (id.parse().unwrap(), "before".to_owned())));

        let options = corner.options();
        let mut stream = connection.start_replication(name, slot.consistent_point, &options).await.unwrap();
        replica.follow(name, &mut stream, |_| false).await;
        stream.close().await.unwrap();

        assert!(replica.changes > 6000, "{}", replica.changes);
        assert_eq!(replica.commits.len(), 1 + 3 * 20);
        assert!(replica.commits.is_sorted());
        assert!(replica.commits[0] >= slot.consistent_point);
        let expected = corner.texts(&format!("SELECT id || ':' || text FROM {name}.t ORDER BY id")).await;
        assert!(expected.len() > 1000);
        assert!(replica.rows.iter().map(|(id, text)| format!("{id}:{text}")).eq(expected));
    })
    .await;
}

#[tokio::test]
async fn the_stream_goes_on_behind_the_confirmed_transaction() {
    Corner::run("confirm", async |corner| {
        let name = &corner.name;
        corner.create_slot().await;
        for id in 1..=200 {
            corner
                .sql(&format!("INSERT INTO {name}.t VALUES ({id}, '')"))
                .await;
        }
        corner.emit_stop().await;

        let mut all = Replica::default();
        let mut stream = corner.start().await;
        all.follow(name, &mut stream, |replica| replica.commits.len() == 80)
            .await;
        let confirmed = all.end_lsn;
        stream
            .send_status(confirmed, confirmed, confirmed, false)
            .await
            .unwrap();
        // More is read, but not confirmed.
        all.follow(name, &mut stream, |replica| replica.commits.len() == 120)
            .await;
        stream.close().await.unwrap();

        let flushed = format!(
            "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{name}'"
        );
        assert_eq!(corner.lsn(&flushed).await, confirmed);
        let mut rest = Replica::default();
        let mut stream = corner.start().await;
        rest.follow(name, &mut stream, |_| false).await;
        assert_eq!(rest.commits[..40], all.commits[80..]);
        assert!(rest.rows.keys().copied().eq(81..=200));
        stream.close().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_value_of_many_megabytes_comes_whole() {
    Corner::run("big", async |corner| {
        let name = &corner.name;
        corner.create_slot().await;
        corner
            .sql(&format!(
                "INSERT INTO {name}.t VALUES (1, repeat('x', 40000000)), (2, 'small')"
            ))
            .await;
        corner.emit_stop().await;
        let mut replica = Replica::default();
        let mut stream = corner.start().await;
        replica.follow(name, &mut stream, |_| false).await;
        assert_eq!(replica.rows[&1].len(), 40_000_000);
        assert_eq!(replica.rows[&2], "small");
        stream.close().await.unwrap();
    })
    .await;
}
