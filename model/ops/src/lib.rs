//! Operations with a forward and a backward pass of their own for the CPU, where Burn would compose
//! them of smaller ones. Burn's compositions keep an array of activations for every small step and
//! run most of them on one thread; these save their inputs alone and use all cores.
//!
//! An operation is one file (or folder) with all that belongs to it: the kernel on slices of f32,
//! its `Operation` for burn-flex with the backward pass, the composed form
//! for other devices, and tests that hold the two equal and the gradients to central differences.
//! Sums over tasks are added in a fixed order: no result depends on the number of threads.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//!
//! let device = Device::flex().autodiff();
//! let gate = Tensor::<1>::from_floats([1.0, -1.0], &device).require_grad();
//! let up = Tensor::<1>::from_floats([2.0, 3.0], &device);
//! let gradients = retort_ops::swiglu(gate.clone(), up).sum().backward();
//! assert!(gate.grad(&gradients).is_some());
//! ```

mod attention;
mod cross_entropy;
mod device;
mod distillation;
mod fake_kv_cache;
mod fake_quant;
mod flex;
mod gated_mlp;
mod linear;
mod lm_head_loss;
mod matmul;
mod operation;
mod rms_norm;
mod rotary;
mod simd;
mod swiglu;
#[cfg(test)]
mod testing;
mod uninit;

pub use attention::{AttentionBackend, AttentionMask, AttentionShape, Documents, KvCache};
pub use cross_entropy::{cross_entropy, linear_cross_entropy};
pub use device::{available, fused};
pub use distillation::{
    DistillationLoss, LogitsOf, LossWeights, Sparse, Tail, TeacherLogits, distillation_loss,
};
pub use fake_quant::{BlockAxis, QuantFormat, fake_quantize};
pub use gated_mlp::gated_mlp;
pub use linear::{linear, product};
pub use lm_head_loss::LmHead;
pub use rms_norm::rms_norm;
pub use swiglu::swiglu;

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Int, Tensor, TensorData};

    use super::*;
    use crate::testing::*;

    #[test]
    fn gradients_do_not_depend_on_the_number_of_threads() {
        let case = attention::tests::case([2, 130, 4, 2, 16], Some(&[40, 61]));
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| {
                let device = Device::flex().autodiff();
                let shape = [2, 130, 64];
                gradients(&case.tensors(&device), |x| {
                    let y = case.run(true, x);
                    let y = rms_norm(&norm(&values(64, 9), &device), y);
                    let y = swiglu(y.clone(), y) * tensor(&case.weights(), shape, &device);
                    let y = y.reshape([260, 64]);
                    let head = tensor(&values(64 * 50, 5), [64, 50], &device);
                    let targets = Tensor::<1, Int>::from_data(
                        TensorData::new((0..260).map(|i| i % 50).collect::<Vec<i32>>(), [260]),
                        &device,
                    );
                    let head = LmHead {
                        weight: head,
                        tied: false,
                    };
                    linear_cross_entropy(y, head, targets, Tensor::ones([260], &device))
                })
            })
        };
        let one = run(1);
        for threads in [2, 3, 8] {
            assert_eq!(run(threads), one, "{threads} threads");
        }
    }
}
