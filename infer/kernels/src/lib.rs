//! The arithmetic: matrix products over encoded weights, and the small vector operations between them.
//!
//! ```text
//! Matrix       [rows, cols] encoded weights, as they lie in the file       ─┐
//! Activations  [n_tokens, cols] f32, and int8 in blocks of 32 with a scale ─┴─► matmul ─► y [n_tokens, rows] f32
//! ```
//!
//! Quantized weights meet int8 activations (integer products, one float multiply per block of 32); F32, F16 and BF16
//! weights meet f32 activations. A single token (decoding) reads the weights in the file's own layout, once; more
//! tokens (prefill) unpack sixteen rows at a time into a panel that stays in cache and is used against all tokens.
//!
//! One [`Kernels`] table of function pointers is chosen at start from the processor's features: `scalar` everywhere,
//! `avx2`, `vnni` (AVX2 with AVX-VNNI) and `avx512` on x86-64, `neon`, `dotprod` and `i8mm` on Arm. The environment
//! variable `RETORT_KERNELS` forces one. All of them give the scalar reference's results up to the order of f32
//! additions; the integer parts are equal.
//!
//! ```
//! use retort_format::quant::GgmlType;
//! use retort_kernels::{Activations, Matrix, active, pool::Pool};
//!
//! let weights: Vec<u8> = [1f32, 2.0, 3.0, 4.0].iter().flat_map(|w| w.to_le_bytes()).collect();
//! let (kernels, mut x, mut y) = (active()?, Activations::new(), [0.0; 2]);
//! x.quantize_with(kernels, &[1.0, -1.0], 1, 2)?;
//! let w = Matrix::new(GgmlType::F32, 2, 2, &weights)?;
//! kernels.matmul(&Pool::single(), &w, &x, &mut y)?;
//! assert_eq!(y, [-1.0, -1.0]);
//! # Ok::<(), retort_format::Error>(())
//! ```
//!
//! Imports form a tree: the types that kernels take (`int8.rs`, `activation_tiles.rs`, `panel.rs`,
//! `formats.rs`), the form of a table (`kernels.rs`), the instruction sets (`scalar.rs`, `x86/`,
//! `neon/`), the choice among them (`table.rs`), and what calls it.
#![allow(unsafe_code)] // SIMD intrinsics and disjoint writes from several threads; each block says why it is sound

mod activation_tiles;
mod activations;
pub mod attention;
pub mod cores;
pub mod dense;
mod float_dot;
mod formats;
mod int8;
mod kernels;
mod matmul;
mod matrix;
#[cfg(target_arch = "aarch64")]
mod neon;
pub mod ops;
mod panel;
pub mod pool;
mod running_softmax;
mod scalar;
mod table;
mod vector_ops;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use activations::Activations;
pub use kernels::Kernels;
pub use matrix::{Matrix, MatrixShape};
pub use table::{active, init};

#[cfg(test)]
mod tests;
