//! Export: a Hugging Face directory becomes the GGUF file that was written by hand, or one error.

use std::path::{Path, PathBuf};

use retort_convert::Progress;
use retort_convert::export::{export, export_as};
use retort_convert::pack::pack;
use retort_engine::Model;
use retort_engine::decoder::Config;
use retort_engine::sampling::Sampling;
use retort_engine::template::{Input, Template};
use retort_engine::tokenizer::Vocabulary;
use retort_format::GgmlType::*;
use retort_format::gguf::Gguf;
use retort_format::gguf::panels::Layout;
use retort_format::{GgmlType, Result};
use retort_test_kit::{Shape, hf, vocabulary, write_gguf};
use retort_tokenizer::SplitRule;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A directory to export from, and a place to export to that is otherwise empty.
struct ExportFixture {
    dir: TempDir,
    out: TempDir,
}

impl ExportFixture {
    fn new(shape: &Shape) -> Self {
        let place = Self {
            dir: tempfile::tempdir().unwrap(),
            out: tempfile::tempdir().unwrap(),
        };
        hf::write_directory(place.dir.path(), shape);
        place
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn out(&self) -> PathBuf {
        self.out.path().join("model.gguf")
    }

    fn export(&self, quant: GgmlType) -> Result<Vec<String>> {
        let mut notices = Vec::new();
        export(self.dir.path(), &self.out(), quant, |progress| {
            if let Progress::Notice(notice) = progress {
                notices.push(notice);
            }
        })?;
        Ok(notices)
    }

    /// The one line that export fails with; nothing may be left behind.
    fn refused(&self) -> String {
        let message = self.export(F32).unwrap_err().to_string();
        assert!(!message.contains('\n'), "{message}");
        let left = std::fs::read_dir(self.out.path()).unwrap().count();
        assert_eq!(left, 0, "something was written: {message}");
        message
    }

    /// Gives the tokenizer these added tokens, in the place of the last merges' from id `first` on.
    fn change_added_tokens(&self, first: u32, added: &Value) {
        let mut model = hf::tokenizer()["model"].clone();
        let vocabulary = model["vocab"].as_object_mut().unwrap();
        vocabulary.retain(|_, id| id.as_u64().is_some_and(|id| id < u64::from(first)));
        let merges = model["merges"].as_array_mut().unwrap();
        merges.truncate(first as usize - 256);
        let changes = json!({"added_tokens": added, "model": model});
        self.change("tokenizer.json", &changes);
    }

    /// Replaces fields of a JSON file; null removes one.
    fn change(&self, file: &str, changes: &Value) {
        let path = self.file(file);
        let text = std::fs::read_to_string(&path).unwrap();
        let mut json: Value = serde_json::from_str(&text).unwrap();
        for (key, value) in changes.as_object().unwrap() {
            json[key] = value.clone();
        }
        hf::write_json(&path, &json);
    }
}

fn same_tensors(ours: &Gguf, theirs: &Gguf) {
    let names = |gguf: &Gguf| {
        let mut names: Vec<_> = gguf.tensors().map(|t| t.name.to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names(ours), names(theirs));
    for a in ours.tensors() {
        let b = theirs.tensor(a.name).unwrap();
        assert_eq!((a.dims, a.ty), (b.dims, b.ty), "{}", a.name);
        assert!(a.data == b.data, "{} differs", a.name);
    }
}

fn written_by_hand(dir: &Path, shape: &Shape) -> Gguf {
    let path = dir.join("by-hand.gguf");
    write_gguf(&path, shape);
    Gguf::open(&path).unwrap()
}

#[test]
fn f32_export_is_the_file_written_by_hand() {
    let qwen3 = Shape {
        architecture: "qwen3",
        head_dim: 32,
        ..Shape::default()
    };
    let shapes = [
        Shape::default(),
        Shape {
            tied: true,
            ..Shape::default()
        },
        Shape {
            architecture: "qwen2",
            ..Shape::default()
        },
        qwen3,
        Shape::qwen(),
        Shape {
            trained: Some(64),
            ..Shape::qwen()
        },
    ];
    for shape in shapes {
        let place = ExportFixture::new(&shape);
        assert_eq!(place.export(F32).unwrap(), Vec::<String>::new());
        let ours = Gguf::open(&place.out()).unwrap();
        let by_hand = written_by_hand(place.dir.path(), &shape);
        same_tensors(&ours, &by_hand);
        let run = |gguf: &Gguf| Config::from_gguf(gguf).unwrap();
        assert_eq!(run(&ours), run(&by_hand));
        let (ours, theirs) = (Vocabulary::from_gguf(&ours).unwrap(), vocabulary());
        assert_eq!((&ours.tokens, &ours.types), (&theirs.tokens, &theirs.types));
        assert_eq!((ours.merges, ours.eos), (theirs.merges, theirs.eos));
        assert_eq!((ours.split, ours.add_bos), (theirs.split, false));
    }
}

#[test]
fn half_precision_shards_are_read() {
    let shape = Shape::default();
    for ty in [F16, BF16] {
        let place = ExportFixture::new(&shape);
        std::fs::remove_file(place.file("model.safetensors")).unwrap();
        let mut first = hf::hf_tensors(&shape);
        let second = first.split_off("model.layers.1");
        let mut map = serde_json::Map::new();
        for (name, tensors) in [("a.safetensors", &first), ("b.safetensors", &second)] {
            hf::write_safetensors(&place.file(name), tensors, ty);
            map.extend(tensors.keys().map(|key| (key.clone(), json!(name))));
        }
        let index = place.file("model.safetensors.index.json");
        hf::write_json(&index, &json!({"metadata": {}, "weight_map": map}));
        place.export(F32).unwrap();
        let ours = Gguf::open(&place.out()).unwrap();
        let theirs = written_by_hand(place.dir.path(), &shape);
        for a in ours.tensors() {
            let b = theirs.tensor(a.name).unwrap().to_f32().unwrap();
            for (a, b) in a.to_f32().unwrap().iter().zip(b) {
                assert!((a - b).abs() <= b.abs() / 128.0 + 1e-6);
            }
        }
        map["lm_head.weight"] = json!("../a.safetensors");
        hf::write_json(&index, &json!({"weight_map": map}));
        std::fs::remove_file(place.out()).unwrap();
        assert!(place.refused().contains("is not a file name"));
    }
}

#[test]
fn every_quantization_runs() {
    let shape = Shape::default();
    for (quant, matrices, embeddings) in [
        (F16, F16, F16),
        (BF16, BF16, BF16),
        (Q8_0, Q8_0, Q8_0),
        (Q4_0, Q4_0, Q8_0),
    ] {
        let place = ExportFixture::new(&shape);
        assert!(place.export(quant).unwrap().is_empty());
        let model = Model::open(&place.out()).unwrap();
        let ty = |name: &str| model.engine.gguf().tensor(name).unwrap().ty;
        assert_eq!(ty("token_embd.weight"), embeddings);
        assert_eq!(ty("output.weight"), embeddings);
        assert_eq!(ty("blk.0.attn_q.weight"), matrices);
        assert_eq!(ty("blk.0.attn_norm.weight"), F32);
        let greedy = Sampling::greedy();
        let on_text = |_: &str| std::ops::ControlFlow::Continue(());
        let generation = model.generate("the sea", 8, &greedy, on_text).unwrap();
        assert_eq!(generation.prompt_tokens, 5);
    }
    let place = ExportFixture::new(&shape);
    assert!(place.export(Q4_1).is_err());
}

/// In either way to a packed file, also where the rows of a head or a block are no whole panels.
#[test]
fn packed_export_is_the_packed_file() {
    let odd = Shape {
        head_dim: 8,
        hidden: 32,
        heads: 4,
        kv_heads: 1,
        ..Shape::default()
    };
    let tied = Shape {
        tied: true,
        ..Shape::default()
    };
    for shape in [Shape::default(), tied, odd, Shape::qwen()] {
        for quant in [Q4_0, Q8_0] {
            let place = ExportFixture::new(&shape);
            place.export(quant).unwrap();
            let [packed, made] =
                ["packed.gguf", "made.gguf"].map(|name| place.out.path().join(name));
            pack(&place.out(), &packed, |_, _| {}).unwrap();
            export_as(place.dir.path(), &made, quant, Layout::Rows16, |_| {}).unwrap();
            let (packed, made) = (std::fs::read(packed).unwrap(), std::fs::read(made).unwrap());
            assert!(packed == made, "{shape:?} {quant}");
        }
        let place = ExportFixture::new(&shape);
        let none = export_as(place.dir.path(), &place.out(), F16, Layout::Rows16, |_| {});
        let message = none.unwrap_err().to_string();
        assert!(message.contains("it holds no Q4_0"), "{message}");
        assert!(!place.out().exists());
    }
}

#[test]
fn rows_that_are_no_multiple_of_a_block_stay_f16_with_a_notice() {
    let shape = Shape {
        inner: 72,
        ..Shape::default()
    };
    let place = ExportFixture::new(&shape);
    let notices = place.export(Q4_0).unwrap();
    assert_eq!(notices.len(), 2);
    assert!(notices[0].contains("blk.0.ffn_down.weight"));
    let gguf = Gguf::open(&place.out()).unwrap();
    assert_eq!(gguf.tensor("blk.0.ffn_down.weight").unwrap().ty, F16);
    assert_eq!(gguf.tensor("blk.0.ffn_up.weight").unwrap().ty, Q4_0);
    Model::open(&place.out()).unwrap();
}

#[test]
fn rotary_settings_of_both_transformers_layouts_are_read() {
    let place = ExportFixture::new(&Shape::default());
    let parameters = json!({"rope_type": "default", "rope_theta": 5e5});
    place.change(
        "config.json",
        &json!({"rope_theta": null, "rope_parameters": parameters}),
    );
    place.export(F32).unwrap();
    let gguf = Gguf::open(&place.out()).unwrap();
    assert_eq!(gguf.f32("llama.rope.freq_base").unwrap(), 5e5);

    let scaling = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64
    });
    place.change(
        "config.json",
        &json!({"rope_parameters": null, "rope_scaling": scaling}),
    );
    place.export(F32).unwrap();
    let gguf = Gguf::open(&place.out()).unwrap();
    let divisors = gguf.tensor("rope_freqs.weight").unwrap().to_f32().unwrap();
    assert_eq!(divisors.len(), 8);
    // theta 10000, 16 wide: 64 positions turn the first pair 10.2 times, the fourth 0.32 times.
    assert_eq!((divisors[0], divisors[3], divisors[7]), (1.0, 8.0, 8.0));
    assert!(divisors[1] > 1.0 && divisors[1] < 8.0);
    Model::open(&place.out()).unwrap();

    std::fs::remove_file(place.out()).unwrap();
    let yarn = json!({"rope_type": "yarn", "factor": 8.0});
    place.change("config.json", &json!({"rope_scaling": yarn}));
    assert!(place.refused().contains("\"yarn\" is not supported"));
}

#[test]
fn special_tokens_and_template_come_from_the_side_files() {
    let place = ExportFixture::new(&Shape::default());
    let side = json!({"bos_token": {"content": "<|endoftext|>"}, "chat_template": "{{ x }}"});
    hf::write_json(&place.file("tokenizer_config.json"), &side);
    let template = json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<|endoftext|>"}}, {"Sequence": {"id": "A"}}]
    });
    place.change("tokenizer.json", &json!({"post_processor": template}));
    place.export(F32).unwrap();
    let gguf = Gguf::open(&place.out()).unwrap();
    let vocabulary = Vocabulary::from_gguf(&gguf).unwrap();
    assert_eq!((vocabulary.bos, vocabulary.add_bos), (Some(271), true));
    assert_eq!(gguf.str("tokenizer.chat_template").unwrap(), "{{ x }}");
}

#[test]
fn another_architecture_is_refused() {
    let place = ExportFixture::new(&Shape::default());
    place.change("config.json", &json!({"model_type": "gpt_neox"}));
    assert!(
        place
            .refused()
            .contains("model_type \"gpt_neox\" is not supported")
    );
    place.change(
        "config.json",
        &json!({"model_type": "llama", "hidden_act": "gelu"}),
    );
    assert!(place.refused().contains("hidden_act: \"gelu\""));
    place.change(
        "config.json",
        &json!({"hidden_act": "silu", "attention_bias": true}),
    );
    assert!(place.refused().contains("attention_bias"));
}

/// Readers of `qwen` files, llama.cpp among them, want the head as a tensor.
#[test]
fn a_tied_qwen_gets_its_head_twice() {
    let shape = Shape {
        tied: true,
        ..Shape::qwen()
    };
    let place = ExportFixture::new(&shape);
    place.export(F16).unwrap();
    let gguf = Gguf::open(&place.out()).unwrap();
    let data = |name: &str| gguf.tensor(name).unwrap().data;
    assert!(data("output.weight") == data("token_embd.weight"));
}

#[test]
fn weights_that_f16_cannot_hold_are_refused() {
    let place = ExportFixture::new(&Shape::default());
    let mut tensors = hf::hf_tensors(&Shape::default());
    if let Some((_, values)) = tensors.get_mut("lm_head.weight") {
        values[3] = 70_000.0;
    }
    hf::write_safetensors(&place.file("model.safetensors"), &tensors, F32);
    let message = place.export(F16).unwrap_err().to_string();
    assert!(
        message.contains("lm_head.weight") && message.contains("bf16"),
        "{message}"
    );
    place.export(BF16).unwrap();
}

/// No other reader looks for rope_freqs.weight in a file of these.
#[test]
fn llama3_scaling_of_a_qwen_is_refused() {
    let place = ExportFixture::new(&Shape {
        architecture: "qwen2",
        ..Shape::default()
    });
    let scaling = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64
    });
    place.change("config.json", &json!({"rope_scaling": scaling}));
    assert!(place.refused().contains("llama3"));
}

/// A `qwen.tiktoken` with the 256 bytes alone.
fn byte_ranks() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |bits: u8| char::from(ALPHABET[usize::from(bits)]);
    let line = |byte: u8| format!("{}{}== {byte}\n", digit(byte >> 2), digit((byte & 3) << 4));
    (0..=255).map(line).collect()
}

/// Qwen-7B-Chat's directory has no `tokenizer.json`, and its prompt is in its publisher's code.
#[test]
fn qwen_as_published_exports_with_the_tokenizer_of_its_ranks() {
    const TOKENS: usize = 256 + 3 + 205;
    let shape = Shape::qwen();
    let place = ExportFixture::new(&shape);
    let mut tensors = hf::hf_tensors(&shape);
    for name in ["transformer.wte.weight", "lm_head.weight"] {
        let rows = (
            vec![TOKENS, shape.hidden],
            vec![0.01; TOKENS * shape.hidden],
        );
        assert!(tensors.insert(name.into(), rows).is_some(), "{name}");
    }
    hf::write_safetensors(&place.file("model.safetensors"), &tensors, F32);
    place.change("config.json", &json!({"vocab_size": TOKENS}));
    let _ = std::fs::remove_file(place.file("tokenizer_config.json"));
    std::fs::remove_file(place.file("tokenizer.json")).unwrap();
    std::fs::write(place.file("qwen.tiktoken"), byte_ranks()).unwrap();
    hf::write_json(
        &place.file("generation_config.json"),
        &json!({"chat_format": "chatml", "eos_token_id": 256}),
    );
    place.export(F32).unwrap();
    let model = Model::open(&place.out()).unwrap();
    assert_eq!(model.tokenizer.vocab_size(), TOKENS);
    assert_eq!(model.prompt("ab<|im_end|>").unwrap(), [97, 98, 258]);
    let template = Template::from_gguf(model.engine.gguf(), &model.tokenizer).unwrap();
    let message = |role: &str, content: &str| json!({"role": role, "content": content});
    let messages = [
        message("user", "Hello"),
        message("assistant", "Hi."),
        message("user", "Who?"),
    ];
    let prompt = template.render(&Input {
        messages: &messages,
        tools: None,
        add_generation_prompt: true,
        more: None,
    });
    assert_eq!(
        prompt.unwrap(),
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n\
         <|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nHi.<|im_end|>\n\
         <|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n"
    );
}

#[test]
fn tensors_that_do_not_fit_are_named_together() {
    let place = ExportFixture::new(&Shape::default());
    let mut tensors = hf::hf_tensors(&Shape::default());
    tensors.remove("model.norm.weight");
    tensors.insert("model.extra.weight".into(), (vec![1], vec![1.0]));
    tensors.insert("lm_head.weight".into(), (vec![2, 64], vec![1.0; 128]));
    hf::write_safetensors(&place.file("model.safetensors"), &tensors, F32);
    let message = place.refused();
    assert!(
        message.contains("model.norm.weight is missing"),
        "{message}"
    );
    assert!(
        message.contains("model.extra.weight is not part"),
        "{message}"
    );
    assert!(
        message.contains("lm_head.weight is [2, 64], expected [272, 64]"),
        "{message}"
    );
    place.change(
        "config.json",
        &json!({"num_hidden_layers": 4_000_000_000u32}),
    );
    assert!(place.refused().contains("layers"));
}

#[test]
fn damaged_files_are_refused() {
    let place = ExportFixture::new(&Shape::default());
    let path = place.file("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    for len in [0, 4, 8, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..len]).unwrap();
        assert!(place.refused().contains("model.safetensors"));
    }
    let mut tensors = hf::hf_tensors(&Shape::default());
    if let Some((_, values)) = tensors.get_mut("model.layers.1.mlp.up_proj.weight") {
        values[7] = f32::NAN;
    }
    hf::write_safetensors(&path, &tensors, F32);
    let message = place.refused();
    assert!(
        message.contains("up_proj.weight") && message.contains("NaN"),
        "{message}"
    );
    std::fs::remove_file(&path).unwrap();
    assert!(place.refused().contains("model.safetensors"));
}

/// As Llama 3.1's: several ids, of which tokenizer_config.json names one.
#[test]
fn every_end_of_an_answer_is_exported() {
    let token = |id: u32, content: &str| json!({"id": id, "content": content, "special": true, "normalized": false});
    let added = [
        token(271, "<|endoftext|>"),
        token(268, "<|eot|>"),
        token(269, "<|eom_id|>"),
        token(270, "<|more|>"),
    ];
    let ends = |file: &str, ids: Value, eos: Option<&str>| {
        let place = ExportFixture::new(&Shape::default());
        place.change_added_tokens(268, &json!(added));
        if file != "config.json" {
            hf::write_json(&place.file(file), &json!({}));
        }
        place.change(file, &json!({"eos_token_id": ids}));
        if let Some(eos) = eos {
            hf::write_json(
                &place.file("tokenizer_config.json"),
                &json!({"eos_token": eos}),
            );
        }
        place.export(F32).unwrap();
        let gguf = Gguf::open(&place.out()).unwrap();
        let model = Model::open(&place.out()).unwrap();
        let found = (0..272).filter(|&id| model.tokenizer.is_end_of_generation(id));
        (
            found.collect::<Vec<u32>>(),
            Vocabulary::from_gguf(&gguf).unwrap(),
        )
    };
    for file in ["generation_config.json", "config.json"] {
        let (all, table) = ends(file, json!([271, 268, 269, 270]), Some("<|eot|>"));
        assert_eq!(all, [268, 269, 270, 271], "{file}");
        assert_eq!(
            (table.eos, table.eot, table.eom),
            (Some(268), Some(271), Some(269))
        );
        assert_eq!(table.more_ends, [270]);
        let (all, table) = ends(file, json!([270, 5_000]), None);
        assert!(all.contains(&270), "{file}: {all:?}");
        assert_eq!((table.eos, table.eot), (Some(270), None));
    }
    // one id that is not the tokenizer's
    let (all, table) = ends("generation_config.json", json!(270), Some("<|endoftext|>"));
    assert!(all.contains(&270) && all.contains(&271));
    assert_eq!((table.eos, table.eot), (Some(271), Some(270)));
}

/// A file says whether text is normalized where the name of its rule does not.
#[test]
fn texts_are_normalized_as_the_tokenizer_says() {
    const DECOMPOSED: &str = "e\u{301} A\u{30a}";
    for rule in [SplitRule::Gpt2, SplitRule::DigitsGpt2, SplitRule::Qwen2] {
        for nfc in [false, true] {
            let place = ExportFixture::new(&Shape::default());
            let normalizer = nfc.then(|| json!({"type": "NFC"}));
            place.change(
                "tokenizer.json",
                &json!({"normalizer": normalizer, "pre_tokenizer": rule.to_json()}),
            );
            place.export(F32).unwrap();
            let model = Model::open(&place.out()).unwrap();
            let ours = model.tokenizer.encode(DECOMPOSED, true).unwrap();
            let theirs = tokenizers::Tokenizer::from_file(place.file("tokenizer.json")).unwrap();
            let theirs = theirs.encode(DECOMPOSED, false).unwrap();
            assert_eq!(ours, theirs.get_ids(), "{rule:?} {nfc}");
            assert_eq!(
                model.tokenizer.decode(&ours) == DECOMPOSED,
                !nfc,
                "{rule:?}"
            );
            let key = model.engine.gguf().get("retort.tokenizer.nfc");
            assert_eq!(key.is_some(), nfc != (rule == SplitRule::Qwen2));
        }
    }
}

#[test]
fn overlapping_added_tokens_have_the_ids_of_tokenizers() {
    let place = ExportFixture::new(&Shape::default());
    let token = |id: u32, content: &str, special: bool| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": special
        })
    };
    let added = json!([
        token(266, "ab", false),
        token(267, "bcd", false),
        token(268, "abx", false),
        token(269, "<x>", true),
        token(270, "x>y", false),
        token(271, "<|endoftext|>", true),
    ]);
    place.change_added_tokens(266, &added);
    place.export(F32).unwrap();
    let model = Model::open(&place.out()).unwrap();
    let mut theirs = tokenizers::Tokenizer::from_file(place.file("tokenizer.json")).unwrap();
    for text in [
        "abcd",
        "abxbcd",
        "aabcd",
        "<x>y",
        "<<x>>y",
        "x>y<x>",
        "bcdabcd abx",
    ] {
        for special in [true, false] {
            theirs.set_encode_special_tokens(!special);
            let expected = theirs.encode(text, false).unwrap().get_ids().to_vec();
            let ours = model.tokenizer.encode(text, special).unwrap();
            assert_eq!(ours, expected, "{text} {special}");
        }
    }
}

#[test]
fn tokenizers_that_gguf_cannot_name_are_refused() {
    let refused = |changes: Value| {
        let place = ExportFixture::new(&Shape::default());
        place.change("tokenizer.json", &changes);
        place.refused()
    };
    assert!(refused(json!({"pre_tokenizer": {"type": "Metaspace"}})).contains("Metaspace"));
    assert!(refused(json!({"normalizer": {"type": "Lowercase"}})).contains("Lowercase"));
    assert!(refused(json!({"model": {"type": "Unigram"}})).contains("Unigram"));
    let token = json!([{"id": 272, "content": "<far>", "special": true}]);
    assert!(refused(json!({"added_tokens": token})).contains("<far>"));
    let added = |late: &str, early: &str| {
        let token = |id: u32, content: &str, normalized: bool| json!({"id": id, "content": content, "normalized": normalized});
        let place = ExportFixture::new(&Shape::default());
        let tokens = [token(270, late, true), token(271, early, false)];
        place.change_added_tokens(270, &json!(tokens));
        place.export(F32).map_err(|error| error.to_string())
    };
    for (late, early) in [("ab", "bcd"), ("abcd", "bc"), ("abx", "ab")] {
        assert!(
            added(late, early).unwrap_err().contains("normalized"),
            "{late} {early}"
        );
    }
    for (late, early) in [
        ("bcd", "ab"),
        ("bc", "abcd"),
        ("ab", "cd"),
        ("    ", "<|x|>"),
    ] {
        added(late, early).unwrap();
    }
    for flag in ["lstrip", "rstrip", "single_word"] {
        let token = json!([{"id": 271, "content": "<tool>", "special": false, flag: true}]);
        assert!(refused(json!({"added_tokens": token})).contains(flag));
    }
    let place = ExportFixture::new(&Shape::default());
    std::fs::write(place.file("tokenizer.json"), "{").unwrap();
    assert!(place.refused().contains("tokenizer.json"));
}
