//! The operations against their composed forms and against central differences of their
//! definitions in f64.

mod attention;
mod grid;

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::*;

/// Numbers in ±1 that repeat nowhere soon, the same in every run.
pub(crate) fn values(n: usize, salt: u64) -> Vec<f64> {
    let mut state = salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            f64::from((state >> 33) as u32) / f64::from(1u32 << 30) - 1.0
        })
        .collect()
}

pub(crate) fn tensor<const D: usize>(
    values: &[f64],
    shape: [usize; D],
    device: &Device,
) -> Tensor<D> {
    let values: Vec<f32> = values.iter().map(|&x| x as f32).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

pub(crate) fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

/// Values and gradients of `loss`, given its inputs, under a device with autodiff.
pub(crate) fn gradients<const D: usize>(
    inputs: &[Tensor<D>],
    loss: impl FnOnce(&[Tensor<D>]) -> Tensor<1>,
) -> (f32, Vec<Vec<f32>>) {
    let inputs: Vec<_> = inputs.iter().map(|x| x.clone().require_grad()).collect();
    let loss = loss(&inputs);
    let grads = loss.backward();
    let of = |x: &Tensor<D>| numbers(x.grad(&grads).unwrap());
    (loss.into_scalar(), inputs.iter().map(of).collect())
}

pub(crate) fn close(a: &[f32], b: &[f32], bound: f32, what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    let largest = b.iter().fold(1f32, |m, x| m.max(x.abs()));
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= bound * largest, "{what} {i}: {a} {b}");
    }
}

/// `got` against central differences of `loss` in f64 with respect to input `which`.
pub(crate) fn check_differences(
    inputs: &[Vec<f64>],
    which: usize,
    got: &[f32],
    loss: &dyn Fn(&[Vec<f64>]) -> f64,
) {
    const H: f64 = 1e-5;
    let mut moved = inputs.to_vec();
    let largest = got.iter().fold(1f64, |m, x| m.max(f64::from(x.abs())));
    for i in 0..got.len() {
        let mut at = |delta: f64| {
            moved[which][i] = inputs[which][i] + delta;
            loss(&moved)
        };
        let numeric = (at(H) - at(-H)) / (2.0 * H);
        moved[which][i] = inputs[which][i];
        let error = (numeric - f64::from(got[i])).abs();
        assert!(error < 2e-5 * largest, "{which} {i}: {numeric} {}", got[i]);
    }
}

/// What was rounded to f32 for the operation, as f64 for its definition.
pub(crate) fn rounded(inputs: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let round = |x: Vec<f64>| x.into_iter().map(|x| f64::from(x as f32)).collect();
    inputs.into_iter().map(round).collect()
}

fn norm(w: &[f64], device: &Device) -> RmsNorm {
    RmsNorm {
        gamma: burn::module::Param::initialized(
            burn::module::ParamId::from(1),
            tensor(w, [w.len()], device),
        ),
        epsilon: 1e-5,
    }
}

#[test]
fn rms_norm_and_its_gradients() {
    let device = Device::flex().autodiff();
    for (n, d) in [(3, 7), (200, 40)] {
        let inputs = rounded(vec![values(n * d, 1), values(d, 2)]);
        let weights = rounded(vec![values(n * d, 3)]).remove(0);
        let mut norm = norm(&inputs[1], &device);
        norm.gamma = norm.gamma.set_require_grad(true);
        let run = |fused: bool| {
            let x = tensor(&inputs[0], [n, d], &device).require_grad();
            let y = match fused {
                true => rms_norm(&norm, x.clone()),
                false => norm.forward(x.clone()),
            };
            let loss = (y.clone() * tensor(&weights, [n, d], &device)).sum();
            let grads = loss.backward();
            let dw = norm.gamma.val().grad(&grads).unwrap();
            [numbers(y), numbers(x.grad(&grads).unwrap()), numbers(dw)]
        };
        let (fused, composed) = (run(true), run(false));
        for (a, b) in fused.iter().zip(&composed) {
            close(a, b, 1e-5, "rms_norm");
        }
        if n > 3 {
            continue;
        }
        for which in 0..2 {
            check_differences(&inputs, which, &fused[1 + which], &|inputs| {
                let rows = inputs[0].chunks(d).zip(weights.chunks(d));
                rows.map(|(x, weights)| {
                    let mean: f64 = x.iter().map(|x| x * x).sum::<f64>() / d as f64;
                    let r = 1.0 / (mean + 1e-5).sqrt();
                    let terms = x.iter().zip(&inputs[1]).zip(weights);
                    terms
                        .map(|((x, w), weight)| x * r * w * weight)
                        .sum::<f64>()
                })
                .sum()
            });
        }
    }
}

#[test]
fn linear_and_its_gradients() {
    let device = Device::flex().autodiff();
    let (b, t, i, o) = (2, 3, 5, 4);
    for added in [None, Some(vec![o]), Some(vec![b, t, o])] {
        let size = added.as_ref().map_or(0, |shape| shape.iter().product());
        let inputs = rounded(vec![
            values(b * t * i, 1),
            values(i * o, 2),
            values(size, 3),
        ]);
        let weights = rounded(vec![values(b * t * o, 4)]).remove(0);
        let x = tensor(&inputs[0], [b, t, i], &device).require_grad();
        let w = tensor(&inputs[1], [i, o], &device).require_grad();
        let extra = tensor(&inputs[2], [size], &device).require_grad();
        let y = match added.as_deref() {
            None => linear(x.clone(), w.clone(), None::<Tensor<1>>),
            Some([_]) => linear(x.clone(), w.clone(), Some(extra.clone())),
            _ => linear(x.clone(), w.clone(), Some(extra.clone().reshape([b, t, o]))),
        };
        let defined = |inputs: &[Vec<f64>]| -> f64 {
            let output = |at: usize| -> f64 {
                let (row, column) = (at / o, at % o);
                let plus = match size {
                    0 => 0.0,
                    size => inputs[2][at % size],
                };
                let terms = (0..i).map(|j| inputs[0][row * i + j] * inputs[1][j * o + column]);
                plus + terms.sum::<f64>()
            };
            (0..b * t * o).map(|at| output(at) * weights[at]).sum()
        };
        let loss = (y * tensor(&weights, [b, t, o], &device)).sum();
        let grads = loss.backward();
        let value: f32 = loss.into_scalar();
        assert!((f64::from(value) - defined(&inputs)).abs() < 1e-5);
        check_differences(&inputs, 0, &numbers(x.grad(&grads).unwrap()), &defined);
        check_differences(&inputs, 1, &numbers(w.grad(&grads).unwrap()), &defined);
        if size > 0 {
            check_differences(&inputs, 2, &numbers(extra.grad(&grads).unwrap()), &defined);
        }
    }
}

#[test]
fn a_transposed_weight_is_read_as_it_lies() {
    let device = Device::flex().autodiff();
    let (n, i, o) = (7, 5, 9);
    let x = tensor(&values(n * i, 1), [n, i], &device);
    let w = tensor(&values(i * o, 2), [o, i], &device);
    let added = tensor(&values(n * o, 3), [n, o], &device);
    let share = tensor(&values(n * o, 4), [n, o], &device);
    for added in [None, Some(added)] {
        let [lying, copied] = [false, true].map(|copy| {
            gradients(&[x.clone(), w.clone()], |inputs| {
                let w = inputs[1].clone().transpose();
                // Adding lays it out anew.
                let w = if copy { w + 0.0 } else { w };
                (linear(inputs[0].clone(), w, added.clone()) * share.clone()).sum()
            })
        });
        close(&[lying.0], &[copied.0], 1e-6, "sum");
        for (a, b) in lying.1.iter().zip(&copied.1) {
            close(a, b, 1e-6, "gradient");
        }
    }
}

#[test]
fn gated_mlp_and_its_gradients() {
    let device = Device::flex().autodiff();
    let (n, d, i) = (6, 4, 7);
    let sizes = [n * d, d * i, d * i, i * d, n * d];
    let inputs = (0..).zip(sizes).map(|(salt, size)| values(size, salt + 1));
    let inputs = rounded(inputs.collect());
    let weights = rounded(vec![values(n * d, 9)]).remove(0);
    let run = |tracked: [bool; 5], fused: bool| {
        let x = tensor(&inputs[0], [2, n / 2, d], &device).set_require_grad(tracked[0]);
        let g = tensor(&inputs[1], [d, i], &device).set_require_grad(tracked[1]);
        let u = tensor(&inputs[2], [d, i], &device).set_require_grad(tracked[2]);
        let w = tensor(&inputs[3], [i, d], &device).set_require_grad(tracked[3]);
        let added = tensor(&inputs[4], [2, n / 2, d], &device).set_require_grad(tracked[4]);
        let matrices = [g.clone(), u.clone(), w.clone()];
        let y = if fused {
            gated_mlp(x.clone(), matrices, added.clone())
        } else {
            let [g, u, w] = matrices.map(|m| m.unsqueeze::<3>());
            let mixed = activation::silu(x.clone().matmul(g)) * x.clone().matmul(u);
            added.clone() + mixed.matmul(w)
        };
        let grads = (y * tensor(&weights, [2, n / 2, d], &device))
            .sum()
            .backward();
        [
            x.grad(&grads).map(numbers),
            g.grad(&grads).map(numbers),
            u.grad(&grads).map(numbers),
            w.grad(&grads).map(numbers),
            added.grad(&grads).map(numbers),
        ]
    };
    let all = run([true; 5], true);
    for (a, b) in all.iter().zip(run([true; 5], false)) {
        close(a.as_ref().unwrap(), &b.unwrap(), 1e-5, "gated mlp");
    }
    // What is frozen gets no gradient, and the rest the same as before.
    for tracked in [
        [true, false, false, false, true],
        [false, true, false, true, false],
    ] {
        for (i, (some, all)) in run(tracked, true).iter().zip(&all).enumerate() {
            let expected = tracked[i].then(|| all.clone().unwrap());
            assert_eq!(some, &expected, "{i}");
        }
    }
    for (which, got) in all.iter().enumerate() {
        check_differences(&inputs, which, got.as_ref().unwrap(), &|inputs| {
            let mut total = 0.0;
            for row in 0..n {
                let x = &inputs[0][row * d..][..d];
                let through =
                    |m: &[f64], j: usize| -> f64 { (0..d).map(|k| x[k] * m[k * i + j]).sum() };
                let mixed = |j: usize| {
                    let gate = through(&inputs[1], j);
                    gate / (1.0 + (-gate).exp()) * through(&inputs[2], j)
                };
                for column in 0..d {
                    let down: f64 = (0..i).map(|j| mixed(j) * inputs[3][j * d + column]).sum();
                    let at = row * d + column;
                    total += (inputs[4][at] + down) * weights[at];
                }
            }
            total
        });
    }
}

#[test]
fn swiglu_and_its_gradients() {
    let device = Device::flex().autodiff();
    for n in [33, 40_000] {
        let four = |x: Vec<f64>| x.iter().map(|x| 4.0 * x).collect();
        let inputs = rounded(vec![four(values(n, 1)), four(values(n, 2))]);
        let weights = rounded(vec![values(n, 3)]).remove(0);
        let tensors: Vec<Tensor<1>> = inputs.iter().map(|x| tensor(x, [n], &device)).collect();
        let weigh = |y: Tensor<1>| (y * tensor(&weights, [n], &device)).sum();
        let fused = gradients(&tensors, |x| weigh(swiglu(x[0].clone(), x[1].clone())));
        let composed = gradients(&tensors, |x| {
            weigh(activation::silu(x[0].clone()) * x[1].clone())
        });
        for (a, b) in fused.1.iter().zip(&composed.1) {
            close(a, b, 1e-5, "swiglu");
        }
        if n > 33 {
            continue;
        }
        for which in 0..2 {
            check_differences(&inputs, which, &fused.1[which], &|inputs| {
                let terms = inputs[0].iter().zip(&inputs[1]).zip(&weights);
                terms
                    .map(|((g, u), w)| g / (1.0 + (-g).exp()) * u * w)
                    .sum()
            });
        }
    }
}

#[test]
fn linear_cross_entropy_and_its_gradients() {
    let device = Device::flex().autodiff();
    for (n, d, v, tied) in [
        (5, 6, 11, false),
        (5, 6, 11, true),
        (300, 16, 1 << 17, true),
    ] {
        let inputs = rounded(vec![values(n * d, 1), values(d * v, 2)]);
        let targets: Vec<i32> = (0..n).map(|i| ((i * 7919 + 3) % v) as i32).collect();
        let weights: Vec<f64> = (0..n)
            .map(|i| if i % 4 == 2 { 0.0 } else { 0.25 })
            .collect();
        let shape = if tied { [v, d] } else { [d, v] };
        let tensors = [
            tensor(&inputs[0], [n, d], &device),
            tensor(&inputs[1], shape, &device),
        ];
        let ids = || Tensor::<1, Int>::from_data(TensorData::new(targets.clone(), [n]), &device);
        let share = || tensor(&weights, [n], &device);
        let fused = gradients(&tensors, |x| {
            linear_cross_entropy(x[0].clone(), x[1].clone(), tied, ids(), share()) * 3.0
        });
        let composed = gradients(&tensors, |x| {
            let head = if tied {
                x[1].clone().transpose()
            } else {
                x[1].clone()
            };
            cross_entropy(x[0].clone().matmul(head), ids(), share()) * 3.0
        });
        close(&[fused.0], &[composed.0], 1e-5, "loss");
        for (a, b) in fused.1.iter().zip(&composed.1) {
            close(a, b, 1e-5, "linear cross entropy");
        }
        let [x, head] = tensors.map(|t| t.inner());
        let (ids, share) = (ids().inner(), share().inner());
        let plain: f32 = linear_cross_entropy(x, head, tied, ids, share).into_scalar();
        close(&[3.0 * plain], &[fused.0], 1e-6, "loss without gradients");
        if n > 5 {
            continue;
        }
        for which in 0..2 {
            check_differences(&inputs, which, &fused.1[which], &|inputs| {
                let position = |i: usize| {
                    let logit = |j: usize| -> f64 {
                        let at = |x: usize| if tied { j * d + x } else { x * v + j };
                        (0..d)
                            .map(|x| inputs[0][i * d + x] * inputs[1][at(x)])
                            .sum()
                    };
                    let sum: f64 = (0..v).map(|j| logit(j).exp()).sum();
                    3.0 * weights[i] * (sum.ln() - logit(targets[i] as usize))
                };
                (0..n).map(position).sum()
            });
        }
    }
}

#[test]
fn gradients_do_not_depend_on_the_number_of_threads() {
    let case = attention::case([2, 130, 4, 2, 16], Some(&[40, 61]));
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let device = Device::flex().autodiff();
            let shape = [2, 130, 64];
            gradients(&case.tensors(&device), |x| {
                let y = super::attention(x[0].clone(), x[1].clone(), x[2].clone(), case.geometry());
                let y = rms_norm(&norm(&values(64, 9), &device), y);
                let y = swiglu(y.clone(), y) * tensor(&case.weights(), shape, &device);
                let y = y.reshape([260, 64]);
                let head = tensor(&values(64 * 50, 5), [64, 50], &device);
                let targets = Tensor::<1, Int>::from_data(
                    TensorData::new((0..260).map(|i| i % 50).collect::<Vec<i32>>(), [260]),
                    &device,
                );
                linear_cross_entropy(y, head, false, targets, Tensor::ones([260], &device))
            })
        })
    };
    let one = run(1);
    for threads in [2, 3, 8] {
        assert_eq!(run(threads), one, "{threads} threads");
    }
}
