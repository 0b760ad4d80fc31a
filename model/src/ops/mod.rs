//! Operations with a forward and a backward pass of their own for the CPU, where Burn would
//! compose them of smaller ones: linear layers with what is added to them, attention with its
//! rotary positions, RMSNorm, SwiGLU alone and with its three matrices, rounding to a file's
//! formats, and the head with its losses: cross entropy, and divergences from a teacher.
//!
//! Burn's compositions keep an array of activations for every small step and run most of
//! them on one thread; these keep their inputs alone and use all cores. On devices other
//! than `cpu` (burn-flex) the composed forms are used, which the tests hold equal.
//!
//! `kernel` modules ([`attention`], [`norm`], [`swiglu`], [`grid`], and over a [`head`] [`cross_entropy`]
//! and [`distillation`]) work on slices of f32; [`backend`], [`flex`] and [`autodiff`] are the
//! way there from Burn's tensors; [`blocks`] is the composed attention, and [`held`] what both find in a
//! cache that rounds. Gradients do not depend
//! on the number of threads: what is summed over tasks is summed in their order.

use std::sync::Arc;

use burn::backend::Dispatch;
use burn::nn::RmsNorm;
use burn::tensor::{Bool, DType, Device, Int, Tensor, activation};

use crate::distillation::{Lesson, Mixture, Student};
use crate::linear::to;
use backend::FusedOps;

pub(crate) use attention::Geometry;
pub(crate) use blocks::{Block, attend};
pub(crate) use grid::{BLOCK, Grid};
pub(crate) use head::chunk;
pub(crate) use held::halves;

mod attention;
mod autodiff;
mod backend;
mod blocks;
mod cross_entropy;
mod distillation;
mod flex;
mod grid;
mod head;
mod held;
mod norm;
mod product;
mod raw;
mod swiglu;
#[cfg(test)]
pub(crate) mod tests;
mod vector;

/// Whether the operations run on `device`.
pub(crate) fn available(device: &Device) -> bool {
    *device == Device::flex()
}

/// Whether the operations run on `x`.
pub(crate) fn fused<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && available(&x.device())
}

/// Causal attention: see [`attention`]. `q` `[B, T, H·E]`, `k` and `v` `[B, T, K·E]` in f32
/// on a device where it is [`available`]; answers `[B, T, H·E]`.
pub(crate) fn attention(
    q: Tensor<3>,
    k: Tensor<3>,
    v: Tensor<3>,
    geometry: Arc<Geometry>,
) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::causal_attention(
        q.into_dispatch(),
        k.into_dispatch(),
        v.into_dispatch(),
        geometry,
    ))
}

/// `x` `[.., I]` times `w` `[I, O]`, plus `added` `[.., O]` or `[O]` where there is one; `w`
/// in f32 on a device where it is [`available`].
pub(crate) fn linear<const D: usize, const A: usize>(
    x: Tensor<D>,
    w: Tensor<2>,
    added: Option<Tensor<A>>,
) -> Tensor<D> {
    let (x, w) = (x.into_dispatch(), w.into_dispatch());
    Tensor::from_dispatch(match added {
        Some(added) => Dispatch::project_added(x, w, added.into_dispatch()),
        None => Dispatch::project(x, w),
    })
}

/// `added + (silu(x gate) · (x up)) down`: `x` and `added` `[B, T, D]`, `gate` and `up`
/// `[D, I]`, `down` `[I, D]`, all in f32 on a device where it is [`available`].
pub(crate) fn gated_mlp(
    x: Tensor<3>,
    [gate, up, down]: [Tensor<2>; 3],
    added: Tensor<3>,
) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::gated_mlp(
        x.into_dispatch(),
        gate.into_dispatch(),
        up.into_dispatch(),
        down.into_dispatch(),
        added.into_dispatch(),
    ))
}

/// `x` `[.., D]` normed by the root of its mean square and multiplied by `norm`'s weights.
pub(crate) fn rms_norm<const D: usize>(norm: &RmsNorm, x: Tensor<D>) -> Tensor<D> {
    let w = norm.gamma.val();
    if !(fused(&x) && fused(&w)) {
        let dtype = x.dtype();
        return to(norm.forward(to(x, w.dtype())), dtype);
    }
    Tensor::from_dispatch(Dispatch::rms_norm(
        x.into_dispatch(),
        w.into_dispatch(),
        norm.epsilon as f32,
    ))
}

/// `x` on `grid`, as `[groups, 32, columns]`: see [`grid`]; in f32 on a device where it is
/// [`available`].
pub(crate) fn on_grid<const D: usize>(x: Tensor<D>, grid: Grid, columns: usize) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::rounded(x.into_dispatch(), grid, columns))
}

/// The same composed of Burn's operations: `x` `[groups, 32, columns]` in f32.
pub(crate) fn on_grid_composed(x: Tensor<3>, grid: Grid) -> Tensor<3> {
    let held = x.clone().detach();
    let size = held.clone().abs();
    let most = size.clone().max_dim(1);
    let inverse = |d: Tensor<3>, none: Tensor<3, Bool>| d.recip().mask_fill(none, 0.0);
    let half = |d: Tensor<3>| d.cast(DType::F16).cast(DType::F32);
    let straight = x - held.clone();
    match grid {
        Grid::Q4_0 | Grid::Q4_0Nearest => {
            // The first of the largest, by what stands before it.
            let places = Tensor::<1, Int>::arange(0..BLOCK as i64, &held.device());
            let places = (places.float() - BLOCK as f32).neg().reshape([1, BLOCK, 1]);
            let places = size.equal(most.expand(held.dims())).float() * places;
            let first = places.clone().equal(places.max_dim(1).expand(held.dims()));
            let largest = (held.clone() * first.float()).sum_dim(1);
            let at = |level: f32| {
                let d = largest.clone() / level;
                let place = held.clone() * inverse(d.clone(), d.clone().equal_elem(0.0)) + 8.5;
                let inside = place.clone().lower_elem(16.0).float();
                ((place.floor().clamp_max(15.0) - 8.0) * half(d), inside)
            };
            let error = |y: &Tensor<3>| (held.clone() - y.clone()).square().sum_dim(1);
            let (mut y, mut inside) = at(grid::LEVELS[0]);
            if grid == Grid::Q4_0Nearest {
                let mut least = error(&y);
                for level in &grid::LEVELS[1..] {
                    let (other, all) = at(*level);
                    let its = error(&other);
                    let better = its.clone().lower(least.clone());
                    least = least.mask_where(better.clone(), its);
                    let better = better.expand(held.dims());
                    y = y.mask_where(better.clone(), other);
                    inside = inside.mask_where(better, all);
                }
            }
            y + straight * inside
        }
        Grid::Q8_0 => {
            let d = most / 127.0;
            let size = size * inverse(d.clone(), d.clone().equal_elem(0.0));
            // Halves away from zero.
            let whole = size.clone().trunc();
            let q = whole.clone() + (size - whole).greater_equal_elem(0.5).float();
            q * held.sign() * half(d) + straight
        }
        Grid::Int8 => {
            let d = most / 127.0;
            let none = d.clone().lower_elem(f32::MIN_POSITIVE);
            (held * inverse(d.clone(), none)).round() * d + straight
        }
    }
}

/// `silu(gate) · up`, of one shape.
pub(crate) fn swiglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    if !fused(&gate) {
        return activation::silu(gate) * up;
    }
    Tensor::from_dispatch(Dispatch::swiglu(gate.into_dispatch(), up.into_dispatch()))
}

/// `Σ weight · −log softmax(x W)[target]` in nats, `[1]`: `x` `[N, D]`, `head` `[D, V]` or,
/// where `tied`, `[V, D]`, `targets` `[N]` below V, `weights` `[N]`; all f32 on a device where
/// it is [`available`].
pub(crate) fn linear_cross_entropy(
    x: Tensor<2>,
    head: Tensor<2>,
    tied: bool,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::linear_cross_entropy(
        x.into_dispatch(),
        head.into_dispatch(),
        tied,
        targets.into_dispatch(),
        weights.into_dispatch(),
    ))
}

/// The loss of a student, and its parts: `[6]`; see [`distillation`](crate::distillation), on
/// a device where it is [`available`]. The gradient is that of the first alone.
pub(crate) fn linear_distillation(
    student: Student,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
    lesson: Lesson,
    mixture: Mixture,
) -> Tensor<1> {
    let Student { hidden, head, tied } = student;
    Tensor::from_dispatch(Dispatch::linear_distillation(
        hidden.into_dispatch(),
        head.into_dispatch(),
        tied,
        targets.into_dispatch(),
        weights.into_dispatch(),
        Arc::new((lesson, mixture)),
    ))
}

/// `Σ weight · −log softmax(logits)[target]` in nats, `[1]`, composed of Burn's operations:
/// logits `[N, V]`, `targets` `[N]` below V, `weights` `[N]`.
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>, weights: Tensor<1>) -> Tensor<1> {
    let log_probs = activation::log_softmax(logits, 1);
    let of_targets = log_probs.gather(1, targets.unsqueeze_dim(1));
    (of_targets * weights.unsqueeze_dim(1)).sum().neg()
}
