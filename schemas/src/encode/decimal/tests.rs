use super::append_twos_complement;

/// What `BigInteger.toByteArray` gives.
#[test]
fn integers_are_as_short_as_they_can_be() {
    for (negative, limbs, bytes) in [
        (false, &[0][..], &[0][..]),
        (true, &[0], &[0]),
        (false, &[], &[0]),
        (false, &[127], &[127]),
        (false, &[128], &[0, 128]),
        (true, &[128], &[128]),
        (true, &[129], &[255, 127]),
        (true, &[256], &[255, 0]),
        (true, &[1], &[255]),
        (false, &[0, 1], &[1, 0, 0, 0, 0, 0, 0, 0, 0]),
        (true, &[0, 1], &[255, 0, 0, 0, 0, 0, 0, 0, 0]),
        (true, &[u64::MAX], &[255, 0, 0, 0, 0, 0, 0, 0, 1]),
        (false, &[1 << 63], &[0, 128, 0, 0, 0, 0, 0, 0, 0]),
        (true, &[1 << 63], &[128, 0, 0, 0, 0, 0, 0, 0]),
    ] {
        let mut out = vec![7];
        append_twos_complement(negative, limbs, &mut out);
        assert_eq!(out[1..], *bytes, "{negative} {limbs:?}");
    }
}
