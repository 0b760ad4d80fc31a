//! Import: a GGUF file becomes the Hugging Face directory that it was exported from, or one error.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use retort_convert::export::export;
use retort_convert::import::{ImportSettings, Imported, import};
use retort_engine::decoder::Config;
use retort_engine::tokenizer::{TokenType, Tokenizer, Vocabulary, pre};
use retort_format::GgmlType::*;
use retort_format::gguf::Metadata;
use retort_format::gguf::{Gguf, Writer};
use retort_format::{GgmlType, Result};
use retort_test_kit::{Shape, hf, vocabulary, write_gguf, write_gguf_changed, write_gguf_where};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A GGUF file, and places to import to and to export to again.
struct ImportFixture(TempDir);

impl ImportFixture {
    fn new(shape: &Shape) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        write_gguf(&place.file(), shape);
        place
    }

    fn changed(shape: &Shape, change: impl Fn(&mut Writer)) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        write_gguf_changed(&place.file(), shape, change);
        place
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("model.gguf")
    }

    fn dir(&self) -> PathBuf {
        self.0.path().join("imported")
    }

    fn import_with(&self, settings: &ImportSettings) -> Result<Imported> {
        import(&self.file(), &self.dir(), settings, |_| {})
    }

    fn import(&self) -> Imported {
        self.import_with(&ImportSettings::default()).unwrap()
    }

    /// The one line that import fails with; nothing may be left behind.
    fn refused_with(&self, settings: &ImportSettings) -> String {
        let message = self.import_with(settings).unwrap_err().to_string();
        assert!(!message.contains('\n'), "{message}");
        let left = std::fs::read_dir(self.0.path()).unwrap().count();
        assert_eq!(left, 1, "something was written: {message}");
        message
    }

    fn refused(&self) -> String {
        self.refused_with(&ImportSettings::default())
    }

    fn gguf(&self) -> Gguf {
        Gguf::open(&self.file()).unwrap()
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&std::fs::read(self.dir().join(name)).unwrap()).unwrap()
    }

    /// The directory as a GGUF file again.
    fn export(&self, quant: GgmlType) -> Gguf {
        let path = self.0.path().join("again.gguf");
        export(&self.dir(), &path, quant, |_| {}).unwrap();
        Gguf::open(&path).unwrap()
    }
}

fn shapes() -> Vec<Shape> {
    let qwen2 = Shape {
        architecture: "qwen2",
        tied: true,
        ..Shape::default()
    };
    let qwen3 = Shape {
        architecture: "qwen3",
        head_dim: 32,
        ..Shape::default()
    };
    let stretched = Shape {
        trained: Some(128),
        ..Shape::qwen()
    };
    let linear = Shape {
        rope_factor: Some(4.0),
        ..Shape::default()
    };
    vec![
        Shape::default(),
        linear,
        qwen2,
        qwen3,
        Shape::qwen(),
        stretched,
    ]
}

fn same_tensors(ours: &Gguf, theirs: &Gguf) {
    assert_eq!(ours.tensors().len(), theirs.tensors().len());
    for a in ours.tensors() {
        let b = theirs.tensor(a.name).unwrap();
        assert_eq!((a.dims, a.ty), (b.dims, b.ty), "{}", a.name);
        assert!(a.data == b.data, "{} differs", a.name);
    }
}

#[test]
fn import_and_export_keep_every_byte() {
    for shape in shapes() {
        for ty in [F32, F16, BF16] {
            let place = ImportFixture::new(&Shape {
                ty,
                ..shape.clone()
            });
            let imported = place.import();
            let (again, gguf) = (place.export(ty), place.gguf());
            same_tensors(&again, &gguf);
            assert_eq!(imported.tensors, gguf.tensors().len());
            let config = |gguf: &Gguf| Config::from_gguf(gguf).unwrap();
            assert_eq!(config(&again), config(&gguf));
            let vocabulary = |gguf: &Gguf| Vocabulary::from_gguf(gguf).unwrap();
            let (ours, theirs) = (vocabulary(&again), vocabulary(&gguf));
            assert_eq!((ours.tokens, ours.types), (theirs.tokens, theirs.types));
            assert_eq!((ours.merges, ours.eos), (theirs.merges, theirs.eos));
        }
    }
}

/// The weights come back as the very file that they were exported from.
#[test]
fn export_and_import_keep_every_byte() {
    for shape in shapes() {
        let place = ImportFixture(tempfile::tempdir().unwrap());
        let source = tempfile::tempdir().unwrap();
        hf::write_directory(source.path(), &shape);
        export(source.path(), &place.file(), F32, |_| {}).unwrap();
        place.import();
        let weights = |dir: PathBuf| std::fs::read(dir.join("model.safetensors")).unwrap();
        assert!(weights(place.dir()) == weights(source.path().to_owned()));
    }
}

#[test]
fn the_configuration_has_the_names_of_hugging_face() {
    for shape in shapes() {
        let place = ImportFixture::new(&shape);
        place.import();
        let (ours, mut wanted) = (place.json("config.json"), hf::config(&shape));
        if let Some(factor) = shape.rope_factor {
            wanted["rope_scaling"] = json!({"rope_type": "linear", "factor": factor});
        }
        for (name, value) in wanted.as_object().unwrap() {
            let equal = ours[name] == *value || ours[name].as_f64() == value.as_f64();
            assert!(
                equal && !(value.is_null() && ours.get(name).is_none()),
                "{name}: {ours}"
            );
        }
        assert_eq!(ours["torch_dtype"], "float32");
        assert_eq!(place.json("generation_config.json")["eos_token_id"], 271);
    }
    let place = ImportFixture::new(&Shape {
        ty: BF16,
        ..Shape::default()
    });
    place.import();
    assert_eq!(place.json("config.json")["torch_dtype"], "bfloat16");
}

/// Weights by Hugging Face name, as the directory holds them.
fn imported(place: &ImportFixture) -> BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> {
    let bytes = std::fs::read(place.dir().join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    tensors
        .iter()
        .map(|(name, t)| {
            (
                name.to_owned(),
                (t.dtype(), t.shape().to_vec(), t.data().to_vec()),
            )
        })
        .collect()
}

#[test]
fn quantized_weights_become_the_numbers_they_stand_for() {
    for ty in [Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K] {
        for architecture in ["llama", "qwen2"] {
            let shape = Shape {
                architecture,
                hidden: 256,
                inner: 512,
                heads: 4,
                head_dim: 64,
                ty,
                ..Shape::default()
            };
            let place = ImportFixture::new(&shape);
            place.import();
            let (gguf, tensors) = (place.gguf(), imported(&place));
            let floats = |name: &str| gguf.tensor(name).unwrap().to_f32().unwrap();
            let bytes = |values: &[f32]| -> Vec<u8> {
                values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect()
            };
            let (dtype, shape, data) = &tensors["model.layers.1.mlp.down_proj.weight"];
            assert_eq!(
                (*dtype, shape.as_slice()),
                (Dtype::F32, [256, 512].as_slice())
            );
            assert!(*data == bytes(&floats("blk.1.ffn_down.weight")), "{ty}");
            // a llama file has row 1 of a head's second half in row 3
            let k = floats("blk.0.attn_k.weight");
            let (row, from) = (
                64 + 33,
                if architecture == "llama" {
                    64 + 3
                } else {
                    64 + 33
                },
            );
            let (_, _, data) = &tensors["model.layers.0.self_attn.k_proj.weight"];
            let ours = &data[row * 256 * 4..(row + 1) * 256 * 4];
            assert!(ours == bytes(&k[from * 256..(from + 1) * 256]), "{ty}");
        }
    }
}

#[test]
fn a_type_can_be_asked_for() {
    let place = ImportFixture::new(&Shape {
        ty: Q8_0,
        ..Shape::default()
    });
    let settings = ImportSettings {
        dtype: Some(BF16),
        ..ImportSettings::default()
    };
    place.import_with(&settings).unwrap();
    assert!(
        imported(&place)
            .values()
            .all(|(dtype, ..)| *dtype == Dtype::BF16)
    );
    assert_eq!(place.json("config.json")["torch_dtype"], "bfloat16");
    let place = ImportFixture::new(&Shape::default());
    let settings = ImportSettings {
        dtype: Some(Q4_0),
        ..ImportSettings::default()
    };
    assert!(place.refused_with(&settings).contains("f32, f16 or bf16"));
}

#[test]
fn shards_stay_below_the_limit_and_are_read_again() {
    let place = ImportFixture::new(&Shape::default());
    let settings = ImportSettings {
        max_shard_bytes: 100_000,
        ..ImportSettings::default()
    };
    let imported = place.import_with(&settings).unwrap();
    assert!(imported.shards > 2);
    let index = place.json("model.safetensors.index.json");
    assert_eq!(index["metadata"]["total_size"], imported.bytes);
    assert_eq!(
        index["weight_map"].as_object().unwrap().len(),
        imported.tensors
    );
    for file in index["weight_map"].as_object().unwrap().values() {
        let size = std::fs::metadata(place.dir().join(file.as_str().unwrap()))
            .unwrap()
            .len();
        assert!(size < 105_000, "{file} has {size} bytes");
    }
    same_tensors(&place.export(F32), &place.gguf());
}

#[test]
fn llama3_scaling_goes_there_and_back() {
    let source = tempfile::tempdir().unwrap();
    let shape = Shape {
        heads: 2,
        head_dim: 64,
        ..Shape::default()
    };
    hf::write_directory(source.path(), &shape);
    let mut config = hf::config(&shape);
    let scaling = json!({
        "rope_type": "llama3", "factor": 16.0, "low_freq_factor": 1.5, "high_freq_factor": 6.0,
        "original_max_position_embeddings": 128
    });
    config["rope_scaling"] = scaling.clone();
    hf::write_json(&source.path().join("config.json"), &config);
    let place = ImportFixture(tempfile::tempdir().unwrap());
    export(source.path(), &place.file(), F32, |_| {}).unwrap();
    place.import();
    let ours = &place.json("config.json")["rope_scaling"];
    for (name, value) in scaling.as_object().unwrap() {
        let equal = ours[name] == *value || ours[name].as_f64() == value.as_f64();
        assert!(equal, "{name}: {ours}");
    }
    same_tensors(&place.export(F32), &place.gguf());
    // random divisors are those of no rule
    let shape = Shape {
        rope_freqs: true,
        ..Shape::default()
    };
    assert!(
        ImportFixture::new(&shape)
            .refused()
            .contains("rope_freqs.weight")
    );
}

const TRICKY: &str = "in 2025, the sea's  \t\n\n  ÄÖ e\u{301} \u{1F999}\u{200D} ½ ²³ \u{0966}\u{0967} <|endoftext|> \
    <tool> don't DON'T 3333333 ᄀ\u{1161} កុ\u{17C6} !!!??? \r\n x";

#[test]
fn ids_are_the_engines() {
    let names = ["gpt-2", "smollm", "llama-bpe", "qwen2", "default"];
    for (name, nfc) in names
        .into_iter()
        .flat_map(|name| [(name, false), (name, true)])
    {
        let split = pre::from_name(name).unwrap();
        let place = ImportFixture::changed(&Shape::default(), |writer| {
            let mut table = vocabulary();
            table.split = split;
            table.nfc = nfc;
            // a filler row, and a token that text reaches without being special
            table.tokens[259] = "[PAD259]".into();
            table.types[259] = TokenType::Unused;
            table.tokens[262] = "<tool>".into();
            table.types[262] = TokenType::UserDefined;
            table
                .merges
                .retain(|(left, right)| !["in", "Ġand"].contains(&&*format!("{left}{right}")));
            let mut tables = Metadata::new(Path::new(""));
            table.write(&mut tables);
            writer.set_all(&tables).unwrap();
        });
        place.import();
        let engine = Tokenizer::from_gguf(&place.gguf()).unwrap();
        let ours = tokenizers::Tokenizer::from_file(place.dir().join("tokenizer.json")).unwrap();
        let ids = ours.encode(TRICKY, true).unwrap().get_ids().to_vec();
        assert_eq!(ids, engine.encode(TRICKY, true).unwrap(), "{name}");
        assert!(ids.contains(&262) && ids.contains(&271));
        let decoded = ours.decode(&ids, false).unwrap();
        assert_eq!(decoded, engine.decode(&ids), "{name}");
        let again = Vocabulary::from_gguf(&place.export(F32)).unwrap();
        let table = Vocabulary::from_gguf(&place.gguf()).unwrap();
        assert_eq!((again.tokens, again.types), (table.tokens, table.types));
        assert_eq!((again.split, again.nfc), (split, nfc));
    }
}

#[test]
fn special_tokens_and_template_go_into_the_side_files() {
    let place = ImportFixture::changed(&Shape::default(), |writer| {
        let mut table = vocabulary();
        table.bos = Some(271);
        table.add_bos = true;
        table.eot = Some(256);
        table.eom = Some(257);
        table.more_ends = vec![258, 259];
        let mut tables = Metadata::new(Path::new(""));
        table.write(&mut tables);
        writer.set_all(&tables).unwrap();
        writer
            .set("tokenizer.chat_template", "{{ messages }}")
            .unwrap();
        writer
            .set("tokenizer.ggml.unknown_token_id", 271u32)
            .unwrap();
    });
    place.import();
    let side = place.json("tokenizer_config.json");
    assert_eq!(side["chat_template"], "{{ messages }}");
    for name in ["bos_token", "eos_token", "unk_token"] {
        assert_eq!(side[name], "<|endoftext|>");
    }
    assert_eq!(side["added_tokens_decoder"]["271"]["special"], true);
    assert_eq!(
        place.json("generation_config.json")["eos_token_id"],
        json!([271, 256, 257, 258, 259])
    );
    assert_eq!(place.json("config.json")["bos_token_id"], 271);
    let ours = tokenizers::Tokenizer::from_file(place.dir().join("tokenizer.json")).unwrap();
    assert_eq!(ours.encode("a", true).unwrap().get_ids()[0], 271);
    let again = place.export(F32);
    assert_eq!(
        again.str("tokenizer.chat_template").unwrap(),
        "{{ messages }}"
    );
    let table = Vocabulary::from_gguf(&again).unwrap();
    assert_eq!((table.bos, table.add_bos), (Some(271), true));
    assert_eq!(table.end_ids(), [271, 256, 257, 258, 259]);
}

#[test]
fn tensors_that_do_not_fit_are_named_together() {
    let place = ImportFixture(tempfile::tempdir().unwrap());
    let missing = [
        "token_embd.weight",
        "blk.0.attn_k.weight",
        "blk.1.ffn_norm.weight",
    ];
    write_gguf_where(&place.file(), &Shape::default(), |name| {
        !missing.contains(&name)
    });
    let message = place.refused();
    for name in missing {
        assert!(message.contains(&format!("{name} is missing")), "{message}");
    }
    // a qwen2 file that calls itself llama has biases that a llama has not
    let place = ImportFixture::new(&Shape {
        architecture: "qwen2",
        ..Shape::default()
    });
    let bytes = std::fs::read(place.file()).unwrap();
    let text = |from: &[u8], to: &[u8], bytes: &[u8]| -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        while let Some(at) = bytes.windows(from.len()).position(|window| window == from) {
            bytes[at..at + from.len()].copy_from_slice(to);
        }
        bytes
    };
    std::fs::write(place.file(), text(b"qwen2", b"llama", &bytes)).unwrap();
    let message = place.refused();
    assert!(
        message.contains("blk.0.attn_q.bias has no place"),
        "{message}"
    );
    let place = ImportFixture::changed(&Shape::default(), |writer| {
        writer.set("llama.feed_forward_length", 95u32).unwrap();
    });
    let message = place.refused();
    assert!(
        message.contains("blk.0.ffn_up.weight has shape [64, 96], not [64, 95]"),
        "{message}"
    );
    assert!(message.contains("blk.1.ffn_down.weight"), "{message}");
}

#[test]
fn what_cannot_be_imported_is_refused() {
    let place = ImportFixture::new(&Shape::default());
    std::fs::create_dir(place.dir()).unwrap();
    std::fs::write(place.dir().join("notes"), "mine").unwrap();
    let message = place
        .import_with(&ImportSettings::default())
        .unwrap_err()
        .to_string();
    assert!(message.contains("not empty"), "{message}");
    assert_eq!(std::fs::read(place.dir().join("notes")).unwrap(), b"mine");

    let half_head = |writer: &mut Writer| writer.set("llama.rope.dimension_count", 8u32).unwrap();
    let message = ImportFixture::changed(&Shape::default(), half_head).refused();
    assert!(message.contains("rope.dimension_count"), "{message}");

    let twice = |writer: &mut Writer| {
        let mut table = vocabulary();
        table.tokens[256] = "a".into();
        table.merges.clear();
        let mut tables = Metadata::new(Path::new(""));
        table.write(&mut tables);
        writer.set_all(&tables).unwrap();
    };
    let message = ImportFixture::changed(&Shape::default(), twice).refused();
    assert!(message.contains("\"a\" is both"), "{message}");

    let place = ImportFixture::new(&Shape::default());
    let (gguf, mut bytes) = (place.gguf(), std::fs::read(place.file()).unwrap());
    let at = gguf.tensor("blk.1.ffn_up.weight").unwrap().offset as usize + 400;
    bytes[at..at + 4].copy_from_slice(&70_000f32.to_le_bytes());
    std::fs::write(place.file(), &bytes).unwrap();
    let settings = ImportSettings {
        dtype: Some(F16),
        ..ImportSettings::default()
    };
    let message = place.refused_with(&settings);
    assert!(
        message.contains("ffn_up") && message.contains("F16"),
        "{message}"
    );
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(place.file(), &bytes).unwrap();
    assert!(place.refused().contains("NaN"));
    std::fs::write(place.file(), b"GGUF").unwrap();
    assert!(place.refused().contains("model.gguf"));
}

#[test]
fn an_empty_directory_is_taken() {
    let place = ImportFixture::new(&Shape::default());
    std::fs::create_dir(place.dir()).unwrap();
    place.import();
    assert!(place.dir().join("config.json").exists());
}
