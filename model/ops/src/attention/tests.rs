//! Attention against the composed form and against central differences of its definition.

use burn::tensor::TensorData;
use retort_format::rope::angles;

use super::*;

use crate::testing::*;

pub(crate) struct Case {
    batch: usize,
    length: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    /// Documents' lengths, repeated as long as there is room; none: each row is one.
    documents: Option<Vec<usize>>,
    /// Whether an 8-bit cache holds the keys and values.
    quantize_kv: bool,
}

impl Case {
    fn documents(&self) -> Option<Documents> {
        let lengths = self.documents.as_ref()?;
        let (mut segments, mut positions) = (Vec::new(), Vec::new());
        for row in 0..self.batch {
            let mut row_segments = Vec::new();
            let mut row_positions = Vec::new();
            // Rows are shifted against each other.
            for (i, &n) in lengths.iter().cycle().skip(row).enumerate() {
                row_segments.extend(std::iter::repeat_n(i as i32, n));
                row_positions.extend(0..n as i32);
                if row_segments.len() >= self.length {
                    break;
                }
            }
            segments.extend(&row_segments[..self.length]);
            positions.extend(&row_positions[..self.length]);
        }
        Some(Documents::new(
            &segments,
            &positions,
            [self.batch, self.length],
        ))
    }

    fn positions(&self) -> (Vec<usize>, usize) {
        match self.documents() {
            Some(documents) => (documents.positions().collect(), self.batch),
            None => ((0..self.length).collect(), 1),
        }
    }

    fn frequencies(&self) -> Vec<f64> {
        (0..self.head_dim / 2)
            .map(|i| 0.7f64.powi(i as i32))
            .collect()
    }

    /// The output, by the kernel or composed of Burn's operations.
    pub(crate) fn run(&self, fused: bool, x: &[Tensor<3>]) -> Tensor<3> {
        let shape = AttentionShape {
            batch: self.batch,
            length: self.length,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
        };
        let documents = self.documents();
        let mask = match &documents {
            Some(documents) => AttentionMask::Packed(documents),
            None => AttentionMask::Causal,
        };
        let rope = angles(&self.positions().0, &self.frequencies());
        let device = x[0].device();
        let backend = AttentionBackend::new(shape, mask, rope, self.quantize_kv, fused, &device);
        let split = |x: &Tensor<3>, heads| {
            let shape = [self.batch, self.length, heads, self.head_dim];
            x.clone().reshape(shape)
        };
        let qk = [split(&x[0], self.heads), split(&x[1], self.kv_heads)];
        backend.forward(qk, x[2].clone(), DType::F32, None)
    }

    /// By definition, in f64: Σ weights · output.
    fn defined(&self, inputs: &[Vec<f64>], weights: &[f64]) -> f64 {
        let (positions, rows) = self.positions();
        let (e, half) = (self.head_dim, self.head_dim / 2);
        let starts = self.documents().map(|d| d.starts().to_vec());
        let rope = |x: &[f64], heads: usize, b: usize, t: usize, head: usize| -> Vec<f64> {
            let x = &x[((b * self.length + t) * heads + head) * e..][..e];
            let position = positions[(b % rows) * self.length + t] as f64;
            let mut y = vec![0.0; e];
            for (i, f) in self.frequencies().iter().enumerate() {
                let (s, c) = (position * f).sin_cos();
                y[i] = x[i] * c - x[i + half] * s;
                y[i + half] = x[i + half] * c + x[i] * s;
            }
            y
        };
        let mut total = 0.0;
        for b in 0..self.batch {
            for head in 0..self.heads {
                let kv = head / (self.heads / self.kv_heads);
                for t in 0..self.length {
                    let first = starts.as_ref().map_or(0, |s| s[b * self.length + t]);
                    let q = rope(&inputs[0], self.heads, b, t, head);
                    let scores: Vec<f64> = (first..=t)
                        .map(|s| {
                            let k = rope(&inputs[1], self.kv_heads, b, s, kv);
                            let dot: f64 = q.iter().zip(&k).map(|(a, b)| a * b).sum();
                            (dot / (e as f64).sqrt()).exp()
                        })
                        .collect();
                    let sum: f64 = scores.iter().sum();
                    for (s, score) in (first..=t).zip(&scores) {
                        let v = &inputs[2][((b * self.length + s) * self.kv_heads + kv) * e..];
                        let w = &weights[((b * self.length + t) * self.heads + head) * e..];
                        let dot: f64 = v[..e].iter().zip(w).map(|(a, b)| a * b).sum();
                        total += score / sum * dot;
                    }
                }
            }
        }
        total
    }

    fn inputs(&self) -> Vec<Vec<f64>> {
        let size = |heads| self.batch * self.length * heads * self.head_dim;
        let scaled = |heads, salt| values(size(heads), salt).iter().map(|x| 2.0 * x).collect();
        rounded(vec![
            scaled(self.heads, 1),
            scaled(self.kv_heads, 2),
            values(size(self.kv_heads), 3),
        ])
    }

    pub(crate) fn tensors(&self, device: &Device) -> Vec<Tensor<3>> {
        let shape = |heads| [self.batch, self.length, heads * self.head_dim];
        let heads = [self.heads, self.kv_heads, self.kv_heads];
        let inputs = self.inputs();
        let of = |(x, heads): (&Vec<f64>, _)| tensor(x, shape(heads), device);
        inputs.iter().zip(heads).map(of).collect()
    }

    pub(crate) fn weights(&self) -> Vec<f64> {
        let n = self.batch * self.length * self.heads * self.head_dim;
        rounded(vec![values(n, 4)]).remove(0)
    }
}

pub(crate) fn case(sizes: [usize; 5], documents: Option<&[usize]>) -> Case {
    let [batch, length, heads, kv_heads, head_dim] = sizes;
    Case {
        batch,
        length,
        heads,
        kv_heads,
        head_dim,
        documents: documents.map(<[usize]>::to_vec),
        quantize_kv: false,
    }
}

/// With keys and values as an 8-bit cache holds them.
fn quantized_kv(sizes: [usize; 5]) -> Case {
    Case {
        quantize_kv: true,
        ..case(sizes, None)
    }
}

#[test]
fn attention_gradients_equal_the_composed_ones() {
    let device = Device::flex().autodiff();
    for case in [
        case([2, 150, 4, 4, 16], None),
        case([1, 97, 6, 2, 8], None),
        case([2, 200, 4, 1, 32], Some(&[70, 1, 33, 129])),
        case([3, 64, 2, 2, 8], Some(&[5, 200])),
        case([1, 1, 2, 1, 4], None),
        quantized_kv([2, 150, 4, 4, 16]),
        quantized_kv([1, 200, 6, 1, 40]),
        quantized_kv([1, 31, 2, 1, 4]),
    ] {
        let shape = [case.batch, case.length, case.heads * case.head_dim];
        let weights = tensor(&case.weights(), shape, &device);
        let inputs = case.tensors(&device);
        let fused = gradients(&inputs, |x| {
            let y = case.run(true, x);
            (y * weights.clone()).sum()
        });
        let composed = gradients(&inputs, |x| {
            let y = case.run(false, x);
            (y * weights.clone()).sum()
        });
        close(&[fused.0], &[composed.0], 1e-4, "sum");
        for (name, (a, b)) in ["q", "k", "v"].iter().zip(fused.1.iter().zip(&composed.1)) {
            close(a, b, 1e-5, name);
        }
        let [q, k, v] = [0, 1, 2].map(|i| inputs[i].clone().inner());
        let plain = case.run(true, &[q.clone(), k.clone(), v.clone()]);
        close(
            &numbers(plain),
            &numbers(case.run(false, &[q, k, v])),
            1e-5,
            "output",
        );
    }
}

#[test]
fn attention_gradients_match_central_differences() {
    let device = Device::flex().autodiff();
    for case in [
        case([1, 20, 2, 1, 4], None),
        case([2, 19, 4, 2, 4], Some(&[7, 2, 11])),
    ] {
        let shape = [case.batch, case.length, case.heads * case.head_dim];
        let weights = case.weights();
        let (_, got) = gradients(&case.tensors(&device), |x| {
            let y = case.run(true, x);
            (y * tensor(&weights, shape, &device)).sum()
        });
        for (which, got) in got.iter().enumerate() {
            check_differences(&case.inputs(), which, got, &|inputs| {
                case.defined(inputs, &weights)
            });
        }
    }
}

#[test]
fn packed_attention_never_reads_other_documents() {
    // What no query sees must not matter, not even where it is not a number.
    let device = Device::flex();
    let case = case([1, 80, 1, 1, 4], Some(&[10, 70]));
    let [q, k, v] = case.tensors(&device).try_into().unwrap();
    let whole = numbers(case.run(true, &[q.clone(), k.clone(), v.clone()]));
    let poison = |x: Tensor<3>| {
        let mut values = numbers(x);
        values[..10 * 4].fill(f32::INFINITY);
        Tensor::<3>::from_data(TensorData::new(values, [1, 80, 4]), &device)
    };
    let part = numbers(case.run(true, &[q, poison(k), poison(v)]));
    assert_eq!(whole[64 * 4..], part[64 * 4..]);
}
