use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Device, Int, TensorData};
use retort_data::{Batch, BatchSource, Row};
use retort_model::RandomInit;
use retort_test_kit::Random;
use retort_train::{Objective, StepPlan, backward};
use serde_json::json;

use super::*;

/// Random numbers from -0.5 to 0.5.
fn noise(n: usize, seed: u64) -> Vec<f64> {
    let numbers = Random::new(seed).f64s(n).into_iter();
    numbers.map(|x| x / 2.0).collect()
}

fn tensor<const D: usize>(x: &[f64], shape: [usize; D], device: &Device) -> Tensor<D> {
    let x: Vec<f32> = x.iter().map(|&x| x as f32).collect();
    Tensor::from_data(TensorData::new(x, shape), device)
}

#[test]
fn relative_error_gradient_equals_finite_differences() {
    let (b, t, d, e) = (2, 3, 4, 5);
    let (x, w) = (noise(b * t * d, 1), noise(d * e, 2));
    let y = noise(b * t * e, 3);
    let mut weights = noise(b * t, 4);
    weights[1] = 0.0;
    let formula = |x: &[f64], w: &[f64]| -> f64 {
        let at = |p: usize| {
            let z = (0..e).map(|j| (0..d).map(|i| x[p * d + i] * w[i * e + j]).sum::<f64>());
            let y = &y[p * e..][..e];
            let error: f64 = z.zip(y).map(|(z, y)| (z - y) * (z - y)).sum();
            weights[p] * error / y.iter().map(|y| y * y).sum::<f64>()
        };
        (0..b * t).map(at).sum()
    };
    let device = Device::flex().autodiff();
    let leaf = |v: &[f64], shape| tensor::<3>(v, shape, &device).require_grad();
    let (tx, tw) = (leaf(&x, [b, t, d]), leaf(&w, [1, d, e]));
    let z = tx.clone().matmul(tw.clone());
    let constant = tensor(&y, [b, t, e], &Device::flex());
    let loss = relative_error(z, constant, tensor(&weights, [b, t], &device));
    let value = f64::from(loss.clone().into_scalar::<f32>());
    assert!((value / formula(&x, &w) - 1.0).abs() < 1e-5);
    let grads = loss.backward();
    for (which, leaf) in [&tx, &tw].into_iter().enumerate() {
        let gradient = leaf.grad(&grads).unwrap().into_data();
        let gradient: Vec<f32> = gradient.try_into_vec().unwrap();
        for (i, g) in gradient.iter().enumerate() {
            let moved = |by: f64| {
                let (mut x, mut w) = (x.clone(), w.clone());
                [&mut x, &mut w][which][i] += by;
                formula(&x, &w)
            };
            let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!(
                (f64::from(*g) - expected).abs() < 1e-4,
                "{i}: {g} {expected}"
            );
        }
    }
}

fn model(layers: usize, width: usize, seed: u64, device: &Device) -> Decoder {
    let config: ModelConfig = serde_json::from_value(json!({
        "vocab_size": 20, "hidden_size": width, "intermediate_size": 12,
        "num_hidden_layers": layers, "num_attention_heads": 2,
    }))
    .unwrap();
    let config = config.resolve().unwrap();
    Decoder::build(&config, &mut RandomInit::new(&config, seed), device)
}

/// A student of two layers, its batch, what is compared, and the teacher's states.
fn fixture() -> (Decoder, BatchTensors, Matching, HiddenStates) {
    let device = Device::flex().autodiff();
    let (student, teacher) = (model(2, 8, 1, &device), model(3, 16, 2, &Device::flex()));
    let table = |text: &str| -> MatchConfig { toml::from_str(text).unwrap() };
    let hidden = table("weight = 0.7");
    let attention = table("weight = 0.4\nlayers = [[0, 1], [0, 2]]");
    let (ours, theirs) = (student.config(), teacher.config());
    let matching = Matching::new(Some(&hidden), Some(&attention), ours, theirs).unwrap();
    assert_eq!(matching.shapes(), [[8, 16]; 4]);
    let row = |first: u32| Row {
        ids: (first..first + 7).collect(),
        starts: vec![0],
    };
    let batch = Batch::new([&row(1), &row(9)], 6, BatchSource::Synthetic);
    let tensors = BatchTensors::new(&batch, &device);
    let ids = Tensor::<2, Int>::from_data(TensorData::new(batch.inputs, [2, 6]), &Device::flex());
    let forward = teacher.layerwise(ids, None);
    let mut states = HiddenStates::default();
    let mut x = forward.embedded();
    for i in 0..3 {
        let [attention, y] = forward.attention_and_layer(i, x);
        states.attention.insert(i, attention);
        states.hidden.insert(i + 1, y.clone());
        x = y;
    }
    let student = student.with_projections(matching.shapes(), 3);
    (student, tensors, matching, states)
}

/// Cross entropy, and what is compared.
struct MatchedText(Matching, HiddenStates);

impl Objective for MatchedText {
    fn step_plan<'a>(
        &'a self,
        model: &'a Decoder,
        batch: &'a BatchTensors,
    ) -> retort_train::Result<StepPlan<'a>> {
        Ok(StepPlan::Forward {
            output: Box::new(move |hidden| {
                Ok(Loss {
                    total: batch.cross_entropy(model, hidden),
                    parts: Vec::new(),
                })
            }),
            layers: Some(Box::new(self.0.losses(model, batch, self.1.clone()))),
        })
    }
}

type Found = (f64, Vec<f64>, BTreeMap<u64, Vec<f32>>);

/// The loss, its parts, and the gradients by parameter.
fn run(model: &Decoder, checkpointing: bool) -> Found {
    struct Read<'a>(&'a burn::optim::GradientsParams, BTreeMap<u64, Vec<f32>>);
    impl burn::module::ModuleVisitor for Read<'_> {
        fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
            if let Some(gradient) = self.0.get::<D>(param.id) {
                let values = gradient.into_data().try_into_vec().unwrap();
                self.1.insert(param.id.val(), values);
            }
        }
    }
    let (_, batch, matching, states) = fixture();
    let mut accumulator = burn::optim::GradientsAccumulator::new();
    let mut take = |grads| accumulator.accumulate(model, grads);
    let objective = MatchedText(matching, states);
    let loss = backward(&objective, model, &batch, checkpointing, &mut take).unwrap();
    let grads = accumulator.grads();
    let mut read = Read(&grads, BTreeMap::new());
    model.visit(&mut read);
    let number = |x: &Tensor<1>| f64::from(x.clone().into_scalar::<f32>());
    let parts = loss.parts.iter().map(|(_, x)| number(x)).collect();
    (number(&loss.total), parts, read.1)
}

#[test]
fn matching_loss_and_gradients_are_equal_with_activation_checkpointing() {
    let (model, batch, ..) = fixture();
    let (at_once, checkpointed) = (run(&model, false), run(&model, true));
    let text: f32 = batch
        .cross_entropy(&model, batch.hidden(&model))
        .into_scalar();
    let sum = f64::from(text) + 0.7 * at_once.1[0] + 0.4 * at_once.1[1];
    assert!((at_once.0 - sum).abs() < 1e-5, "{} {sum}", at_once.0);
    assert!((at_once.0 - checkpointed.0).abs() < 1e-5);
    for (a, b) in at_once.1.iter().zip(&checkpointed.1) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
    assert_eq!(at_once.2.len(), checkpointed.2.len());
    for (id, a) in &at_once.2 {
        for (a, b) in a.iter().zip(&checkpointed.2[id]) {
            assert!((a - b).abs() < 1e-5, "{id}: {a} {b}");
        }
    }
}

/// The loss falls along its gradient as fast as the gradient says, in each parameter: in the
/// projections, and through the states in the student's weights.
#[test]
fn matching_loss_gradient_equals_finite_differences() {
    struct Moved<'a>(u64, &'a [f32], f32);
    impl burn::module::ModuleMapper for Moved<'_> {
        fn map_float<const D: usize>(
            &mut self,
            param: burn::module::Param<Tensor<D>>,
        ) -> burn::module::Param<Tensor<D>> {
            if param.id.val() != self.0 {
                return param;
            }
            let (id, value) = (param.id, param.val().inner());
            let data = TensorData::new(self.1.to_vec(), value.shape());
            let step = Tensor::<D>::from_data(data, &value.device());
            let moved = Tensor::from_inner(value + step * self.2).require_grad();
            burn::module::Param::initialized(id, moved)
        }
    }
    let (model, ..) = fixture();
    let (_, _, gradients) = run(&model, false);
    assert_eq!(gradients.keys().filter(|id| **id >= 1 << 33).count(), 4);
    for (id, gradient) in &gradients {
        let norm = gradient.iter().map(|g| g * g).sum::<f32>().sqrt();
        let direction: Vec<f32> = gradient.iter().map(|g| g / norm).collect();
        let at = |by: f32| run(&model.clone().map(&mut Moved(*id, &direction, by)), false).0;
        let h = 4e-3f32;
        let slope = (at(h) - at(-h)) / f64::from(2.0 * h);
        let far = (slope - f64::from(norm)).abs();
        assert!(far < 0.02 * f64::from(norm) + 2e-3, "{id}: {slope} {norm}");
    }
}
