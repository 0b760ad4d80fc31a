//! Students cut out of tiny parents: what does nothing is found and goes without a trace, the
//! tokenizer that is cut encodes as before, and what cannot be done leaves nothing behind.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::{Device, Int, Tensor, TensorData};
use retort_data::{Shards, SourceOptions, Tokenizer, stories};
use retort_distill::prune::{
    ImportanceBy, LayersBy, Progress, Report, Request, Result, Target, Text, prune,
};
use retort_format::checkpoint::{
    CheckpointReader, TensorHeader, stored_precision, write_config, write_weights,
};
use retort_format::{Axis, Kind, ModelConfig, Precision, TensorSpec, tensors};
use retort_model::load;
use serde_json::{Value, json};

const VOCABULARY: usize = 400;
const KINDS: [&str; 4] = ["llama", "qwen", "qwen2", "qwen3"];

/// What a parent has that does nothing.
#[derive(Default)]
struct Idle {
    hidden: Vec<usize>,
    /// Of each layer: key/value heads.
    groups: Vec<Vec<usize>>,
    /// Of each layer: channels of the feed-forward block.
    inner: Vec<Vec<usize>>,
    /// Layers that add nothing to the residual stream.
    layers: Vec<usize>,
}

fn config(kind: &str, tied: bool) -> ModelConfig {
    let mut v = json!({
        "model_type": kind, "vocab_size": VOCABULARY, "hidden_size": 24, "intermediate_size": 20,
        "num_hidden_layers": 4, "num_attention_heads": 6, "num_key_value_heads": 3,
        "head_dim": 4, "tie_word_embeddings": tied, "max_position_embeddings": 128,
        "eos_token_id": 0,
    });
    match kind {
        "llama" => (v["attention_bias"], v["mlp_bias"]) = (true.into(), true.into()),
        "qwen" => (v["num_key_value_heads"], v["intermediate_size"]) = (6.into(), 40.into()),
        _ => {}
    }
    let config: ModelConfig = serde_json::from_value(v).unwrap();
    config.resolve().unwrap()
}

/// Numbers that look random, from -1 to 1.
fn noise(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

fn values(config: &ModelConfig, spec: &TensorSpec, idle: &Idle) -> Vec<f32> {
    let seed = spec.name.bytes().fold(7, |h: u64, b| h * 31 + u64::from(b));
    let mut next = noise(seed);
    let width = spec.shape.get(1).copied().unwrap_or(1);
    let group = config.num_attention_heads / config.num_key_value_heads;
    let none = Vec::new();
    let of = |list: &'_ [Vec<usize>], layer: Option<usize>| {
        layer.and_then(|l| list.get(l)).unwrap_or(&none).clone()
    };
    let (groups, inner) = (
        of(&idle.groups, spec.layer()),
        of(&idle.inner, spec.layer()),
    );
    let adds_nothing = spec
        .layer()
        .is_some_and(|layer| idle.layers.contains(&layer));
    let is_idle = |dimension, i: usize, writes: bool| match dimension {
        Axis::Hidden => writes && (adds_nothing || idle.hidden.contains(&i)),
        Axis::Queries => groups.contains(&(i / (config.head_dim * group))),
        Axis::Keys => groups.contains(&(i / config.head_dim)),
        Axis::Inner => inner.contains(&i),
        Axis::Vocabulary | Axis::Head => false,
    };
    let embeds = spec.kind == Kind::Table && !spec.name.starts_with("lm_head");
    let mut out = Vec::new();
    for extent in spec.axes() {
        for row in 0..extent.rows.len() {
            for column in 0..width {
                let value = next();
                let idle = match spec.kind {
                    Kind::Norm => false,
                    _ if is_idle(extent.output, row, true) => true,
                    _ => extent.input.is_some_and(|d| {
                        is_idle(d, column, false) || embeds && idle.hidden.contains(&column)
                    }),
                };
                out.push(match spec.kind {
                    _ if idle => 0.0,
                    Kind::Norm => 1.0 + 0.3 * value,
                    Kind::Table => value,
                    _ => 0.5 * value,
                });
            }
        }
    }
    out
}

/// A corpus, a tokenizer, and parents made from them.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let corpus = dir.path().join("corpus");
        stories::write_parquet(&corpus, &stories::generate(1, 300), 1).unwrap();
        let shards = Shards::resolve(corpus.to_str().unwrap(), &SourceOptions::default());
        let tokenizer =
            retort_data::train_tokenizer(&Arc::new(shards.unwrap()), VOCABULARY, &|_| {}).unwrap();
        assert_eq!(tokenizer.vocab_size(), VOCABULARY);
        tokenizer.save(dir.path().join("tokenizer")).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self) -> Text {
        Text {
            source: self.path("corpus").to_str().unwrap().to_owned(),
            tokens: 1024,
        }
    }

    fn parent(&self, name: &str, config: &ModelConfig, idle: &Idle, as_: Precision) -> PathBuf {
        let dir = self.path(name);
        fs::create_dir(&dir).unwrap();
        for file in ["tokenizer.json", "tokenizer_config.json"] {
            fs::copy(self.path("tokenizer").join(file), dir.join(file)).unwrap();
        }
        write_config(&dir, config, as_).unwrap();
        // Several shards.
        let specs = tensors(config);
        write_weights(&dir, &TensorHeader::all(&specs, as_), 20_000, |i, sink| {
            let values = values(config, &specs[i], idle).into_iter();
            let bytes: Vec<u8> = match as_ {
                Precision::F32 => values.flat_map(f32::to_le_bytes).collect(),
                // Cut rather than rounded.
                _ => values
                    .flat_map(|v| [v.to_le_bytes()[2], v.to_le_bytes()[3]])
                    .collect(),
            };
            sink.write(&bytes)
        })
        .unwrap();
        dir
    }

    fn request(&self) -> Request {
        Request {
            text: Some(self.text()),
            vocabulary_text: Some(self.text()),
            row: 32,
            ..Request::default()
        }
    }
}

fn cut(parent: &Path, out: &Path, request: &Request) -> Result<Report> {
    let stop = AtomicBool::new(false);
    prune(parent, out, request, &Device::flex(), &stop, &|_| {})
}

/// Logits of 14 ids below 200 in two rows, each position's in turn.
fn logits(dir: &Path) -> Vec<Vec<f32>> {
    let (config, model) = load(dir, &Device::flex()).unwrap();
    let ids = TensorData::new((0..14).map(|i| i * 13 % 200).collect::<Vec<i32>>(), [2, 7]);
    let ids = Tensor::<2, Int>::from_data(ids, &Device::flex());
    let values: Vec<f32> = model.forward(ids).into_data().try_into_vec().unwrap();
    let rows = values.chunks(config.vocab_size);
    rows.map(<[f32]>::to_vec).collect()
}

fn farthest(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    assert_eq!(a.concat().len(), b.concat().len());
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn entries(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name());
    let mut names: Vec<String> = names.map(|n| n.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_does_nothing_is_found_and_goes_without_a_trace() {
    let place = Place::new();
    for kind in KINDS {
        for tied in [true, false] {
            let config = config(kind, tied);
            let groups = config.num_key_value_heads;
            let idle = Idle {
                hidden: vec![0, 3, 4, 9, 13, 20, 22, 23],
                groups: (0..4)
                    .map(|l| match groups {
                        3 => vec![l % 3],
                        _ => vec![l % 6, (l + 2) % 6],
                    })
                    .collect(),
                inner: (0..4)
                    .map(|l| (0..8).map(|i| (i * 3 + l) % 20).collect())
                    .collect(),
                layers: vec![2],
            };
            let name = format!("{kind}-{tied}");
            let parent = place.parent(&name, &config, &idle, Precision::F32);
            for by in [ImportanceBy::L1, ImportanceBy::Activation] {
                let request = Request {
                    target: Target {
                        layers: Some(3),
                        hidden: Some(16),
                        heads: Some(4),
                        inner: Some(12),
                        ..Target::default()
                    },
                    importance: by,
                    ..place.request()
                };
                let out = place.path(&format!("{name}-{by:?}"));
                let report = cut(&parent, &out, &request).unwrap();
                assert_eq!(report.layers, [0, 1, 3], "{name} {:?}", report.moved);
                assert_eq!(report.calibration_tokens, 1024);
                let shape = &report.plan.student;
                let (student, _) = load(&out, &Device::flex()).unwrap();
                assert_eq!(shape.parameters, student.parameters());
                assert_eq!((shape.layers, shape.hidden, shape.mlp), (3, 16, 12));
                assert_eq!((shape.heads, shape.head_dim), (4, 4));
                let far = farthest(&logits(&parent), &logits(&out));
                assert!(far < 2e-4, "{name} {by:?}: {far}");
                // What is compared is not nothing.
                let size = logits(&parent).concat().into_iter().fold(0.0, f32::max);
                assert!(size > 1.0, "{size}");
            }
        }
    }
}

#[test]
fn a_range_of_layers_that_do_nothing_goes_together() {
    let place = Place::new();
    let config = config("qwen3", true);
    let idle = Idle {
        layers: vec![1, 2],
        ..Idle::default()
    };
    let parent = place.parent("p", &config, &idle, Precision::F32);
    for (by, out) in [
        (LayersBy::Range, "range"),
        (LayersBy::Influence, "influence"),
    ] {
        let request = Request {
            target: Target {
                layers: Some(2),
                ..Target::default()
            },
            layers_by: by,
            ..place.request()
        };
        let report = cut(&parent, &place.path(out), &request).unwrap();
        assert_eq!(report.layers, [0, 3], "{:?}", report.moved);
        assert_eq!(logits(&parent), logits(&place.path(out)));
    }
}

#[test]
fn layers_are_kept_bit_for_bit_in_the_parents_precision() {
    let place = Place::new();
    let config = config("llama", false);
    let parent = place.parent("p", &config, &Idle::default(), Precision::Bf16);
    let request = Request {
        keep_layers: Some("1,3".into()),
        ..Request::default()
    };
    let out = place.path("out");
    let report = cut(&parent, &out, &request).unwrap();
    assert_eq!((report.layers, report.moved), (vec![1, 3], None));
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

#[test]
fn a_vocabulary_that_is_cut_encodes_as_before_and_its_logits_are_the_parents() {
    let place = Place::new();
    for kind in KINDS {
        let tied = kind != "qwen";
        let parent = place.parent(kind, &config(kind, tied), &Idle::default(), Precision::F32);
        // Ids that are not in the model's own config, one of them surely kept.
        let path = parent.join("config.json");
        let mut json: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        (json["eos_token_id"], json["pad_token_id"]) = (json!([0, 257]), 250.into());
        fs::write(&path, json.to_string()).unwrap();
        let request = Request {
            target: Target {
                vocabulary: Some(330),
                ..Target::default()
            },
            ..place.request()
        };
        let out = place.path(&format!("{kind}-330"));
        let report = cut(&parent, &out, &request).unwrap();
        let covers = report.vocabulary_covers.unwrap();
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

#[test]
fn a_students_directory_is_trained_from() {
    let place = Place::new();
    let parent = place.parent(
        "p",
        &config("qwen2", true),
        &Idle::default(),
        Precision::F32,
    );
    let out = place.path("out");
    let request = Request {
        target: Target {
            parameters: Some(10_000),
            vocabulary: Some(300),
            ..Target::default()
        },
        ..place.request()
    };
    let report = cut(&parent, &out, &request).unwrap();
    assert!(report.plan.student.parameters < 12_000);
    let recipe = format!(
        "[data]\nsource = {:?}\ntokenizer = {out:?}\nseq_len = 32\n[model]\nfrom = {out:?}\n\
         [train]\nsteps = 2\nbatch_size = 2\nlr = 1e-3\n",
        place.path("corpus")
    );
    let recipe = retort_train::Recipe::parse(&recipe, Path::new("r.toml"), &[]).unwrap();
    let run = place.path("run");
    let prepared = retort_train::prepare(recipe, &run, &Device::flex(), false, &|_| {}).unwrap();
    let stop = AtomicBool::new(false);
    let objective = retort_train::CrossEntropy;
    let outcome = retort_train::train(prepared, &objective, &stop, &mut |_| {}).unwrap();
    assert_eq!(outcome.step, 2);
}

#[test]
fn stopping_while_writing_leaves_nothing() {
    let place = Place::new();
    let parent = place.parent(
        "p",
        &config("llama", true),
        &Idle::default(),
        Precision::F32,
    );
    let before = entries(place.0.path());
    let stop = AtomicBool::new(false);
    let request = Request {
        target: Target {
            layers: Some(2),
            ..Target::default()
        },
        layers_by: LayersBy::Every,
        ..Request::default()
    };
    let progress = |p: Progress| {
        if p.what == "writing" && p.done > 0 {
            assert!(
                entries(place.0.path()).len() > before.len(),
                "written aside"
            );
            stop.store(true, Ordering::Relaxed);
        }
    };
    let out = place.path("out");
    let outcome = prune(&parent, &out, &request, &Device::flex(), &stop, &progress);
    assert!(outcome.unwrap_err().to_string().starts_with("stopped"));
    assert_eq!(entries(place.0.path()), before);
    // The same without stopping.
    cut(&parent, &out, &request).unwrap();
    assert!(entries(&out).contains(&"model.safetensors".to_owned()));
    // And not over what is there.
    let message = cut(&parent, &out, &request).unwrap_err().to_string();
    assert!(message.contains("not empty"), "{message}");
}

#[test]
fn what_cannot_be_is_one_line_that_names_the_option_and_leaves_nothing() {
    let place = Place::new();
    let parent = place.parent(
        "p",
        &config("llama", true),
        &Idle::default(),
        Precision::F32,
    );
    let pieces = place.path("sentencepiece");
    fs::create_dir(&pieces).unwrap();
    for name in entries(&parent) {
        fs::copy(parent.join(&name), pieces.join(&name)).unwrap();
    }
    let path = pieces.join("tokenizer.json");
    let mut json: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    json["decoder"] = json!({"type": "ByteFallback"});
    fs::write(&path, json.to_string()).unwrap();
    let before = entries(place.0.path());
    let t = Target::default();
    let layers = |n| Target {
        layers: Some(n),
        ..t
    };
    let vocabulary = |n| Target {
        vocabulary: Some(n),
        ..t
    };
    let full = place.request();
    let with = |target| Request {
        target,
        ..full.clone()
    };
    let bare = |target| Request {
        target,
        row: 32,
        ..Request::default()
    };
    for (dir, request, part) in [
        (&parent, with(layers(5)), "--layers: 5 of 4"),
        (&parent, with(layers(1)), "--ends"),
        (&parent, bare(layers(2)), "--layers-by every"),
        (
            &parent,
            bare(Target {
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
            Request {
                keep_layers: Some("0,9".into()),
                ..Request::default()
            },
            "--keep-layers",
        ),
        (
            &parent,
            Request {
                text: Some(Text {
                    tokens: 10,
                    ..place.text()
                }),
                ..with(layers(2))
            },
            "--data",
        ),
        (
            &parent,
            Request {
                text: Some(Text {
                    source: "nowhere".into(),
                    tokens: 10,
                }),
                ..with(layers(2))
            },
            "nowhere",
        ),
        (&place.path("absent"), with(layers(2)), "absent"),
    ] {
        let error = cut(dir, &place.path("out"), &request).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(part), "{part}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
        assert_eq!(entries(place.0.path()), before, "{message}");
    }
}
