//! F32, F16 and BF16 rows: plain little-endian numbers, rounded to nearest even when narrowed.

use super::ggml_type::GgmlType;
use super::half_float::half_to_f32;
use half::{bf16, f16};

/// Decodes `out.len()` numbers.
pub(super) fn decode(ty: GgmlType, data: &[u8], out: &mut [f32]) {
    match ty {
        GgmlType::F16 => {
            for (w, b) in out.iter_mut().zip(data.chunks_exact(2)) {
                *w = half_to_f32(u16::from_le_bytes([b[0], b[1]]));
            }
        }
        GgmlType::BF16 => {
            for (w, b) in out.iter_mut().zip(data.chunks_exact(2)) {
                *w = f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16);
            }
        }
        _ => {
            for (w, b) in out.iter_mut().zip(data.chunks_exact(4)) {
                *w = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            }
        }
    }
}

/// Encodes every number of `x`.
pub(super) fn encode(ty: GgmlType, x: &[f32], out: &mut Vec<u8>) {
    match ty {
        GgmlType::F16 => out.extend(x.iter().flat_map(|&w| f16::from_f32(w).to_le_bytes())),
        GgmlType::BF16 => out.extend(x.iter().flat_map(|&w| bf16::from_f32(w).to_le_bytes())),
        _ => out.extend(x.iter().flat_map(|w| w.to_le_bytes())),
    }
}
