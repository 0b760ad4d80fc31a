//! Channels, heads and layers that do nothing are removed; those that are kept stay the same.

use burn::tensor::Device;
use retort_format::checkpoint::{CheckpointReader, stored_precision};
use retort_format::{Precision, tensors};
use retort_model::load;
use retort_prune::{ImportanceMetric, LayerSelection, PruneOptions, TargetSizes};

use crate::fixture::{Fixture, Idle, KINDS, config, cut, logits, max_difference};

#[test]
fn idle_channels_heads_and_layers_are_removed_without_changing_the_logits() {
    let fixture = Fixture::new();
    for kind in KINDS {
        for tied in [true, false] {
            let config = config(kind, tied);
            let groups = config.num_key_value_heads;
            let idle = Idle {
                hidden: vec![0, 3, 4, 9, 13, 20, 22, 23],
                kv_heads: (0..4)
                    .map(|l| match groups {
                        3 => vec![l % 3],
                        _ => vec![l % 6, (l + 2) % 6],
                    })
                    .collect(),
                mlp: (0..4)
                    .map(|l| (0..8).map(|i| (i * 3 + l) % 20).collect())
                    .collect(),
                layers: vec![2],
            };
            let name = format!("{kind}-{tied}");
            let parent = fixture.parent(&name, &config, &idle, Precision::F32);
            for by in [ImportanceMetric::L1, ImportanceMetric::Activation] {
                let options = PruneOptions {
                    sizes: TargetSizes {
                        layers: Some(3),
                        hidden: Some(16),
                        heads: Some(4),
                        mlp: Some(12),
                        ..TargetSizes::default()
                    },
                    importance: by,
                    ..fixture.options()
                };
                let out = fixture.path(&format!("{name}-{by:?}"));
                let report = cut(&parent, &out, &options).unwrap();
                assert_eq!(
                    report.layers,
                    [0, 1, 3],
                    "{name} {:?}",
                    report.layer_distances
                );
                assert_eq!(report.calibration_tokens, 1024);
                let shape = &report.plan.student;
                let (student, _) = load(&out, &Device::flex()).unwrap();
                assert_eq!(shape.parameters, student.parameters());
                assert_eq!((shape.layers, shape.hidden, shape.mlp), (3, 16, 12));
                assert_eq!((shape.heads, shape.head_dim), (4, 4));
                let far = max_difference(&logits(&parent), &logits(&out));
                assert!(far < 2e-4, "{name} {by:?}: {far}");
                // What is compared is not nothing.
                let size = logits(&parent).concat().into_iter().fold(0.0, f32::max);
                assert!(size > 1.0, "{size}");
            }
        }
    }
}

#[test]
fn idle_layers_are_removed_by_range_and_by_influence() {
    let fixture = Fixture::new();
    let config = config("qwen3", true);
    let idle = Idle {
        layers: vec![1, 2],
        ..Idle::default()
    };
    let parent = fixture.parent("p", &config, &idle, Precision::F32);
    for (by, out) in [
        (LayerSelection::Range, "range"),
        (LayerSelection::Influence, "influence"),
    ] {
        let options = PruneOptions {
            sizes: TargetSizes {
                layers: Some(2),
                ..TargetSizes::default()
            },
            layer_selection: by,
            ..fixture.options()
        };
        let report = cut(&parent, &fixture.path(out), &options).unwrap();
        assert_eq!(report.layers, [0, 3], "{:?}", report.layer_distances);
        assert_eq!(logits(&parent), logits(&fixture.path(out)));
    }
}

#[test]
fn kept_layers_are_bit_for_bit_the_parents_in_its_precision() {
    let fixture = Fixture::new();
    let config = config("llama", false);
    let parent = fixture.parent("p", &config, &Idle::default(), Precision::Bf16);
    let options = PruneOptions {
        keep_layers: Some("1,3".into()),
        ..PruneOptions::default()
    };
    let out = fixture.path("out");
    let report = cut(&parent, &out, &options).unwrap();
    assert_eq!((report.layers, report.layer_distances), (vec![1, 3], None));
    assert_eq!(stored_precision(&out).unwrap(), Precision::Bf16);
    let (ours, theirs) = (
        CheckpointReader::open(&out).unwrap(),
        CheckpointReader::open(&parent).unwrap(),
    );
    for spec in tensors(ours.config()) {
        let name = match spec.layer() {
            Some(l) => spec
                .name
                .replace(&format!(".{l}."), &format!(".{}.", 2 * l + 1)),
            None => spec.name.clone(),
        };
        let other = tensors(theirs.config());
        let other = other.iter().find(|spec| spec.name == name).unwrap();
        let rows = 0..spec.shape[0];
        assert_eq!(
            ours.rows(&spec, rows.clone()),
            theirs.rows(other, rows),
            "{name}"
        );
    }
}
