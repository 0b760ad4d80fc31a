//! The element formats of tensors: names, ids and sizes.

/// A tensor's element format, by ggml's name.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GgmlType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a single-precision number.
    BF16,
    /// 4 bits, 32 to a block, one f16 scale: `w = d (q - 8)`.
    Q4_0,
    /// 4 bits, 32 to a block, f16 scale and minimum: `w = d q + m`.
    Q4_1,
    /// 5 bits, 32 to a block, one f16 scale: `w = d (q - 16)`.
    Q5_0,
    /// 5 bits, 32 to a block, f16 scale and minimum.
    Q5_1,
    /// 8 bits, 32 to a block, one f16 scale: `w = d q`.
    Q8_0,
    /// 4 bits, 256 to a block in 8 groups with 6-bit scales and minima.
    Q4_K,
    /// 5 bits, 256 to a block in 8 groups with 6-bit scales and minima.
    Q5_K,
    /// 6 bits, 256 to a block in 16 groups with 8-bit scales.
    Q6_K,
}

use GgmlType::*;

impl GgmlType {
    /// Every format that is read here.
    pub const ALL: [GgmlType; 11] = [
        F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K,
    ];

    /// Id in a GGUF file, ggml's name, weights of a block, bytes of a block.
    const fn facts(self) -> (u32, &'static str, usize, usize) {
        match self {
            F32 => (0, "F32", 1, 4),
            F16 => (1, "F16", 1, 2),
            BF16 => (30, "BF16", 1, 2),
            Q4_0 => (2, "Q4_0", 32, 2 + 16),
            Q4_1 => (3, "Q4_1", 32, 4 + 16),
            Q5_0 => (6, "Q5_0", 32, 2 + 4 + 16),
            Q5_1 => (7, "Q5_1", 32, 4 + 4 + 16),
            Q8_0 => (8, "Q8_0", 32, 2 + 32),
            Q4_K => (12, "Q4_K", 256, 4 + 12 + 128),
            Q5_K => (13, "Q5_K", 256, 4 + 12 + 32 + 128),
            Q6_K => (14, "Q6_K", 256, 128 + 64 + 16 + 2),
        }
    }

    /// The id that stands in a GGUF file.
    pub const fn id(self) -> u32 {
        self.facts().0
    }

    /// The format of a GGUF id, if it is one that is read here.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|ty| ty.id() == id)
    }

    /// ggml's name, as in `Q4_0`.
    pub const fn name(self) -> &'static str {
        self.facts().1
    }

    /// Weights in one block.
    pub const fn block_size(self) -> usize {
        self.facts().2
    }

    /// Bytes of one block.
    pub const fn bytes_per_block(self) -> usize {
        self.facts().3
    }

    /// Weights that share one scale, or 0 for a float format.
    pub const fn group_size(self) -> usize {
        match self {
            F32 | F16 | BF16 => 0,
            Q6_K => 16,
            _ => 32,
        }
    }

    /// Whether groups carry a minimum `m` besides the scale.
    pub const fn has_min(self) -> bool {
        matches!(self, Q4_1 | Q5_1 | Q4_K | Q5_K)
    }

    /// Whether weights are integers with scales, so that activations are taken as int8 too.
    pub const fn is_quantized(self) -> bool {
        self.group_size() != 0
    }

    /// Bytes of a row of `cols` weights; none if `cols` is no multiple of the block size or the product overflows.
    pub const fn row_bytes(self, cols: usize) -> Option<usize> {
        if !cols.is_multiple_of(self.block_size()) {
            return None;
        }
        (cols / self.block_size()).checked_mul(self.bytes_per_block())
    }
}

impl std::fmt::Display for GgmlType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}
