//! Rotation: a turned model computes what it did, in every architecture, and rounds like any other.

use std::path::{Path, PathBuf};

use retort_convert::calibrate;
use retort_convert::quantize::{Recipe, Rotation, Texts, quantize};
use retort_convert::{Converted, Progress};
use retort_engine::Model;
use retort_engine::decoder::{Engine, EngineSettings, KvType};
use retort_engine::divergence::divergence;
use retort_format::GgmlType::*;
use retort_format::gguf::Gguf;
use retort_format::{GgmlType, Result};
use retort_test_kit::{Shape, text, write_gguf, write_gguf_changed};

const ALL: [Rotation; 3] = [Rotation::Values, Rotation::Stream, Rotation::Both];

/// A parent in F32 in a directory of its own.
fn parent(shape: &Shape) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("parent.gguf");
    write_gguf(&path, shape);
    (dir, path)
}

fn settings() -> EngineSettings {
    EngineSettings::new(None, false, KvType::F32).unwrap()
}

/// Writes `parent` to `out`; what was written, and what was told of it.
fn rotate(
    parent: &Path,
    out: &Path,
    quant: GgmlType,
    rotation: Rotation,
    calibrated: bool,
) -> Result<(Converted, String)> {
    let recipe = Recipe::new(quant)?.rotate(rotation);
    let mut documents = (0..).map(|i| Ok(text(i)));
    let texts = calibrated.then_some(Texts {
        documents: &mut documents,
        tokens: 2048,
        settings: calibrate::CalibrationSettings {
            context: 64,
            ..calibrate::CalibrationSettings::default()
        },
    });
    let mut told = String::new();
    let show = |progress| {
        if let Progress::Notice(notice) = progress {
            told += &notice;
        }
    };
    Ok((
        quantize(parent, out, &recipe, texts, settings(), show)?,
        told,
    ))
}

/// The logits after each of a few tokens.
fn logits(path: &Path) -> Vec<f32> {
    let engine = Engine::with(Gguf::open(path).unwrap(), settings()).unwrap();
    let mut session = engine.session(32).unwrap();
    let tokens = (0..24).map(|i| i * 37 % 270);
    tokens
        .flat_map(|token| session.forward(&[token]).unwrap().to_vec())
        .collect()
}

#[test]
fn a_turned_model_answers_as_before() {
    let of = |architecture| Shape {
        architecture,
        ..Shape::default()
    };
    let tied = |shape| Shape {
        tied: true,
        rope_freqs: true,
        ..shape
    };
    // 72 = 8 · 9, and heads of 12 = 4 · 3, four to a key head
    let odd = Shape {
        hidden: 72,
        head_dim: 12,
        heads: 8,
        ..of("qwen2")
    };
    let llama = Shape::default();
    let shapes = [
        llama.clone(),
        tied(llama),
        of("qwen2"),
        tied(of("qwen3")),
        Shape::qwen(),
        odd.clone(),
        tied(odd),
    ];
    for shape in shapes {
        let (dir, parent) = parent(&shape);
        let out = dir.path().join("out.gguf");
        let before = logits(&parent);
        let size = before.iter().map(|x| x.abs()).fold(0.0, f32::max);
        for rotation in ALL {
            rotate(&parent, &out, F32, rotation, false).unwrap();
            for (after, before) in logits(&out).iter().zip(&before) {
                assert!(
                    (after - before).abs() < 1e-4 * size,
                    "{after} for {before}: {rotation:?}, {shape:?}"
                );
            }
            let value = |path: &Path, name: &str| {
                let gguf = Gguf::open(path).unwrap();
                gguf.tensor(name).unwrap().to_f32().unwrap()
            };
            for (name, turned) in [
                ("token_embd.weight", rotation != Rotation::Values),
                ("blk.1.attn_norm.weight", rotation != Rotation::Values),
                ("blk.1.attn_output.weight", true),
            ] {
                assert_eq!(value(&parent, name) != value(&out, name), turned, "{name}");
            }
        }
        // what stood beside it on the way is gone: parent and out
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}

#[test]
fn values_cost_no_bytes_and_the_stream_a_tied_head() {
    for tied in [false, true] {
        let (dir, parent) = parent(&Shape {
            tied,
            ..Shape::default()
        });
        let out = dir.path().join("out.gguf");
        let plain = Recipe::new(Q4_0).unwrap();
        let plain = quantize(&parent, &out, &plain, None, settings(), |_| {}).unwrap();
        for rotation in ALL {
            let (written, told) = rotate(&parent, &out, Q4_0, rotation, false).unwrap();
            let unties = tied && rotation != Rotation::Values;
            assert_eq!(written.bytes > plain.bytes, unties, "{rotation:?}");
            assert_eq!(told.contains("output.weight"), unties, "{told}");
            assert_eq!(
                Gguf::open(&out).unwrap().has_tensor("output.weight"),
                unties || !tied
            );
        }
    }
}

#[test]
fn what_is_turned_is_calibrated_like_any_model() {
    let tied = Shape {
        tied: true,
        ..Shape::default()
    };
    for shape in [tied, Shape::qwen()] {
        let (dir, parent) = parent(&shape);
        let open = |path: &Path| Model::open_with(path, settings()).unwrap();
        for rotation in ALL {
            let models = [false, true].map(|calibrated| {
                let out = dir.path().join(format!("{calibrated}.gguf"));
                rotate(&parent, &out, Q4_0, rotation, calibrated).unwrap();
                open(&out)
            });
            let held_out: String = (1000..1004).map(text).collect();
            let results = divergence(&open(&parent), &models, &held_out, 64, None, |_, _| {});
            let kl: Vec<_> = (results.unwrap().iter())
                .map(|result| result.mean_kl_divergence)
                .collect();
            assert!(kl[1] < 0.8 * kl[0], "{rotation:?}: {kl:?}");
        }
    }
}

/// A second layer that the metadata does not know.
#[test]
fn a_tensor_of_unknown_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let parent = dir.path().join("parent.gguf");
    let change = |writer: &mut retort_format::gguf::Writer| {
        writer.set("llama.block_count", 1u32).unwrap();
    };
    write_gguf_changed(&parent, &Shape::default(), change);
    for rotation in ALL {
        let refused = rotate(&parent, &dir.path().join("out.gguf"), Q4_0, rotation, false);
        let message = refused.unwrap_err().to_string();
        assert!(
            message.contains("blk.1.attn_q.weight has no place"),
            "{message}"
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
