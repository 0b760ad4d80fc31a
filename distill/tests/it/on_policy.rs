//! Steps on the student's own text: what is sampled, what counts, and that runs repeat.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
use retort_data::{Batch, BatchSource, Data, Rank};
use retort_distill::WeightSchedule;
use retort_distill::on_policy::{OnPolicy, OnPolicyConfig};
use retort_model::Decoder;
use retort_tokenizer::Tokenizer;

use crate::fixture::{
    assert_resume_is_exact, loss_lines, loss_part, metrics, objective, recipe, teacher, train_until,
};

const TABLE: &str = "teacher.on_policy={ fraction = 0.5, prompt = 8, new_tokens = 12, temperature = 0.9, top_p = 0.95 }";

#[test]
fn on_policy_run_is_repeatable_and_resumes_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (teacher, tokens) = teacher(dir);
    let base = [
        format!("teacher.path={teacher:?}"),
        "seed=9".into(),
        "train.steps=30".into(),
        "train.accumulate=2".into(),
        "teacher.losses.cross_entropy=0.5".into(),
    ];
    let with = |more: &[&str]| {
        let more = more.iter().map(|s| s.to_string());
        recipe(
            dir,
            &tokens,
            &base.iter().cloned().chain(more).collect::<Vec<_>>(),
        )
    };
    let own = with(&[TABLE]);
    assert_resume_is_exact(&own, dir, &[4, 11, 12], &["model.safetensors"]);
    let whole = dir.join("whole");
    let count = loss_part(&whole, "on_policy_steps");
    assert_eq!(count.len(), 30);
    assert!((8.0..22.0).contains(&count[29]), "{count:?}");
    // A step on the student's text counts 12 targets a row at most, others 32.
    let (mut before, mut steps) = (0, 0.0);
    for (m, count) in metrics(&whole).iter().zip(&count) {
        let tokens = m["tokens"].as_u64().unwrap();
        let own = *count > steps;
        assert_eq!(tokens - before <= 2 * 4 * 12, own, "{m}");
        (before, steps) = (tokens, *count);
    }
    let plan = objective(&own).unwrap().plan(30);
    assert!(
        plan[0].starts_with(&format!("{} of 30 steps", count[29])),
        "{plan:?}"
    );

    // Never is the same as without.
    let never = with(&["teacher.on_policy={ fraction = 0, prompt = 8, new_tokens = 12 }"]);
    let never_end = train_until(&never, &dir.join("never"), u64::MAX);
    let without_end = train_until(&with(&[]), &dir.join("without"), u64::MAX);
    assert_eq!(
        loss_lines(&dir.join("never")),
        loss_lines(&dir.join("without"))
    );
    let weights =
        |o: &retort_train::Outcome| std::fs::read(o.checkpoint.join("model.safetensors")).unwrap();
    assert!(weights(&never_end) == weights(&without_end));
    assert_ne!(loss_lines(&dir.join("never")), loss_lines(&whole));
}

/// A batch of the recipe's data, and a small model of its shape.
fn fixture(dir: &std::path::Path) -> (Batch, Decoder, Arc<Tokenizer>) {
    let tokens = crate::fixture::tokenizer(dir, 300);
    let recipe = recipe(dir, &tokens, &["seed=3".into()]);
    let tokenizer = Arc::new(Tokenizer::from_file(&tokens, None).unwrap());
    let data = Data::open(&recipe.data, &tokenizer, None, None, &|_| {}).unwrap();
    let mut batches = data.batches(4, Rank::default(), None).unwrap();
    let device = Device::flex().autodiff();
    let (_, model) = retort_train::initial_model(&recipe, &device).unwrap();
    (batches.next_batch().unwrap(), model, tokenizer)
}

fn config(temperature: f32) -> OnPolicyConfig {
    OnPolicyConfig {
        fraction: WeightSchedule::Constant(1.0),
        prompt: 5,
        new_tokens: 9,
        temperature,
        top_p: 1.0,
    }
}

#[test]
fn on_policy_targets_are_the_ids_the_student_samples() {
    let dir = tempfile::tempdir().unwrap();
    let (batch, model, tokenizer) = fixture(dir.path());
    let greedy = OnPolicy::new(config(0.0), 1, (8, 32), &tokenizer, 300).unwrap();
    let made = greedy.batches(&model, &[&batch, &batch], 7);
    assert_eq!(made.len(), 2);
    // Drawn without chance, both halves are the same.
    assert_eq!(made[0], made[1]);
    let made = &made[0];
    assert_eq!(
        (made.rows, made.seq_len, made.source),
        (4, 13, BatchSource::Synthetic)
    );
    let end = tokenizer.eot() as i32;
    for r in 0..4 {
        let row = |ids: &[i32]| ids[r * 13..(r + 1) * 13].to_vec();
        let (inputs, targets) = (row(&made.inputs), row(&made.targets));
        assert_eq!(inputs[..5], batch.inputs[r * 32..r * 32 + 5]);
        assert_eq!(targets[..4], [Batch::IGNORE; 4]);
        assert_eq!(row(&made.positions), (0..13).collect::<Vec<_>>());
        let drawn: Vec<i32> = targets[4..]
            .iter()
            .copied()
            .take_while(|&id| id >= 0)
            .collect();
        assert!(
            !drawn.is_empty()
                && targets[4 + drawn.len()..]
                    .iter()
                    .all(|&id| id == Batch::IGNORE)
        );
        assert!(drawn.len() == 9 || drawn[drawn.len() - 1] == end);
        let shown = drawn.len().min(8);
        assert_eq!(inputs[5..5 + shown], drawn[..shown]);
        // Each is the likeliest after all before it, read at once and without a cache.
        let device = model.norm.gamma.val().device();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(inputs.clone(), [1, 13]), &device);
        let logits: Vec<f32> = model.forward(ids).into_data().try_into_vec().unwrap();
        for (i, &id) in drawn.iter().enumerate() {
            let logits = &logits[(4 + i) * 300..(5 + i) * 300];
            let best = logits.iter().copied().fold(f32::MIN, f32::max);
            assert!(best - logits[id as usize] < 1e-4, "row {r}, token {i}");
        }
    }
}

#[test]
fn on_policy_samples_depend_on_seed_step_and_row_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (batch, model, tokenizer) = fixture(dir.path());
    let drawn = |seed: u64, step: u64, batches: &[&Batch]| -> Vec<i32> {
        let on_policy = OnPolicy::new(config(1.0), seed, (8, 32), &tokenizer, 300).unwrap();
        let made = on_policy.batches(&model, batches, step);
        made.iter().flat_map(|b| b.targets.clone()).collect()
    };
    let once = drawn(1, 7, &[&batch]);
    assert_eq!(once, drawn(1, 7, &[&batch]));
    assert_ne!(once, drawn(1, 8, &[&batch]));
    assert_ne!(once, drawn(2, 7, &[&batch]));
    // The same row later in a step is drawn anew, and alike on a rank that has only that part of it.
    let mut later = batch.clone();
    later.source = BatchSource::Training { first_row: 4 };
    let twice = drawn(1, 7, &[&batch, &later]);
    assert_eq!(once, twice[..once.len()]);
    assert_ne!(once, twice[once.len()..]);
    assert_eq!(drawn(1, 7, &[&later]), twice[once.len()..]);

    let half = |fraction| {
        let config = OnPolicyConfig {
            fraction,
            ..config(1.0)
        };
        OnPolicy::new(config, 1, (8, 32), &tokenizer, 300).unwrap()
    };
    let steps = half(WeightSchedule::Constant(0.3));
    assert!(
        (240..360).contains(&steps.count(0, 999)),
        "{}",
        steps.count(0, 999)
    );
    assert_eq!(
        steps.count(0, 99),
        (0..100).filter(|&s| steps.is_on_policy(s)).count() as u64
    );
    assert_eq!(
        steps.count(50, 99),
        (50..100).filter(|&s| steps.is_on_policy(s)).count() as u64
    );
    assert_eq!(half(WeightSchedule::Constant(0.0)).count(0, 999), 0);
    assert_eq!(half(WeightSchedule::Constant(1.0)).count(0, 999), 1000);
}

#[test]
fn on_policy_table_out_of_range_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (teacher, tokens) = teacher(dir);
    for (table, expect) in [
        (
            "fraction = 1.5, prompt = 8, new_tokens = 8",
            "between 0 and 1",
        ),
        ("fraction = 1, prompt = 0, new_tokens = 8", "at least 1"),
        (
            "fraction = 1, prompt = 30, new_tokens = 4",
            "data.seq_len + 1 = 33",
        ),
        (
            "fraction = 1, prompt = 8, new_tokens = 8, top_p = 0.0",
            "on_policy.top_p",
        ),
        (
            "fraction = 1, prompt = 8, new_tokens = 8, temperature = -1.0",
            "on_policy.temperature",
        ),
    ] {
        let changes = [
            format!("teacher.path={teacher:?}"),
            format!("teacher.on_policy={{ {table} }}"),
        ];
        let message = objective(&recipe(dir, &tokens, &changes)).map(drop);
        let message = message.unwrap_err().to_string();
        assert!(message.contains(expect), "{message}");
    }
}
