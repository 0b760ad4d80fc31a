//! A run that is stopped or refused leaves nothing behind.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device;
use retort_format::Precision;
use retort_prune::{LayerSelection, Progress, PruneOptions, TargetSizes, TextSource, prune};
use serde_json::{Value, json};

use crate::fixture::{Fixture, Idle, config, cut, file_names};

#[test]
fn stop_while_writing_leaves_nothing() {
    let fixture = Fixture::new();
    let parent = fixture.parent(
        "p",
        &config("llama", true),
        &Idle::default(),
        Precision::F32,
    );
    let before = file_names(fixture.0.path());
    let stop = AtomicBool::new(false);
    let options = PruneOptions {
        sizes: TargetSizes {
            layers: Some(2),
            ..TargetSizes::default()
        },
        layer_selection: LayerSelection::EvenlySpaced,
        ..PruneOptions::default()
    };
    let progress = |p: Progress| {
        if p.what == "writing" && p.done > 0 {
            assert!(
                file_names(fixture.0.path()).len() > before.len(),
                "written aside"
            );
            stop.store(true, Ordering::Relaxed);
        }
    };
    let out = fixture.path("out");
    let outcome = prune(&parent, &out, &options, &Device::flex(), &stop, &progress);
    assert!(outcome.unwrap_err().to_string().starts_with("stopped"));
    assert_eq!(file_names(fixture.0.path()), before);
    // The same without stopping.
    cut(&parent, &out, &options).unwrap();
    assert!(file_names(&out).contains(&"model.safetensors".to_owned()));
    // And not over what is there.
    let message = cut(&parent, &out, &options).unwrap_err().to_string();
    assert!(message.contains("not empty"), "{message}");
}

#[test]
fn impossible_option_is_a_one_line_error_naming_it_and_leaves_nothing() {
    let fixture = Fixture::new();
    let parent = fixture.parent(
        "p",
        &config("llama", true),
        &Idle::default(),
        Precision::F32,
    );
    let pieces = fixture.path("sentencepiece");
    fs::create_dir(&pieces).unwrap();
    for name in file_names(&parent) {
        fs::copy(parent.join(&name), pieces.join(&name)).unwrap();
    }
    let path = pieces.join("tokenizer.json");
    let mut json: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    json["decoder"] = json!({"type": "ByteFallback"});
    fs::write(&path, json.to_string()).unwrap();
    let before = file_names(fixture.0.path());
    let t = TargetSizes::default();
    let layers = |n| TargetSizes {
        layers: Some(n),
        ..t
    };
    let vocabulary = |n| TargetSizes {
        vocabulary: Some(n),
        ..t
    };
    let full = fixture.options();
    let with = |sizes| PruneOptions {
        sizes,
        ..full.clone()
    };
    let bare = |sizes| PruneOptions {
        sizes,
        seq_len: 32,
        ..PruneOptions::default()
    };
    for (dir, options, part) in [
        (&parent, with(layers(5)), "--layers: 5 of 4"),
        (&parent, with(layers(1)), "--ends"),
        (&parent, bare(layers(2)), "--layers-by every"),
        (
            &parent,
            bare(TargetSizes {
                hidden: Some(8),
                ..t
            }),
            "--importance l1",
        ),
        (&parent, bare(vocabulary(300)), "--vocab-from"),
        (
            &parent,
            with(vocabulary(200)),
            "--vocab: 200 tokens: give 257",
        ),
        (&parent, with(vocabulary(500)), "--vocab: 500 of 400"),
        (&pieces, with(vocabulary(300)), "byte-level BPE"),
        (
            &parent,
            PruneOptions {
                keep_layers: Some("0,9".into()),
                ..PruneOptions::default()
            },
            "--keep-layers",
        ),
        (
            &parent,
            PruneOptions {
                calibration_text: Some(TextSource {
                    tokens: 10,
                    ..fixture.text()
                }),
                ..with(layers(2))
            },
            "--data",
        ),
        (
            &parent,
            PruneOptions {
                calibration_text: Some(TextSource {
                    source: "nowhere".into(),
                    tokens: 10,
                }),
                ..with(layers(2))
            },
            "nowhere",
        ),
        (&fixture.path("absent"), with(layers(2)), "absent"),
    ] {
        let error = cut(dir, &fixture.path("out"), &options).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(part), "{part}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
        assert_eq!(file_names(fixture.0.path()), before, "{message}");
    }
}
