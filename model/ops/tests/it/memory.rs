//! Memory of the distillation loss.

use burn::tensor::{Device, Distribution, Int, Tensor};
use retort_ops::{LmHead, LossWeights, TeacherLogits, distillation_loss};
use retort_test_kit::alone;

use crate::ALLOCATED;

/// On a device without the kernel, which stands for every GPU, the peak falls with the chunk: the
/// head's gradient is there once, not once a chunk.
#[test]
fn distillation_loss_on_ndarray_takes_less_memory_in_smaller_chunks() {
    if !alone("memory::distillation_loss_on_ndarray_takes_less_memory_in_smaller_chunks") {
        return;
    }
    const POSITIONS: usize = 256;
    const WIDTH: usize = 64;
    const VOCABULARY: usize = 8192;
    #[expect(deprecated, reason = "it stands for the devices that have no kernel")]
    let device = Device::ndarray().autodiff();
    let random = |shape| {
        let x = Tensor::<2>::random(shape, Distribution::Default, &device);
        x.require_grad()
    };
    let (hidden, weight) = (random([POSITIONS, WIDTH]), random([WIDTH, VOCABULARY]));
    let peak = |chunk: usize| {
        let teacher = TeacherLogits::Dense {
            vocabulary: VOCABULARY,
            logits: Box::new(|rows| vec![0.0; rows.len() * VOCABULARY]),
        };
        let weights = LossWeights {
            forward_kl: 1.0,
            chunk,
            ..LossWeights::default()
        };
        ALLOCATED.reset_peak_usage();
        let before = ALLOCATED.current_usage();
        let loss = distillation_loss(
            hidden.clone(),
            LmHead {
                weight: weight.clone(),
                tied: false,
            },
            Tensor::<1, Int>::zeros([POSITIONS], &device),
            Tensor::ones([POSITIONS], &device),
            teacher,
            weights,
        );
        let gradients = loss.total.backward();
        assert!(weight.grad(&gradients).is_some());
        ALLOCATED.peak_usage() - before
    };
    let peaks = [POSITIONS, 64, 16].map(peak);
    assert!(peaks[0] > peaks[1] && peaks[1] > peaks[2], "{peaks:?}");
}
