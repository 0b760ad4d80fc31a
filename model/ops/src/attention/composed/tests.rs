//! Composed attention against its definition in f64.

use super::*;

const DIMS: [usize; 4] = [2, 4, 9, 3];

fn values(n: usize, salt: usize) -> Vec<f32> {
    (0..n)
        .map(|i| ((i * 37 + salt * 11) % 29) as f32 / 10.0 - 1.4)
        .collect()
}

fn documents() -> Documents {
    let segments = [0, 0, 0, 1, 1, 1, 1, 2, 2, 5, 5, 5, 5, 5, 6, 7, 7, 7];
    Documents::new(&segments, &[0; 18], [2, 9])
}

/// Softmax attention by definition, in f64; `sees(row, query, key)`.
fn reference(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    sees: &dyn Fn(usize, usize, usize) -> bool,
) -> Vec<f64> {
    let [b, h, t, e] = DIMS;
    let mut out = Vec::new();
    for row in 0..b {
        for head in 0..h {
            let kv = (row * 2 + head / 2) * t;
            for i in 0..t {
                let query = &q[((row * h + head) * t + i) * e..][..e];
                let dot = |j: usize| -> f64 {
                    let key = &k[(kv + j) * e..][..e];
                    query.iter().zip(key).map(|(a, b)| f64::from(a * b)).sum()
                };
                let weight = |j: usize| if sees(row, i, j) { dot(j).exp() } else { 0.0 };
                let sum: f64 = (0..t).map(weight).sum();
                out.extend((0..e).map(|x| {
                    (0..t)
                        .map(|j| weight(j) / sum * f64::from(v[(kv + j) * e + x]))
                        .sum::<f64>()
                }));
            }
        }
    }
    out
}

fn tensor(v: &[f32], heads: usize, device: &Device) -> Tensor<4> {
    let [b, _, t, e] = DIMS;
    Tensor::from_data(TensorData::new(v.to_vec(), [b, heads, t, e]), device)
}

#[test]
fn composed_attention_in_blocks_of_every_size_equals_its_definition() {
    let device = Device::flex();
    let (q, k, v) = (values(216, 1), values(108, 2), values(108, 3));
    let documents = documents();
    let run = |blocks: &[QueryBlock]| -> Vec<f32> {
        let (q, k, v) = (
            tensor(&q, 4, &device),
            tensor(&k, 2, &device),
            tensor(&v, 2, &device),
        );
        attend(q, [k, v], blocks, false)
            .into_data()
            .try_into_vec()
            .unwrap()
    };
    let check = |blocks: &[QueryBlock], sees: &dyn Fn(usize, usize, usize) -> bool| {
        for (a, b) in run(blocks).iter().zip(reference(&q, &k, &v, sees)) {
            assert!((f64::from(*a) - b).abs() < 1e-5, "{a} {b}");
        }
    };
    for step in [1, 2, 4, 9] {
        check(
            &QueryBlock::causal(9, 0, step, false, &device),
            &|_, i, j| j <= i,
        );
        check(
            &QueryBlock::packed(&documents, step, &device),
            &|row, i, j| {
                !documents.masked(i, i + 1, 0)[row * (i + 1)..][..=i]
                    .get(j)
                    .is_none_or(|f| *f)
            },
        );
    }
}

#[test]
fn composed_attention_after_a_cache_equals_one_pass() {
    let device = Device::flex();
    let (q, k, v) = (values(216, 1), values(108, 2), values(108, 3));
    let tensors = || {
        (
            tensor(&q, 4, &device),
            tensor(&k, 2, &device),
            tensor(&v, 2, &device),
        )
    };
    let (all, key, value) = tensors();
    let whole = attend(
        all.clone(),
        [key.clone(), value.clone()],
        &QueryBlock::causal(9, 0, 9, false, &device),
        false,
    );
    for past in 1..9 {
        let t = 9 - past;
        for step in [1, 2, t] {
            let blocks = QueryBlock::causal(t, past, step, false, &device);
            let part = attend(
                all.clone().narrow(2, past, t),
                [key.clone(), value.clone()],
                &blocks,
                false,
            );
            let expected: Vec<f32> = whole
                .clone()
                .narrow(2, past, t)
                .into_data()
                .try_into_vec()
                .unwrap();
            let part: Vec<f32> = part.into_data().try_into_vec().unwrap();
            for (a, b) in part.iter().zip(&expected) {
                assert!((a - b).abs() < 1e-5, "past {past}: {a} {b}");
            }
        }
    }
}

/// The gradient of a weighted sum of the outputs, against central differences of the
/// definition, with documents and several blocks.
#[test]
fn composed_attention_gradients_match_finite_differences() {
    let device = Device::flex().autodiff();
    let inputs = [values(216, 1), values(108, 2), values(108, 3)];
    let weights = values(216, 4);
    let documents = documents();
    let sees = |row: usize, i: usize, j: usize| {
        j <= i && !documents.masked(i, i + 1, 0)[row * (i + 1) + j]
    };
    let tracked: Vec<Tensor<4>> = inputs
        .iter()
        .zip([4, 2, 2])
        .map(|(v, heads)| tensor(v, heads, &device).require_grad())
        .collect();
    let [q, k, v] = [0, 1, 2].map(|i| tracked[i].clone());
    let out = attend(
        q,
        [k, v],
        &QueryBlock::packed(&documents, 4, &device),
        false,
    );
    let grads = (out * tensor(&weights, 4, &device)).sum().backward();
    let loss = |inputs: &[Vec<f32>; 3]| -> f64 {
        reference(&inputs[0], &inputs[1], &inputs[2], &sees)
            .iter()
            .zip(&weights)
            .map(|(y, w)| y * f64::from(*w))
            .sum()
    };
    for (which, tensor) in tracked.iter().enumerate() {
        let grad: Vec<f32> = tensor
            .grad(&grads)
            .unwrap()
            .into_data()
            .try_into_vec()
            .unwrap();
        for (i, got) in grad.iter().enumerate().step_by(5) {
            let at = |delta: f32| {
                let mut moved = inputs.clone();
                moved[which][i] += delta;
                loss(&moved)
            };
            let numeric = (at(5e-3) - at(-5e-3)) / 1e-2;
            let error = (numeric - f64::from(*got)).abs();
            assert!(
                error < 2e-3 * numeric.abs().max(1.0),
                "{which} {i}: {numeric} {got}"
            );
        }
    }
}
