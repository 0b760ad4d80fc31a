//! A smaller vocabulary: its tokenizer, its logits, its ids in the configs.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use burn::tensor::{Device, Int, Tensor, TensorData};
use retort_data::stories;
use retort_format::Precision;
use retort_model::load;
use retort_prune::{PruneOptions, TargetSizes};
use retort_tokenizer::Tokenizer;
use serde_json::{Value, json};

use crate::fixture::{Fixture, Idle, KINDS, VOCABULARY, config, cut};

#[test]
fn smaller_vocabulary_encodes_to_the_same_tokens_with_the_parents_logits() {
    let fixture = Fixture::new();
    for kind in KINDS {
        let tied = kind != "qwen";
        let parent = fixture.parent(kind, &config(kind, tied), &Idle::default(), Precision::F32);
        // Ids that are not in the model's own config, one of them surely kept.
        let path = parent.join("config.json");
        let mut json: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        (json["eos_token_id"], json["pad_token_id"]) = (json!([0, 257]), 250.into());
        fs::write(&path, json.to_string()).unwrap();
        let options = PruneOptions {
            sizes: TargetSizes {
                vocabulary: Some(330),
                ..TargetSizes::default()
            },
            ..fixture.options()
        };
        let out = fixture.path(&format!("{kind}-330"));
        let report = cut(&parent, &out, &options).unwrap();
        let covers = report.vocabulary_coverage.unwrap();
        assert!(covers > 0.8 && covers < 1.0, "{covers}");
        let [theirs, ours] = [&parent, &out].map(|dir| Tokenizer::from_file(dir, None).unwrap());
        assert_eq!(ours.vocab_size(), 330);
        let new = |id: u32| ours.id(&theirs.token(id).unwrap());
        let old: Vec<u32> = (0..330)
            .map(|id| theirs.id(&ours.token(id).unwrap()).unwrap())
            .collect();
        assert!(old.is_sorted(), "ids keep their order");

        let (mut same, mut other) = (0, 0);
        let kept: HashSet<u32> = old.iter().copied().collect();
        let texts = stories::generate(2, 40);
        for text in texts.iter().flat_map(|story| story.text.split(' ')) {
            let before = theirs.encode(text).unwrap();
            let after = ours.encode(text).unwrap();
            assert_eq!(ours.decode(&after).unwrap(), text);
            if before.iter().all(|id| kept.contains(id)) {
                let renumbered: Vec<u32> = before.iter().map(|&id| new(id).unwrap()).collect();
                assert_eq!(after, renumbered, "{text:?}");
                same += 1;
            } else {
                other += 1;
            }
        }
        assert!(same > 100 && other > 0, "{same} {other}");
        for text in [
            "",
            "naïve café – 日本語 🙂\r\n\t x",
            "\0\u{7f}<|endoftext|>",
        ] {
            let ids = ours.encode(text).unwrap();
            assert!(ids.iter().all(|&id| id < 330));
            assert_eq!(ours.decode(&ids).unwrap(), text);
        }

        // The 14 ids of `logits` in the student's numbers are the parent's first rows of them
        // only where these are kept; so the parent is given what the student's stand for.
        let forward = |dir: &Path, ids: Vec<i32>| -> Vec<f32> {
            let (_, model) = load(dir, &Device::flex()).unwrap();
            let n = ids.len();
            let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [1, n]), &Device::flex());
            model.forward(ids).into_data().try_into_vec().unwrap()
        };
        let ids = [5, 329, 0, 300, 17, 260];
        let child = forward(&out, ids.map(|id| id as i32).to_vec());
        let whole = forward(&parent, ids.map(|id| old[id] as i32).to_vec());
        for (ours, theirs) in child.chunks(330).zip(whole.chunks(VOCABULARY)) {
            for (&old, ours) in old.iter().zip(ours) {
                assert!((ours - theirs[old as usize]).abs() < 1e-5);
            }
        }
        let json: Value =
            serde_json::from_str(&fs::read_to_string(out.join("config.json")).unwrap()).unwrap();
        let ids: Vec<Option<u32>> = vec![new(0), new(257)];
        let ids: Vec<u32> = ids.into_iter().flatten().collect();
        assert_eq!(json["eos_token_id"], json!(ids));
        assert_eq!(json["pad_token_id"], json!(new(250)));
        assert_eq!(json["vocab_size"], 330);
    }
}
