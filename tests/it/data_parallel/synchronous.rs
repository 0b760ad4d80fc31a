//! Synchronous training: any number of ranks gives the same losses, also after a resume with another number.

use std::fs;

use serde_json::Value;

use super::{
    RECIPE, assert_close, copy_dir, lines, losses, mpirun, refused, run, text, weights, words,
    workplace,
};
use crate::support::retort;

#[test]
fn losses_are_the_same_for_any_number_of_ranks_and_weights_for_the_same_number() {
    let dir = workplace();
    let at = dir.path();
    let (ok, _, stderr) = retort(&words("train recipe.toml --run one"), at);
    assert!(ok, "{stderr}");
    run(2, "train recipe.toml --run two", at);
    run(4, "train recipe.toml --run four", at);
    run(4, "train recipe.toml --run again", at);
    let one = losses(&at.join("one"));
    assert_close(&one, &losses(&at.join("two")));
    assert_close(&one, &losses(&at.join("four")));
    assert_eq!(losses(&at.join("four")), losses(&at.join("again")));
    assert_eq!(
        weights(&at.join("four"), 12),
        weights(&at.join("again"), 12)
    );
    // Without layer by layer all gradients come at once: the same sums, but for the order within a rank.
    run(
        2,
        "train recipe.toml --run whole --set train.activation_checkpointing=false --set train.accumulate=2 --set train.batch_size=4",
        at,
    );
    assert_close(&one, &losses(&at.join("whole")));
    for line in lines(&at.join("four"))
        .iter()
        .filter(|line| line["loss"].is_f64())
    {
        assert!(line["sent_bytes"].as_u64().unwrap() > 0, "{line}");
    }
}

#[test]
fn resume_with_another_number_of_ranks_keeps_the_losses() {
    let dir = workplace();
    let at = dir.path();
    let set = "--set train.checkpoint_every=6 --set train.accumulate=2";
    let (ok, _, stderr) = retort(&words(&format!("train recipe.toml --run one {set}")), at);
    assert!(ok, "{stderr}");
    run(4, &format!("train recipe.toml --run four {set}"), at);
    for (ranks, name) in [(2, "two"), (1, "alone"), (4, "same")] {
        let to = at.join(name);
        copy_dir(&at.join("four"), &to);
        fs::remove_dir_all(to.join("checkpoints/step-12")).unwrap();
        run(
            ranks,
            &format!("train recipe.toml --run {name} {set} --resume"),
            at,
        );
        assert_close(&losses(&at.join("one")), &losses(&to));
    }
    assert_eq!(weights(&at.join("four"), 12), weights(&at.join("same"), 12));
    let cursor = |name: &str| {
        let state = fs::read(at.join(name).join("checkpoints/step-12/state.json")).unwrap();
        serde_json::from_slice::<Value>(&state).unwrap()["cursor"].clone()
    };
    // Nothing lost or repeated: all ended at the same place of the data.
    assert_eq!(cursor("two"), cursor("one"));
    assert_eq!(cursor("alone"), cursor("one"));
}

#[test]
fn ranks_with_different_recipes_are_an_error_naming_the_rank() {
    let dir = workplace();
    let at = dir.path();
    let uneven = refused(3, "train recipe.toml --run uneven", at);
    assert!(
        uneven.contains("3 ranks") && uneven.contains("train.batch_size = 8"),
        "{uneven}"
    );
    let output = mpirun(
        2,
        "train recipe.toml --run other --set train.batch_size=6",
        at,
    )
    .args([":", "-n", "1", env!("CARGO_BIN_EXE_retort")])
    .args(words(
        "train recipe.toml --run other --set train.batch_size=6 --set train.lr=1e-3",
    ))
    .output()
    .unwrap();
    let other = text(&output);
    assert!(!output.status.success(), "{other}");
    assert!(
        other.contains("rank 2 differs from rank 0 in: recipe"),
        "{other}"
    );
    assert!(!at.join("other/recipe.toml").exists());
}

#[test]
fn logit_cache_is_written_by_several_ranks_and_trained_from() {
    let dir = workplace();
    let at = dir.path();
    let (ok, _, stderr) = retort(
        &words("train recipe.toml --run teacher --set train.steps=2"),
        at,
    );
    assert!(ok, "{stderr}");
    let recipe = format!("{RECIPE}\n[teacher]\npath = \"teacher/checkpoints/step-2\"\n");
    fs::write(at.join("distil.toml"), recipe).unwrap();
    let (ok, _, stderr) = retort(&words("distill cache distil.toml --out one"), at);
    assert!(ok, "{stderr}");
    // A part by two ranks, the rest by three, of which each finds its own rows missing.
    run(2, "distill cache distil.toml --out many --rows 40", at);
    run(3, "distill cache distil.toml --out many", at);
    let shards = fs::read_dir(at.join("many")).unwrap().count() - 1;
    // Of the first 40 rows two, of the other 56 those of the second and the third rank's blocks.
    assert_eq!(shards, 4);
    let set = "--set teacher.path=teacher/checkpoints/step-2";
    let (ok, _, stderr) = retort(
        &words(&format!(
            "distill distil.toml --run a --set teacher.cache=one {set}"
        )),
        at,
    );
    assert!(ok, "{stderr}");
    run(
        2,
        &format!("distill distil.toml --run b --set teacher.cache=many {set}"),
        at,
    );
    assert_close(&losses(&at.join("a")), &losses(&at.join("b")));
}
