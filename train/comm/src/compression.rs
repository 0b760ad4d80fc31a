//! Compression of f32 numbers to 8 bits: blocks of 256, each a scale (f32, little-endian) and 256 i8. The scale is the
//! block's largest magnitude / 127; a number is off by half of it at most.

/// Numbers that share a scale.
pub const BLOCK: usize = 256;

/// Bytes that `n` numbers take.
pub fn encoded_len(n: usize) -> usize {
    n + 4 * n.div_ceil(BLOCK)
}

/// `values` as bytes.
pub fn encode(values: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(encoded_len(values.len()));
    for block in values.chunks(BLOCK) {
        // `max` leaves NaN out, and NaN must not be hidden.
        let largest = if block.iter().all(|x| x.is_finite()) {
            block.iter().fold(0f32, |m, x| m.max(x.abs()))
        } else {
            f32::NAN
        };
        let scale = largest / 127.0;
        bytes.extend(scale.to_le_bytes());
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        bytes.extend(
            block
                .iter()
                .map(|x| ((x * inverse).round().clamp(-127.0, 127.0) as i8) as u8),
        );
    }
    bytes
}

/// Adds what [`encode`] made of as many numbers as `sum` has.
pub fn add_decoded(bytes: &[u8], sum: &mut [f32]) {
    for (block, sum) in bytes.chunks(BLOCK + 4).zip(sum.chunks_mut(BLOCK)) {
        let Some((scale, codes)) = block.split_first_chunk::<4>() else {
            return;
        };
        let scale = f32::from_le_bytes(*scale);
        for (x, code) in sum.iter_mut().zip(codes) {
            *x += f32::from(*code as i8) * scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn int8_error_is_at_most_half_a_blocks_scale() {
        let n = 3 * BLOCK + 17;
        let value =
            |i: usize| ((i * 7919 % 1009) as f32 / 504.0 - 1.0) * 10f32.powi(i as i32 / 256 - 3);
        let values: Vec<f32> = (0..n).map(value).collect();
        let bytes = encode(&values);
        assert_eq!(bytes.len(), encoded_len(n));
        let mut back = vec![0.0; n];
        add_decoded(&bytes, &mut back);
        for (block, decoded) in values.chunks(BLOCK).zip(back.chunks(BLOCK)) {
            let largest = block.iter().fold(0f32, |m, x| m.max(x.abs()));
            let bound = largest / 127.0 / 2.0 * 1.001;
            for (x, y) in block.iter().zip(decoded) {
                assert!((x - y).abs() <= bound, "{x} {y} {bound}");
            }
        }
    }

    #[test]
    fn int8_keeps_zeros_and_nan() {
        let mut back = vec![1.0; 3];
        add_decoded(&encode(&[0.0; 3]), &mut back);
        assert_eq!(back, [1.0; 3]);
        let mut back = vec![0.0; 2];
        add_decoded(&encode(&[f32::NAN, 1.0]), &mut back);
        assert!(back.iter().all(|x| x.is_nan()));
    }
}
