//! The blockwise phase: it trains the blocks, leaves everything else alone, and resumes.

use burn::tensor::{Device, Tensor};
use retort_model::Decoder;

use crate::fixture::{
    assert_resume_is_exact, deep_teacher, loss_part, metrics, objective, recipe, train_until,
};

fn changes(teacher: &std::path::Path, more: &[&str]) -> Vec<String> {
    let mut all = vec![
        format!("teacher.path={teacher:?}"),
        "model.num_hidden_layers=2".into(),
        "seed=9".into(),
    ];
    all.extend(more.iter().map(|s| s.to_string()));
    all
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_into_vec().unwrap()
}

#[test]
fn blockwise_phase_comes_first_and_lowers_the_loss() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (teacher, tokens) = deep_teacher(dir, 32);
    let more = [
        "teacher.blockwise={ steps = 24, lr_scale = 0.5 }",
        "train.spike_factor=1.5",
        "train.accumulate=2",
    ];
    let recipe = recipe(dir, &tokens, &changes(&teacher, &more));
    let plan = objective(&recipe).unwrap().plan(40);
    assert!(
        plan[0].contains("first 24 of 40 steps: 2 parts"),
        "{plan:?}"
    );
    assert!(plan[1].contains("`retort prune`"), "{plan:?}");
    // Within the phase, at its last step and after it.
    assert_resume_is_exact(&recipe, dir, &[5, 24, 30], &["model.safetensors"]);
    let run = dir.join("whole");
    let error = loss_part(&run, "blockwise");
    assert_eq!(error.len(), 24);
    assert!(error[23] < 0.7 * error[0], "{error:?}");
    // The losses after it are of another kind, and none was taken for a spike.
    let all = metrics(&run);
    let kl = loss_part(&run, "forward_kl");
    assert_eq!((kl.len(), all[39]["skipped"].as_u64()), (16, Some(0)));
    assert!(kl[0] > 1.5 * error[23], "{kl:?}");
    assert!(kl[15] < 0.8 * kl[0], "{kl:?}");
    let rate = |step: usize| all[step - 1]["lr"].as_f64().unwrap();
    assert!(rate(25) > 1.5 * rate(24), "{} {}", rate(24), rate(25));
}

#[test]
fn blockwise_phase_leaves_embedding_norm_and_head_alone() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (teacher, tokens) = deep_teacher(dir, 32);
    let load = |path: &std::path::Path| retort_model::load(path, &Device::flex()).unwrap().1;
    let outside = |m: &Decoder| {
        let head = m.lm_head.as_ref().map(|h| values(h.weight.val()));
        (
            values(m.embed_tokens.weight.val()),
            values(m.norm.gamma.val()),
            head,
        )
    };
    let short = [
        "train.steps=2",
        "train.warmup_steps=0",
        "teacher.blockwise.steps=1",
    ];
    let recipe = recipe(dir, &tokens, &changes(&teacher, &short));
    let run = dir.join("run");
    let one = load(&train_until(&recipe, &run, 1).checkpoint);
    let start = retort_train::initial_model(&recipe, &Device::flex())
        .unwrap()
        .1;
    assert_eq!(outside(&one), outside(&start));
    for i in 0..2 {
        let of = |m: &Decoder| values(m.layers[i].mlp.up_proj.weight.val());
        assert_ne!(of(&one), of(&start));
    }
    // The next step is an ordinary one.
    let two = load(&train_until(&recipe, &run, u64::MAX).checkpoint);
    assert_ne!(outside(&two).0, outside(&one).0);
}

#[test]
fn blockwise_loss_of_the_teachers_own_blocks_is_zero() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (teacher, tokens) = deep_teacher(dir, 32);
    let set = [
        format!("teacher.path={teacher:?}"),
        format!("model={{ from = {teacher:?} }}"),
        "train.steps=1".into(),
        "train.warmup_steps=0".into(),
        "teacher.blockwise.steps=1".into(),
    ];
    let recipe = recipe(dir, &tokens, &set);
    train_until(&recipe, &dir.join("run"), u64::MAX);
    let error = loss_part(&dir.join("run"), "blockwise");
    assert!(error.len() == 1 && error[0] < 1e-9, "{error:?}");
}
