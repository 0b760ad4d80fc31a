//! Rotary position embedding (RoPE), half-split as in Hugging Face's Llama and Qwen: the pair
//! (i, i + E/2) at position p is rotated by p · f(i) radians (Su et al., arXiv 2104.09864, eq. 34;
//! Burn's `RotaryEncoding` pairs neighbours instead).
//!
//! In: queries or keys `[B, H, T, E]`. Out: the same shape.

use burn::tensor::{Device, Tensor, TensorData};

/// Tables of [`angles`](retort_format::rope::angles) as tensors, each `[1 or B, 1, T, E/2]`.
#[derive(Clone, Debug)]
pub(crate) struct Rotary {
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl Rotary {
    /// Tables for rows of `length` positions, with `half` angles each.
    pub fn new(
        (cos, sin): (Vec<f32>, Vec<f32>),
        [length, half]: [usize; 2],
        device: &Device,
    ) -> Self {
        let shape = [cos.len() / (length * half), 1, length, half];
        Self {
            cos: Tensor::from_data(TensorData::new(cos, shape), device),
            sin: Tensor::from_data(TensorData::new(sin, shape), device),
        }
    }

    /// `x` `[B, H, T, E]` rotated by its positions.
    pub fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let half = x.dims()[3] / 2;
        let a = x.clone().narrow(3, 0, half);
        let b = x.narrow(3, half, half);
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        Tensor::cat(
            vec![
                a.clone() * cos.clone() - b.clone() * sin.clone(),
                b * cos + a * sin,
            ],
            3,
        )
    }
}

#[cfg(test)]
mod tests {
    use retort_format::rope::angles;

    use super::*;

    #[test]
    fn rope_rotates_half_split_pairs() {
        let device = Device::flex();
        let rotary = Rotary::new(angles(&[0, 1, 2], &[1.0, 0.1]), [3, 2], &device);
        let x = Tensor::from_data(
            TensorData::new([1f32, 2.0, 3.0, 4.0].repeat(3), [1, 1, 3, 4]),
            &device,
        );
        let y = rotary.apply(x).into_data().try_into_vec::<f32>().unwrap();
        for p in 0..3 {
            for (i, freq) in [1.0f64, 0.1].into_iter().enumerate() {
                let (s, c) = (p as f64 * freq).sin_cos();
                let (a, b) = ((i + 1) as f64, (i + 3) as f64);
                assert!((y[4 * p + i] as f64 - (a * c - b * s)).abs() < 1e-6);
                assert!((y[4 * p + i + 2] as f64 - (b * c + a * s)).abs() < 1e-6);
            }
        }
    }
}
