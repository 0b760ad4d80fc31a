//! Known blocks, round trips within the formats' steps, and sizes that must be refused.

use super::*;
use proptest::prelude::*;
use retort_test_kit::Random;

fn encode(ty: GgmlType, x: &[f32]) -> Vec<u8> {
    let mut out = Vec::new();
    quantize_row(ty, x, &mut out).unwrap();
    out
}

fn decode(ty: GgmlType, data: &[u8], cols: usize) -> Vec<f32> {
    let mut out = vec![0.0; cols];
    dequantize_row(ty, data, &mut out).unwrap();
    out
}

#[test]
fn ids_and_names_are_distinct() {
    for a in GgmlType::ALL {
        assert_eq!(GgmlType::from_id(a.id()), Some(a));
        assert_eq!(
            GgmlType::ALL
                .iter()
                .filter(|b| b.name() == a.name())
                .count(),
            1
        );
    }
    assert_eq!(GgmlType::from_id(4), None);
}

#[test]
fn q4_0_block_by_hand() {
    // d = -16 / -8 = 2: -16 maps to nibble 0, 14 to 15, 0 to 8.
    let mut x = [0f32; 32];
    (x[0], x[1], x[16]) = (-16.0, 14.0, 2.0);
    let block = encode(Q4_0, &x);
    assert_eq!(block[..2], half::f16::from_f32(2.0).to_le_bytes());
    assert_eq!(block[2..5], [0x90, 0x8f, 0x88]);
    assert_eq!(decode(Q4_0, &block, 32), x);
}

/// Regression: a block without a -8, as searched scales leave many, changed when it was decoded and encoded again.
#[test]
fn q4_0_blocks_decode_and_encode_to_the_same_values() {
    let mut random = Random::new(7);
    for case in 0..4000 {
        // a scale of either sign, some subnormal, and levels as far from zero as `most`
        let most = 1 + case % 8;
        let mut next = || random.bits() as u16;
        let mut block = next().to_le_bytes().to_vec();
        block[1] &= 0xbb;
        block.extend((0..16).map(|_| {
            let mut level = || 8 - most + next() % (2 * most);
            (level() | level() << 4) as u8
        }));
        let values = decode(Q4_0, &block, 32);
        let again = decode(Q4_0, &encode(Q4_0, &values), 32);
        let bits = |x: &[f32]| x.iter().map(|w| w.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&again), bits(&values), "{block:?}");
    }
}

#[test]
fn every_half_converts() {
    for bits in 0..=u16::MAX {
        let (got, want) = (half_to_f32(bits), half::f16::from_bits(bits).to_f32());
        assert!(
            got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(),
            "{bits:#x}: {got} for {want}"
        );
    }
}

#[test]
fn k_scales_by_hand() {
    // group 5: scale low nibble 0xA with top bits 0b10 (byte 1), minimum nibble 0x3 with top bits 0b01 (byte 5)
    let mut s = [0u8; 12];
    (s[9], s[1], s[5]) = (0x3A, 0b1000_0001, 0b0100_0010);
    let [scales, minima] = k::scales_mins(&s);
    assert_eq!((scales[5], minima[5]), (0x2A, 0x13));
    assert_eq!((scales[1], minima[1]), (1, 2));
}

/// Pseudo-random rows of 1024 weights decode to the very bits that the `gguf` package (0.19, llama.cpp's own) gives.
#[test]
fn decoding_equals_the_reference() {
    let golden = [
        (F16, 0x2e5b_0f36_0a58_e000),
        (BF16, 0xd786_f966_c9d5_0000),
        (Q4_0, 0xf972_ca4a_a3db_7400),
        (Q4_1, 0x7765_d707_2249_bd00),
        (Q5_0, 0x25c2_bcb7_1379_5000),
        (Q5_1, 0x43f2_6fc9_594b_f600),
        (Q8_0, 0xc8a7_0160_a395_af80),
        (Q4_K, 0x75c1_c800_6453_2838),
        (Q5_K, 0x02ee_012b_cdae_5af4),
        (Q6_K, 0x1113_8497_e225_bb60),
    ];
    for (ty, want) in golden {
        let mut data = Random::new(1).bytes(ty.row_bytes(1024).unwrap());
        for (b, block) in data.chunks_exact_mut(ty.bytes_per_block()).enumerate() {
            // finite scales and minima, different in every block
            match ty {
                F16 | BF16 => block[1] &= 0xbf,
                Q6_K => block[208..210].copy_from_slice(&[(37 * b) as u8, 0x2c]),
                _ => block[..2].copy_from_slice(&[(37 * b) as u8, 0x2c]),
            }
            if ty.has_min() {
                block[2..4].copy_from_slice(&[(37 * b) as u8, 0xa8]);
            }
        }
        let hash = |h: u64, v: &f32| h.wrapping_mul(1_099_511_628_211) ^ u64::from(v.to_bits());
        let got = decode(ty, &data, 1024).iter().fold(0, hash);
        assert_eq!(got, want, "{ty}: {got:#x}");
    }
}

#[test]
fn wrong_sizes_are_refused() {
    assert!(dequantize_row(Q4_0, &[0; 18], &mut [0.0; 31]).is_err());
    assert!(dequantize_row(Q4_0, &[0; 17], &mut [0.0; 32]).is_err());
    assert!(dequantize_row(Q6_K, &[0; 210], &mut [0.0; 32]).is_err());
    assert!(quantize_row(Q8_0, &[0.0; 33], &mut Vec::new()).is_err());
    assert!(quantize_row(Q4_K, &[0.0; 256], &mut Vec::new()).is_err());
    assert!(unpack_row(F32, &[0; 4], &mut [0], &mut [], &mut []).is_err());
    assert_eq!(Q8_0.row_bytes(usize::MAX / 32 * 32), None);
}

proptest! {
    #[test]
    fn round_trips_stay_within_a_step(x in prop::collection::vec(-100f32..100.0, 96)) {
        for (ty, levels) in [(Q8_0, 254.0), (Q4_0, 8.0), (Q4_1, 15.0), (F16, 1024.0), (BF16, 128.0), (F32, 1e9)] {
            let y = decode(ty, &encode(ty, &x), x.len());
            for (x, y) in x.chunks(32).zip(y.chunks(32)) {
                let span = x.iter().fold(0f32, |a, v| a.max(v.abs())) * if ty == Q4_1 { 2.0 } else { 1.0 };
                for (x, y) in x.iter().zip(y) {
                    prop_assert!((x - y).abs() <= span / levels * 1.01 + span * 1e-3 * f32::from(u8::from(levels < 1e3)));
                }
            }
        }
    }

    #[test]
    fn any_bytes_decode(seed in any::<u64>()) {
        let mut random = Random::new(seed);
        for ty in GgmlType::ALL {
            let cols = 512;
            let data = random.bytes(ty.row_bytes(cols).unwrap());
            decode(ty, &data, cols);
        }
    }
}
