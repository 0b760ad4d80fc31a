//! Forward Kullback-Leibler divergence at a temperature (Hinton et al., arXiv 1503.02531).

use burn::tensor::{Tensor, activation};

/// Mean over positions, by `weights` `[B, T]`, of T² · KL(p ‖ q) in nats, where
/// p = softmax(teacher / T) and q = softmax(student / T); both logits are `[B, T, V]`.
///
/// The factor T² keeps the gradient's size independent of the temperature (section 2 of
/// the paper). The teacher's logits are constants.
pub fn forward_kl(
    student: Tensor<3>,
    teacher: Tensor<3>,
    weights: Tensor<2>,
    temperature: f64,
) -> Tensor<1> {
    let [b, t, v] = student.dims();
    let soften = |logits: Tensor<3>| {
        let logits = logits.reshape([b * t, v]);
        let logits = if temperature == 1.0 {
            logits
        } else {
            logits / temperature
        };
        activation::log_softmax(logits, 1)
    };
    let (log_q, log_p) = (soften(student), soften(teacher));
    let kl = (log_p.clone().exp() * (log_p - log_q)).sum_dim(1);
    (kl * weights.reshape([b * t, 1])).sum() * (temperature * temperature)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    const SHAPE: [usize; 3] = [2, 2, 6];

    fn values(seed: usize) -> Vec<f32> {
        (0..24)
            .map(|i| ((i * seed % 13) as f32 - 6.0) / 2.5)
            .collect()
    }

    /// The last of the four positions is padding.
    const WEIGHTS: [f32; 4] = [0.5, 0.25, 0.25, 0.0];

    fn reference(student: &[f32], teacher: &[f32], t: f64) -> f64 {
        let softmax = |row: &[f32]| {
            let e: Vec<f64> = row.iter().map(|&x| (f64::from(x) / t).exp()).collect();
            let s: f64 = e.iter().sum();
            e.into_iter().map(|x| x / s).collect::<Vec<_>>()
        };
        let rows = student.chunks(6).zip(teacher.chunks(6));
        let kl: f64 = rows
            .zip(WEIGHTS)
            .map(|((q, p), weight)| {
                let (q, p) = (softmax(q), softmax(p));
                let kl: f64 = p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum();
                kl * f64::from(weight)
            })
            .sum();
        t * t * kl
    }

    #[test]
    fn equals_its_definition_and_its_gradient_the_finite_differences() {
        let device = Device::flex().autodiff();
        let tensor =
            |v: &[f32]| Tensor::<3>::from_data(TensorData::new(v.to_vec(), SHAPE), &device);
        let (student, teacher) = (values(7), values(5));
        let weights = || Tensor::from_data(TensorData::new(WEIGHTS.to_vec(), [2, 2]), &device);
        for temperature in [1.0, 2.0] {
            let x = tensor(&student).require_grad();
            let loss = forward_kl(x.clone(), tensor(&teacher), weights(), temperature);
            let grads = loss.backward();
            let expected = reference(&student, &teacher, temperature);
            let got = f64::from(loss.into_scalar::<f32>());
            assert!((got - expected).abs() < 1e-5, "{got} {expected}");
            let grad: Vec<f32> = x.grad(&grads).unwrap().into_data().try_into_vec().unwrap();
            for i in 0..student.len() {
                let at = |delta: f32| {
                    let mut v = student.clone();
                    v[i] += delta;
                    reference(&v, &teacher, temperature)
                };
                let numeric = (at(1e-3) - at(-1e-3)) / 2e-3;
                assert!((numeric - f64::from(grad[i])).abs() < 1e-4, "{i}");
            }
        }
    }

    #[test]
    fn is_zero_for_a_student_that_has_become_its_teacher() {
        let device = Device::flex();
        let x = Tensor::<3>::from_data(TensorData::new(values(7), SHAPE), &device);
        let weights = Tensor::from_data(TensorData::new(WEIGHTS.to_vec(), [2, 2]), &device);
        let kl: f32 = forward_kl(x.clone(), x, weights, 2.0).into_scalar();
        assert!(kl.abs() < 1e-6);
    }
}
