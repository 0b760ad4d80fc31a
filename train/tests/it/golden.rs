//! Losses of small recipes over 50 steps, kept in `tests/golden/`, to the last digit: a
//! change of arithmetic is meant or it is a mistake. They are the same with AVX2 and with
//! AVX-512: what is summed here is summed in an order that does not depend on vectors. (Muon
//! has no such file: Burn's sums, in its norm, do depend on them.)
//!
//! `RETORT_WRITE_GOLDEN=1 cargo test --release -p retort-train --test it golden`
//! writes them anew.

use std::fs;
use std::path::Path;

use crate::{go, losses, recipe};

fn check(name: &str, changes: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let mut all = vec!["train.steps=50", "train.eval_every=25"];
    all.extend(changes);
    go(recipe(&all), &run, false, u64::MAX);
    let found = losses(&run).join("\n") + "\n";
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
    if std::env::var_os("RETORT_WRITE_GOLDEN").is_some() {
        fs::write(&kept, &found).unwrap();
    }
    let expected = fs::read_to_string(&kept).unwrap();
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(
            found, expected,
            "{name}: step, loss, gradient norm, validation"
        );
    }
    assert_eq!(found.lines().count(), expected.lines().count(), "{name}");
}

#[test]
fn golden_adamw_cosine_untied() {
    check("adamw-cosine-untied", &["model.tie_word_embeddings=false"]);
}

#[test]
fn golden_wsd_documents_accumulated() {
    check(
        "wsd-documents-accumulated",
        &[
            "train.schedule=\"wsd\"",
            "train.document_attention=true",
            "train.accumulate=2",
            "model.tie_word_embeddings=true",
        ],
    );
}

#[test]
fn golden_qwen3_averaged() {
    check(
        "qwen3-averaged",
        &[
            "model.model_type=\"qwen3\"",
            "train.ema_decay=0.9",
            "train.schedule=\"linear\"",
            "data.packing=\"best_fit\"",
        ],
    );
}
