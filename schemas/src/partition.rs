//! The partition of a key: as a Java client's default partitioner has it.

/// Kafka's murmur2 (`org.apache.kafka.common.utils.Utils.murmur2`): 32 bits, seed 0x9747b28c.
pub fn murmur2(data: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    // Java's array length is an int; so is a record's key.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a key is far shorter than 4 GiB"
    )]
    let mut hash = SEED ^ data.len() as u32;
    let (chunks, tail) = data.as_chunks::<4>();
    for chunk in chunks {
        let mut k = u32::from_le_bytes(*chunk).wrapping_mul(M);
        k = (k ^ (k >> R)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    if !tail.is_empty() {
        for (index, &byte) in tail.iter().enumerate() {
            hash ^= u32::from(byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    (hash ^ (hash >> 15)).cast_signed()
}

/// The partition, from 0, of a key among `count` partitions (at least one). `key` is what goes
/// on the wire: magic byte, schema id and body.
pub fn partition_for(key: &[u8], count: i32) -> i32 {
    (murmur2(key) & i32::MAX) % count.max(1)
}

#[cfg(test)]
mod tests {
    use super::{murmur2, partition_for};

    /// The vectors of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn hashes_as_kafka_does() {
        for (data, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(data.as_bytes()), hash, "{data}");
        }
    }

    #[test]
    fn partitions_are_in_range() {
        // toPositive clears the sign: it is not the absolute value.
        assert_eq!(partition_for(b"21", 10), (-973_932_308 & i32::MAX) % 10);
        for count in [0, 1, 2, 7, i32::MAX] {
            for key in 0..200_u32 {
                let partition = partition_for(&key.to_le_bytes(), count);
                assert!((0..count.max(1)).contains(&partition));
            }
        }
    }
}
