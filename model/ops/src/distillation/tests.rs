//! The losses of a student against their composed form and against central differences of
//! their definitions in f64.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::composed::composed;
use super::*;
use crate::testing::{check_differences, close, gradients, rounded, tensor, values};

const D: usize = 5;
const N: usize = 6;

/// Ids of the student and of the teacher: equal, or padding in either table.
const VOCABULARIES: [(usize, usize); 3] = [(19, 19), (23, 19), (17, 19)];

const WEIGHTS: [f64; N] = [0.25, 0.0, 0.5, 0.125, 0.25, 0.5];

/// The teacher's logits `[N, V]`.
fn dense(v: usize) -> Vec<f64> {
    let logits = values(N * v, 77);
    logits.iter().map(|x| f64::from((x * 3.0) as f32)).collect()
}

/// Every third id of each position and another, at temperature `t` over `shared` ids, with
/// the mass of the others.
fn sparse(v: usize, shared: usize, t: f64) -> Sparse {
    let logits = dense(v);
    let mut found = Sparse {
        vocabulary: v,
        offsets: vec![0],
        ..Sparse::default()
    };
    let mut masses = Vec::new();
    for (i, row) in logits.chunks(v).enumerate() {
        let p = softmax(&row[..shared], t);
        let ids = (0..shared as u32).filter(|id| (*id as usize + i).is_multiple_of(3) || *id == 4);
        let mut mass = 1.0;
        for id in ids {
            found.ids.push(id);
            found.probabilities.push(p[id as usize] as f32);
            mass -= f64::from(p[id as usize] as f32);
        }
        found.offsets.push(found.ids.len());
        masses.push(mass as f32);
    }
    found.tail = Tail::Mass(masses);
    found
}

fn softmax(logits: &[f64], t: f64) -> Vec<f64> {
    let e: Vec<f64> = logits.iter().map(|x| (x / t).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.into_iter().map(|x| x / sum).collect()
}

fn kl(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum()
}

/// The loss of one position from its definition.
fn definition(z: &[f64], target: usize, p: &[f64], q: &[f64], m: &LossWeights) -> f64 {
    let (t, beta) = (f64::from(m.temperature), f64::from(m.beta));
    let ce = -softmax(z, 1.0)[target].ln();
    let mix: Vec<f64> = p
        .iter()
        .zip(q)
        .map(|(p, q)| beta * p + (1.0 - beta) * q)
        .collect();
    let js = beta * kl(p, &mix) + (1.0 - beta) * kl(q, &mix);
    let tv: f64 = p.iter().zip(q).map(|(p, q)| 0.5 * (p - q).abs()).sum();
    let [forward, reverse, of_js, of_tv] = m.divergences().map(f64::from);
    let of_teacher = forward * kl(p, q) + reverse * kl(q, p) + of_js * js + of_tv * tv;
    f64::from(m.cross_entropy) * ce + t * t * of_teacher
}

/// The probabilities of `sparse`'s outcomes at position `i`, of the whole `q`.
fn outcomes(sparse: &Sparse, i: usize, q: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (ids, p) = sparse.entries(i);
    let Tail::Mass(masses) = &sparse.tail else {
        panic!("no sample")
    };
    let mut p: Vec<f64> = p.iter().map(|&p| f64::from(p)).collect();
    let mut of_q: Vec<f64> = ids.iter().map(|&id| q[id as usize]).collect();
    p.push(f64::from(masses[i]));
    of_q.push(1.0 - of_q.iter().sum::<f64>());
    (p, of_q)
}

fn targets(v: usize) -> Vec<i32> {
    (0..N).map(|i| ((i * 7 + 18) % v) as i32).collect()
}

fn teacher(v: usize, sparse: Option<&Sparse>) -> TeacherLogits {
    match sparse {
        Some(sparse) => TeacherLogits::Sparse(sparse.clone()),
        None => TeacherLogits::Dense {
            vocabulary: v,
            logits: Box::new(move |rows| {
                let logits = dense(v);
                let at = rows.start * v..rows.end * v;
                logits[at].iter().map(|&x| x as f32).collect()
            }),
        },
    }
}

/// The total of either form, three times over, and its gradients.
fn run(
    inputs: &[Vec<f64>],
    (v, tied): (usize, bool),
    teacher: impl Fn() -> TeacherLogits,
    loss_weights: LossWeights,
    fused: bool,
) -> (f32, Vec<Vec<f32>>) {
    let device = Device::flex().autodiff();
    let shape = if tied { [v, D] } else { [D, v] };
    let tensors = [
        tensor(&inputs[0], [N, D], &device),
        tensor(&inputs[1], shape, &device),
    ];
    gradients(&tensors, |x| {
        let hidden = x[0].clone();
        let head = LmHead {
            weight: x[1].clone(),
            tied,
        };
        let targets = Tensor::<1, Int>::from_data(TensorData::new(targets(v), [N]), &device);
        let weights = tensor(&WEIGHTS, [N], &device);
        let total = if fused {
            distillation_loss(hidden, head, targets, weights, teacher(), loss_weights).total
        } else {
            composed((hidden, head), targets, weights, &teacher(), loss_weights).narrow(0, 0, 1)
        };
        total * 3.0
    })
}

fn all_loss_weights() -> Vec<LossWeights> {
    let one = |set: fn(&mut LossWeights)| {
        let mut loss_weights = LossWeights::default();
        set(&mut loss_weights);
        loss_weights
    };
    vec![
        one(|m| m.cross_entropy = 1.0),
        one(|m| m.forward_kl = 1.0),
        one(|m| m.reverse_kl = 1.0),
        one(|m| (m.jensen_shannon, m.beta) = (1.0, 0.3)),
        one(|m| m.total_variation = 1.0),
        LossWeights {
            temperature: 2.5,
            cross_entropy: 0.4,
            forward_kl: 0.3,
            reverse_kl: 0.2,
            jensen_shannon: 0.6,
            beta: 0.8,
            total_variation: 0.1,
            chunk: 4,
        },
    ]
}

#[test]
fn distillation_gradients_match_composed_form_and_central_differences() {
    for ((v, theirs), tied) in VOCABULARIES.into_iter().zip([false, true, true]) {
        for (loss_weights, few) in all_loss_weights()
            .into_iter()
            .flat_map(|m| [(m, false), (m, true)])
        {
            let t = f64::from(loss_weights.temperature);
            let shared = v.min(theirs);
            let sparse = few.then(|| sparse(theirs, shared, t));
            let inputs = rounded(vec![values(N * D, 1), values(D * v, 2)]);
            let of = || teacher(theirs, sparse.as_ref());
            let fused = run(&inputs, (v, tied), of, loss_weights, true);
            let composed = run(&inputs, (v, tied), of, loss_weights, false);
            close(&[fused.0], &[composed.0], 2e-6, "loss");
            for (a, b) in fused.1.iter().zip(&composed.1) {
                close(a, b, 5e-6, &format!("{loss_weights:?} {few}"));
            }
            let logits = dense(theirs);
            let loss = |inputs: &[Vec<f64>]| -> f64 {
                let position = |i: usize| {
                    let logit = |j: usize| -> f64 {
                        let at = |x: usize| if tied { j * D + x } else { x * v + j };
                        (0..D)
                            .map(|x| inputs[0][i * D + x] * inputs[1][at(x)])
                            .sum()
                    };
                    let z: Vec<f64> = (0..v).map(logit).collect();
                    let q = softmax(&z[..shared], t);
                    let row = &logits[i * theirs..][..shared];
                    let (p, q) = match &sparse {
                        Some(sparse) => outcomes(sparse, i, &q),
                        None => (softmax(row, t), q),
                    };
                    WEIGHTS[i] * definition(&z, targets(v)[i] as usize, &p, &q, &loss_weights)
                };
                3.0 * (0..N).map(position).sum::<f64>()
            };
            close(&[fused.0], &[loss(&inputs) as f32], 2e-6, "definition");
            for which in 0..2 {
                check_differences(&inputs, which, &fused.1[which], &loss);
            }
        }
    }
}

#[test]
fn sampled_teacher_gives_the_loss_and_gradient_of_its_own_weights() {
    let (v, t) = (19, 1.5);
    let mut sample = sparse(v, v, t);
    sample.tail = Tail::Sampled(vec![0.25; N]);
    let loss_weights = LossWeights {
        temperature: t as f32,
        cross_entropy: 0.5,
        forward_kl: 2.0,
        ..LossWeights::default()
    };
    let inputs = rounded(vec![values(N * D, 1), values(D * v, 2)]);
    let of = || TeacherLogits::Sparse(sample.clone());
    let fused = run(&inputs, (v, true), of, loss_weights, true);
    let composed = run(&inputs, (v, true), of, loss_weights, false);
    close(&[fused.0], &[composed.0], 2e-6, "loss");
    let loss = |inputs: &[Vec<f64>]| -> f64 {
        let position = |i: usize| {
            let logit = |j: usize| -> f64 {
                (0..D)
                    .map(|x| inputs[0][i * D + x] * inputs[1][j * D + x])
                    .sum()
            };
            let z: Vec<f64> = (0..v).map(logit).collect();
            let (q, (ids, p)) = (softmax(&z, t), sample.entries(i));
            let terms = ids.iter().zip(p);
            let cross: f64 = terms
                .map(|(&id, &p)| -f64::from(p) * q[id as usize].ln())
                .sum();
            let ce = -softmax(&z, 1.0)[targets(v)[i] as usize].ln();
            WEIGHTS[i] * (0.5 * ce + 2.0 * t * t * (cross - 0.25))
        };
        3.0 * (0..N).map(position).sum::<f64>()
    };
    close(&[fused.0], &[loss(&inputs) as f32], 2e-6, "definition");
    for which in 0..2 {
        close(&fused.1[which], &composed.1[which], 5e-6, "composed");
        check_differences(&inputs, which, &fused.1[which], &loss);
    }
}

/// Average gradients of samples are the gradient of the whole: what makes sparse logits
/// unbiased.
#[test]
fn sampled_teachers_average_to_the_gradient_of_the_dense_one() {
    let (v, draws) = (19, 4000);
    let inputs = rounded(vec![values(N * D, 1), values(D * v, 2)]);
    let loss_weights = LossWeights {
        forward_kl: 1.0,
        ..LossWeights::default()
    };
    let whole = run(&inputs, (v, true), || teacher(v, None), loss_weights, true);
    let logits = dense(v);
    let uniform = values(N * draws, 5);
    let mut sample = Sparse {
        vocabulary: v,
        offsets: vec![0],
        ..Sparse::default()
    };
    let mut entropies = Vec::new();
    for i in 0..N {
        let p = softmax(&logits[i * v..][..v], 1.0);
        let mut counts = vec![0u32; v];
        for u in &uniform[i * draws..][..draws] {
            let mut left = (u + 1.0) / 2.0;
            let id = p.iter().position(|p| {
                left -= p;
                left < 0.0
            });
            counts[id.unwrap_or(v - 1)] += 1;
        }
        for (id, &count) in counts.iter().enumerate().filter(|(_, c)| **c > 0) {
            sample.ids.push(id as u32);
            sample.probabilities.push(count as f32 / draws as f32);
        }
        sample.offsets.push(sample.ids.len());
        entropies.push(-p.iter().map(|p| p * p.ln()).sum::<f64>() as f32);
    }
    sample.tail = Tail::Sampled(entropies);
    let of = || TeacherLogits::Sparse(sample.clone());
    let sampled = run(&inputs, (v, true), of, loss_weights, true);
    // A share has a standard error of at most 0.5 / √draws = 0.008.
    close(&[sampled.0], &[whole.0], 0.05, "loss");
    for (a, b) in sampled.1.iter().zip(&whole.1) {
        close(a, b, 0.05, "gradient");
    }
}

#[test]
fn distillation_of_equal_student_and_teacher_is_zero() {
    let v = 19;
    let inputs = rounded(vec![values(N * D, 1), values(D * v, 2)]);
    let own = inputs.clone();
    let teacher = move || {
        let own = own.clone();
        TeacherLogits::Dense {
            vocabulary: v,
            logits: Box::new(move |rows| {
                let logit = |i: usize, j: usize| -> f64 {
                    (0..D).map(|x| own[0][i * D + x] * own[1][j * D + x]).sum()
                };
                let row = |i| (0..v).map(move |j| logit(i, j) as f32);
                rows.flat_map(row).collect()
            }),
        }
    };
    for mut loss_weights in all_loss_weights().into_iter().skip(1) {
        loss_weights.cross_entropy = 0.0;
        // At equality its derivative has a sign for no reason.
        loss_weights.total_variation = 0.0;
        let (loss, gradients) = run(&inputs, (v, true), &teacher, loss_weights, true);
        assert!(loss.abs() < 1e-5, "{loss_weights:?} {loss}");
        assert!(
            gradients.iter().flatten().all(|g| g.abs() < 1e-5),
            "{loss_weights:?}"
        );
    }
}
