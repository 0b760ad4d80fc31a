//! The bits of a row's sparse distributions, most significant first:
//!
//! ```text
//! position  8 bits   number of entries n
//!           16 bits  rest, as binary16: mass of the other ids (top k) or entropy in nats (sampled)
//!           n times  a gap, 9 bits of probability; ids ascend
//! gap       ids between this entry and the one before: Rice code with ⌊log2(0.69 V / n)⌋ low bits
//! 9 bits    code c stands for the probability e^(1 − c/32), from e down to 3.2e-7
//! ```
//!
//! The Rice code (Golomb 1966; Rice and Plaunt 1971) takes within 3 % of the entropy of n random
//! ids. 50 of 151,936 ids take 142 bytes.

use std::io;

use bitstream_io::{BigEndian, BitRead, BitReader, BitWrite, BitWriter};
use half::f16;

/// The part of one position's distribution that is kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SparseDistribution {
    /// Ids, ascending, with the codes of their probabilities.
    pub entries: Vec<(u32, u16)>,
    /// Mass of the other ids, or the entropy.
    pub rest: f16,
}

/// Number of codes.
pub(super) const CODES: u16 = 512;
/// Codes for a factor of e.
const STEP: f32 = 32.0;

/// The probability that `code` stands for.
pub(super) fn probability(code: u16) -> f32 {
    (1.0 - f32::from(code) / STEP).exp()
}

/// Rounds `p` to one of the two codes around it at random, so that the expectation is `p`.
/// `uniform` is a random number in 0..1. `None` stands for 0: a `p` below the last code is rounded
/// to that code or to 0.
pub(super) fn code(p: f32, uniform: f32) -> Option<u16> {
    if p.is_nan() || p <= 0.0 {
        return None;
    }
    let exact = ((1.0 - p.ln()) * STEP).max(0.0);
    if exact >= f32::from(CODES - 1) {
        return (uniform * probability(CODES - 1) < p).then_some(CODES - 1);
    }
    let above = exact.floor() as u16;
    let (high, low) = (probability(above), probability(above + 1));
    let round_up = uniform * (high - low) < p - low;
    Some(if round_up { above } else { above + 1 })
}

/// The Rice parameter for `n` of `vocabulary` ids.
fn low_bits(n: usize, vocabulary: usize) -> u32 {
    let gap = vocabulary as f64 / n.max(1) as f64;
    (0.69 * gap).log2().max(0.0) as u32
}

/// Encodes `positions`.
///
/// # Panics
/// A position has more than 255 entries.
pub(super) fn encode(positions: &[SparseDistribution], vocabulary: usize) -> Vec<u8> {
    let mut bits = BitWriter::endian(Vec::new(), BigEndian);
    let written = write(&mut bits, positions, vocabulary).and_then(|()| bits.byte_align());
    written.expect("a vector takes everything");
    bits.into_writer()
}

fn write(
    bits: &mut BitWriter<Vec<u8>, BigEndian>,
    positions: &[SparseDistribution],
    vocabulary: usize,
) -> io::Result<()> {
    for position in positions {
        let n = u8::try_from(position.entries.len()).expect("at most 255 entries");
        bits.write::<8, u8>(n)?;
        bits.write::<16, u16>(position.rest.to_bits())?;
        let low = low_bits(usize::from(n), vocabulary);
        let mut next = 0;
        for &(id, code) in &position.entries {
            let gap = id - next;
            bits.write_unary::<0>(gap >> low)?;
            bits.write_var(low, gap & ((1 << low) - 1))?;
            bits.write::<9, u16>(code)?;
            next = id + 1;
        }
    }
    Ok(())
}

/// Decodes `count` positions.
///
/// # Errors
/// Too few bytes, too many bytes, or an id past the vocabulary.
pub(super) fn decode(
    bytes: &[u8],
    count: usize,
    vocabulary: usize,
) -> io::Result<Vec<SparseDistribution>> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut bits = BitReader::endian(bytes, BigEndian);
    // A position takes three bytes and more.
    if bytes.len() < count.saturating_mul(3) {
        return Err(wrong("fewer bytes than its positions take"));
    }
    let mut positions = Vec::with_capacity(count);
    for _ in 0..count {
        let n = usize::from(bits.read::<8, u8>()?);
        let rest = f16::from_bits(bits.read::<16, u16>()?);
        let low = low_bits(n, vocabulary);
        let mut entries = Vec::with_capacity(n);
        let mut next = 0u64;
        for _ in 0..n {
            let high = u64::from(bits.read_unary::<0>()?);
            let id = next + (high << low) + u64::from(bits.read_var::<u32>(low)?);
            if id >= vocabulary as u64 {
                return Err(wrong("an id past the vocabulary"));
            }
            entries.push((id as u32, bits.read::<9, u16>()?));
            next = id + 1;
        }
        positions.push(SparseDistribution { entries, rest });
    }
    bits.byte_align();
    if bits.into_reader().is_empty() {
        Ok(positions)
    } else {
        Err(wrong("more bytes than its positions take"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use retort_test_kit::Random;

    use super::*;

    #[test]
    fn fifty_of_qwens_ids_take_at_most_150_bytes() {
        let vocabulary = 151_936u32;
        let mut numbers = Random::new(1);
        let mut random = |below: u32| numbers.bits() % below;
        let positions: Vec<SparseDistribution> = (0..200)
            .map(|_| {
                let mut ids: Vec<u32> = (0..50).map(|_| random(vocabulary)).collect();
                ids.sort_unstable();
                ids.dedup();
                SparseDistribution {
                    entries: ids.into_iter().map(|id| (id, random(512) as u16)).collect(),
                    rest: f16::from_f32(0.125),
                }
            })
            .collect();
        let bytes = encode(&positions, vocabulary as usize);
        assert!(bytes.len() <= 145 * 200, "{}", bytes.len() / 200);
        assert_eq!(decode(&bytes, 200, vocabulary as usize).unwrap(), positions);
    }

    #[test]
    fn code_has_the_probability_as_its_expectation() {
        for p in [2.5, 1.0, 0.7, 0.123, 1e-4, 4e-7, 1e-7] {
            let n = 10_000;
            let uniform = |i| (i as f32 + 0.5) / n as f32;
            let of = |i| code(p, uniform(i)).map_or(0.0, probability);
            let mean = (0..n).map(|i| f64::from(of(i))).sum::<f64>() / f64::from(n);
            assert!((mean / f64::from(p) - 1.0).abs() < 2e-4, "{p} {mean}");
            let near = (0..n).map(of).filter(|&q| q > 1e-6);
            assert!(
                near.clone().all(|q| (q / p).ln().abs() < 1.01 / STEP),
                "{p}"
            );
        }
        assert_eq!(code(0.0, 0.5), None);
        assert_eq!(code(f32::NAN, 0.5), None);
        assert_eq!(code(100.0, 0.5), Some(0));
    }

    #[test]
    fn damaged_bytes_are_an_error() {
        let position = SparseDistribution {
            entries: vec![(3, 1), (17, 500)],
            rest: f16::ONE,
        };
        let bytes = encode(&[position], 18);
        assert!(decode(&bytes, 1, 18).is_ok());
        assert!(decode(&bytes, 1, 17).is_err());
        assert!(decode(&bytes, 2, 18).is_err());
        assert!(decode(&bytes[..bytes.len() - 1], 1, 18).is_err());
        assert!(decode(&[&bytes[..], &[0]].concat(), 1, 18).is_err());
        assert!(decode(&[], usize::MAX, 18).is_err());
    }

    proptest! {
        #[test]
        fn any_positions_round_trip(ids in prop::collection::vec(prop::collection::btree_set(0u32..70_000, 0..255), 0..4), rest: u16) {
            let position = |ids: std::collections::BTreeSet<u32>| SparseDistribution {
                entries: ids.into_iter().map(|id| (id, (id % 512) as u16)).collect(),
                rest: f16::from_bits(rest),
            };
            let positions: Vec<SparseDistribution> = ids.into_iter().map(position).collect();
            let bytes = encode(&positions, 70_000);
            let again = decode(&bytes, positions.len(), 70_000).unwrap();
            prop_assert_eq!(encode(&again, 70_000), bytes);
        }

        #[test]
        fn any_bytes_decode_or_are_an_error(bytes: Vec<u8>, count in 0usize..20) {
            let _ = decode(&bytes, count, 1000);
        }
    }
}
