//! Batches that would spoil the weights.

use std::fs;

use retort_model::Decoder;
use retort_train::{BatchTensors, Loss, Objective, StepPlan};

use super::{losses, recipe, try_go, weights};

/// Cross entropy that is no number on some batches, which the batch alone decides.
struct Poisoned {
    one_in: i64,
}

impl Objective for Poisoned {
    fn step_plan<'a>(
        &'a self,
        model: &'a Decoder,
        batch: &'a BatchTensors,
    ) -> retort_train::Result<StepPlan<'a>> {
        Ok(StepPlan::output(|hidden| {
            let mut total = batch.cross_entropy(model, hidden);
            let sum: i64 = batch.inputs.clone().sum().into_scalar();
            if sum % self.one_in == 0 {
                total = total * f32::NAN;
            }
            Ok(Loss {
                total,
                parts: Vec::new(),
            })
        }))
    }
}

#[test]
fn nan_loss_skips_the_batch_and_resumes_to_the_same_weights() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    let poisoned = Poisoned { one_in: 3 };
    let go = |run, resume, until| try_go(recipe(&[]), run, resume, until, &poisoned).unwrap();
    let end = go(&whole, false, u64::MAX);
    assert!((1..12).contains(&end.skipped), "{}", end.skipped);
    assert!(end.validation.unwrap().validation_loss.is_finite());
    for until in [2, 3, 5, 8] {
        go(&parts, parts.exists(), until);
    }
    let resumed = go(&parts, true, u64::MAX);
    assert_eq!(resumed.skipped, end.skipped);
    assert_eq!(losses(&whole), losses(&parts));
    assert_eq!(weights(&end.checkpoint), weights(&resumed.checkpoint));

    let metrics = fs::read_to_string(whole.join("metrics.jsonl")).unwrap();
    let last = metrics.lines().rfind(|l| l.contains("grad_norm")).unwrap();
    let last: serde_json::Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["skipped"], end.skipped);
}

#[test]
fn max_skipped_batches_in_a_row_end_the_run_with_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let always = Poisoned { one_in: 1 };
    let changes = ["train.max_skipped=3"];
    let error = try_go(recipe(&changes), &run, false, u64::MAX, &always).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("3 batches in a row") && message.contains("step 3"),
        "{message}"
    );
    assert!(retort_train::list(&run).unwrap().is_empty());
}
