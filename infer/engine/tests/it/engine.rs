//! The engine against a plain f64 decoder, and against itself cut differently.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;

use retort_engine::Model;
use retort_engine::decode::DecodeOptions;
use retort_engine::decoder::{Engine, EngineSettings, KvType, PastTrained};
use retort_engine::sampling::Sampling;
use retort_engine::speculate::{DraftModel, Drafter, Lookup};
use retort_format::GgmlType;
use retort_format::gguf::Gguf;
use retort_test_kit::{Shape, reference, write_gguf, write_gguf_where, write_gguf_with};

/// With keys and values in single precision, so that what is compared is the arithmetic.
fn engine(shape: &Shape) -> Engine {
    engine_with(shape, 2, KvType::F32)
}

fn engine_with(shape: &Shape, threads: usize, kv: KvType) -> Engine {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    write_gguf(&path, shape);
    let settings = EngineSettings::new(NonZeroUsize::new(threads), false, kv).unwrap();
    Engine::with(Gguf::open(&path).unwrap(), settings).unwrap()
}

fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| i.wrapping_mul(97) % 272).collect()
}

fn all_logits(engine: &Engine, tokens: &[u32]) -> Vec<Vec<f32>> {
    let mut logits = Vec::new();
    let mut session = engine.session(tokens.len()).unwrap();
    let visit = |_, rows: &[f32]| logits.extend(rows.chunks_exact(272).map(<[f32]>::to_vec));
    session.forward_all(tokens, 0, visit).unwrap();
    logits
}

/// The largest difference over all positions, relative to the largest logit.
fn difference(ours: &[Vec<f32>], theirs: &[Vec<f64>]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let flat = theirs.iter().flatten();
    let largest = flat.clone().fold(0f64, |max, logit| max.max(logit.abs()));
    let pairs = ours.iter().flatten().zip(flat);
    pairs.fold(0f64, |max, (a, b)| max.max((f64::from(*a) - b).abs())) / largest
}

fn holds_to_the_reference(shape: &Shape, tolerance: f64) {
    let (engine, tokens) = (engine(shape), tokens(24));
    let theirs = reference::logits(engine.gguf(), shape, &tokens);
    let difference = difference(&all_logits(&engine, &tokens), &theirs);
    assert!(difference < tolerance, "{shape:?}: {difference:e}");
}

#[test]
fn branches_are_as_if_each_came_alone() {
    for shape in [Shape::default(), Shape::qwen()] {
        let engine = engine(&shape);
        let mut session = engine.session(200).unwrap();
        let branches = [&tokens(9)[4..], &[], &tokens(80)[5..], &tokens(8)[7..]];
        assert!(session.forward_branches(&branches, |_, _| ()).is_err());
        let before = tokens(40);
        session.forward(&before).unwrap();
        let mut found = Vec::new();
        let visit = |first: usize, rows: &[f32]| {
            assert_eq!(first, found.len());
            found.extend(rows.chunks_exact(272).map(<[f32]>::to_vec));
        };
        session.forward_branches(&branches, visit).unwrap();
        assert_eq!(session.len(), before.len());
        let mut alone = Vec::new();
        for branch in branches {
            let whole = [&before, branch].concat();
            alone.extend(all_logits(&engine, &whole).split_off(before.len()));
        }
        let alone: Vec<Vec<f64>> = alone
            .iter()
            .map(|row| row.iter().map(|&logit| f64::from(logit)).collect())
            .collect();
        assert!(difference(&found, &alone) < 1e-5);
        // Nothing of them stays.
        let next = session.forward(&[7]).unwrap().to_vec();
        let whole = [&before[..], &[7]].concat();
        let expected = all_logits(&engine, &whole).pop().unwrap();
        let expected = expected.iter().map(|&logit| f64::from(logit)).collect();
        assert!(difference(&[next], &[expected]) < 1e-5);
        let too_long = vec![1; 160];
        assert!(session.forward_branches(&[&too_long], |_, _| ()).is_err());
    }
}

#[test]
fn llama_is_the_reference() {
    holds_to_the_reference(&Shape::default(), 1e-5);
    let tied = Shape {
        tied: true,
        ..Shape::default()
    };
    holds_to_the_reference(&tied, 1e-5);
}

#[test]
fn rotary_scaling_is_the_reference() {
    let divided = Shape {
        rope_freqs: true,
        ..Shape::default()
    };
    holds_to_the_reference(&divided, 1e-5);
    let linear = Shape {
        rope_factor: Some(2.5),
        ..Shape::default()
    };
    holds_to_the_reference(&linear, 1e-5);
}

#[test]
fn qwen_is_the_reference() {
    let qwen2 = Shape {
        architecture: "qwen2",
        tied: true,
        ..Shape::default()
    };
    holds_to_the_reference(&qwen2, 1e-5);
    let qwen3 = Shape {
        architecture: "qwen3",
        head_dim: 32,
        ..Shape::default()
    };
    holds_to_the_reference(&qwen3, 1e-5);
    holds_to_the_reference(&Shape::qwen(), 1e-5);
}

#[test]
fn the_first_qwen_stretches_past_its_trained_length() {
    // 24 tokens: within, at the end, once and twice past a doubling.
    for trained in [32, 24, 23, 12, 11, 5] {
        let shape = Shape {
            trained: Some(trained),
            ..Shape::qwen()
        };
        holds_to_the_reference(&shape, 1e-5);
    }
    let past = PastTrained {
        trained_length: 8192,
        dynamic_ntk: true,
        logn: true,
    };
    let alphas = [1, 8192, 8193, 16_384, 16_385, 32_768].map(|n| past.ntk_alpha(n));
    assert_eq!(alphas, [1.0, 1.0, 3.0, 3.0, 7.0, 7.0]);
    assert_eq!((past.query_scale(8191), past.query_scale(0)), (1.0, 1.0));
    assert!((past.query_scale(16_383) - 14.0 / 13.0).abs() < 1e-6);
}

/// The prompt decides; what is generated after it goes on with the same frequencies.
#[test]
fn the_frequencies_of_a_sequence_are_those_of_its_prompt() {
    let engine = engine(&Shape {
        trained: Some(12),
        ..Shape::qwen()
    });
    let tokens = tokens(20);
    let logits = |first: usize| {
        let mut session = engine.session(20).unwrap();
        session.forward(&tokens[..first]).unwrap();
        session.forward(&tokens[first..]).unwrap().to_vec()
    };
    let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
    assert!(
        near(&logits(13), &logits(16)),
        "both prompts are stretched alike"
    );
    assert!(
        !near(&logits(12), &logits(13)),
        "the shorter one is not stretched"
    );
}

#[test]
fn rotary_factors_are_read_as_llama_cpp_reads_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    let factor = |change: fn(&mut retort_format::gguf::Writer)| {
        retort_test_kit::write_gguf_changed(&path, &Shape::default(), change);
        let engine = Engine::new(Gguf::open(&path).unwrap());
        engine.map(|engine| engine.config().rope_factor)
    };
    assert_eq!(factor(|_| {}).unwrap(), 1.0);
    let alone = factor(|w| w.set("llama.rope.scaling.factor", 4.0f32).unwrap());
    assert_eq!(alone.unwrap(), 4.0);
    let older = factor(|w| w.set("llama.rope.scale_linear", 2.0f32).unwrap());
    assert_eq!(older.unwrap(), 2.0);
    let zero = factor(|w| w.set("llama.rope.scaling.factor", 0.0f32).unwrap());
    assert_eq!(zero.unwrap(), 1.0);
    let none = factor(|w| {
        w.set("llama.rope.scaling.type", "none").unwrap();
        w.set("llama.rope.scaling.factor", 4.0f32).unwrap();
    });
    assert_eq!(none.unwrap(), 1.0);
    assert!(factor(|w| w.set("llama.rope.scaling.type", "yarn").unwrap()).is_err());
    assert!(factor(|w| w.set("llama.rope.scaling.attn_factor", 1.1f32).unwrap()).is_err());
}

#[test]
fn rows_that_are_no_multiple_of_a_block_run_in_floats() {
    let odd = Shape {
        hidden: 40,
        inner: 72,
        head_dim: 10,
        ..Shape::default()
    };
    holds_to_the_reference(&odd, 1e-5);
    let half = Shape {
        ty: GgmlType::F16,
        ..odd
    };
    holds_to_the_reference(&half, 1e-5);
}

#[test]
fn quantized_weights_differ_by_the_rounding_of_activations() {
    for ty in [GgmlType::Q8_0, GgmlType::Q4_0, GgmlType::Q4_1] {
        holds_to_the_reference(
            &Shape {
                ty,
                ..Shape::default()
            },
            0.06,
        );
    }
}

/// How far the last logits of each piece of `cut` tokens are from those of the text at once.
fn cut_apart(engine: &Engine, tokens: &[u32], cut: usize) -> f64 {
    let whole = all_logits(engine, tokens);
    let mut session = engine.session(tokens.len()).unwrap();
    let (mut ours, mut expected) = (Vec::new(), Vec::new());
    for (index, piece) in tokens.chunks(cut).enumerate() {
        ours.push(session.forward(piece).unwrap().to_vec());
        let last: &[f32] = &whole[index * cut + piece.len() - 1];
        expected.push(last.iter().copied().map(f64::from).collect());
    }
    difference(&ours, &expected)
}

/// Floats are added in another order when tokens come one by one. In int8 activations that order
/// can decide a rounding, so quantized weights are held to a looser bound.
#[test]
fn a_text_cut_anywhere_gives_the_same_logits() {
    for (ty, tolerance) in [(GgmlType::F32, 1e-5), (GgmlType::Q4_0, 0.03)] {
        let engine = engine(&Shape {
            ty,
            ..Shape::default()
        });
        for cut in [1, 7, 150] {
            let apart = cut_apart(&engine, &tokens(300), cut);
            assert!(apart < tolerance, "{ty}, cut {cut}: {apart:e}");
        }
    }
}

/// Blocks became quantized when a chunk of 256 tokens had come in whole, before its first query looked
/// for them: a prompt gave other logits (by 5e-2) than the same tokens one by one. What is left is integers that fall the
/// other way.
#[test]
fn quantized_keys_and_values_are_the_same_however_a_text_comes_in() {
    for kv in [KvType::Q8, KvType::Q4] {
        let shape = Shape {
            head_dim: 32,
            ..Shape::default()
        };
        let engine = engine_with(&shape, 2, kv);
        for cut in [1, 45, 150] {
            let apart = cut_apart(&engine, &tokens(300), cut);
            assert!(apart < 5e-3, "{kv:?}, cut {cut}: {apart:e}");
        }
    }
}

/// More tokens than go through the layers together.
#[test]
fn what_the_layers_answer_gives_the_same_logits_for_a_long_text() {
    for shape in [Shape::default(), Shape::qwen()] {
        let engine = engine(&shape);
        let tokens = tokens(300);
        let mut session = engine.session(400).unwrap();
        let mut hidden = vec![0.5; 3];
        session.hidden(&tokens, &mut hidden).unwrap();
        assert_eq!(session.len(), 300);
        let logits = engine.logits(&hidden[3..]).unwrap();
        let logits: Vec<Vec<f32>> = logits.chunks_exact(272).map(<[f32]>::to_vec).collect();
        assert_eq!(logits, all_logits(&engine, &tokens), "{shape:?}");
    }
}

/// Long enough for several blocks, and for two stretches of positions that are merged. The bounds
/// are on the mean, relative to the logits' mean size; unrelated logits would differ by more than 1.
#[test]
fn formats_of_keys_and_values_cost_little() {
    let tokens = tokens(700);
    let shape = Shape {
        context: 1024,
        head_dim: 32,
        ..Shape::default()
    };
    let exact = all_logits(&engine(&shape), &tokens);
    for (kv, tolerance) in [(KvType::F16, 2e-3), (KvType::Q8, 0.05), (KvType::Q4, 0.5)] {
        let ours = all_logits(&engine_with(&shape, 2, kv), &tokens);
        let pairs = || ours.iter().flatten().zip(exact.iter().flatten());
        let size: f32 = pairs().map(|(_, exact)| exact.abs()).sum();
        let difference = pairs().map(|(a, b)| (a - b).abs()).sum::<f32>() / size;
        assert!(difference < tolerance, "{kv:?}: {difference:e}");
        assert!(
            difference > 0.0,
            "{kv:?} is no different from single precision"
        );
    }
}

/// Whoever computes which part: the same bits, decoding and prefill, past several stretches.
#[test]
fn threads_do_not_change_a_result() {
    for kv in [KvType::F16, KvType::Q8] {
        let shape = Shape {
            ty: GgmlType::Q4_0,
            context: 2048,
            ..Shape::default()
        };
        let run = |threads| {
            let engine = engine_with(&shape, threads, kv);
            let mut session = engine.session(1400).unwrap();
            let mut logits = session.forward(&tokens(1300)).unwrap().to_vec();
            for token in 0..5 {
                logits.extend_from_slice(session.forward(&[token]).unwrap());
            }
            logits
        };
        let one = run(1);
        assert_eq!(run(2), one, "{kv:?}");
        assert_eq!(run(5), one, "{kv:?}");
    }
}

/// A packed file holds the same weights, and gives the same logits up to the order of additions.
#[test]
fn a_packed_file_answers_alike() {
    let directory = tempfile::tempdir().unwrap();
    let (plain, packed) = (
        directory.path().join("a.gguf"),
        directory.path().join("b.gguf"),
    );
    let types = [GgmlType::Q4_0, GgmlType::Q4_1, GgmlType::Q8_0];
    let shapes = types.into_iter().flat_map(|ty| {
        [
            (false, Shape::default()),
            (true, Shape::default()),
            (false, Shape::qwen()),
        ]
        .map(|(tied, shape)| Shape { ty, tied, ..shape })
    });
    for shape in shapes {
        write_gguf(&plain, &shape);
        let made = retort_convert::pack::pack(&plain, &packed, |_, _| {}).unwrap();
        assert!(made.matrices > 8 && made.others > 0, "{made:?}");
        let open = |path: &std::path::Path| Engine::new(Gguf::open(path).unwrap()).unwrap();
        let expected: Vec<Vec<f64>> = all_logits(&open(&plain), &tokens(40))
            .iter()
            .map(|row| row.iter().copied().map(f64::from).collect())
            .collect();
        let difference = difference(&all_logits(&open(&packed), &tokens(40)), &expected);
        assert!(difference < 0.03, "{shape:?}: {difference:e}");
        // it cannot be packed twice, and other readers find no tensor under its own name
        let again = retort_convert::pack::pack(&packed, &plain, |_, _| {}).unwrap_err();
        assert!(again.to_string().contains("is packed"), "{again}");
        let gguf = Gguf::open(&packed).unwrap();
        for name in ["blk.0.ffn_up.weight", "token_embd.weight"] {
            assert!(!gguf.has_tensor(name) && gguf.has_tensor(&format!("{name}.rows16")));
        }
    }
    write_gguf(&plain, &Shape::default());
    let none = retort_convert::pack::pack(&plain, &packed, |_, _| {}).unwrap_err();
    assert!(none.to_string().contains("nothing to pack"), "{none}");
}

/// With a drafter that is always right, one that is half right and one that is never: the same
/// tokens, in fewer passes where it is right.
#[test]
fn guessing_ahead_does_not_change_a_text() {
    struct Replay(Vec<u32>, u32);
    impl Drafter for Replay {
        fn draft(&mut self, text: &[u32], n: usize) -> retort_format::Result<Vec<u32>> {
            let end = (text.len() + n).min(self.0.len());
            let right = self.0[text.len().min(end)..end].iter().enumerate();
            let wrong = |(i, id): (usize, &u32)| match self.1 {
                0 => *id,
                1 => (id + i as u32 % 2) % 272,
                _ => (id + 1) % 272,
            };
            Ok(right.map(wrong).collect())
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    let shape = Shape {
        ty: GgmlType::Q4_0,
        ..Shape::default()
    };
    write_gguf(&path, &shape);
    let model = Model::open(&path).unwrap();
    for temperature in [0.0, 1.5] {
        let sampling = Sampling {
            temperature,
            seed: 3,
            ..Sampling::default()
        };
        let prompt = tokens(9);
        let go = |drafter: Option<&mut dyn Drafter>| {
            let options = DecodeOptions::new(60, &sampling);
            let drafter = drafter.map(|drafter| Box::new(drafter) as Box<dyn Drafter>);
            model
                .generate_as(&prompt, options, drafter, |_, _| ControlFlow::Continue(()))
                .unwrap()
        };
        let plain = go(None);
        assert!(plain.tokens.len() > 8);
        let mut whole = prompt.clone();
        whole.extend(&plain.tokens);
        let mut passes = Vec::new();
        for wrong in 0..3 {
            let guessed = go(Some(&mut Replay(whole.clone(), wrong)));
            assert_eq!(guessed.tokens, plain.tokens, "{temperature} {wrong}");
            passes.push(guessed.decode_steps);
        }
        assert!(
            passes[0] * 4 < plain.decode_steps && passes[0] < passes[1],
            "{passes:?}"
        );
        assert_eq!(passes[2], plain.decode_steps);
        // the model as its own drafter, and the text so far
        let mut itself = DraftModel::new(&model, &model, 100).unwrap();
        let guessed = go(Some(&mut itself));
        assert_eq!(guessed.tokens, plain.tokens);
        assert!(temperature > 0.0 || guessed.speculated.accepted == guessed.speculated.drafted);
        assert_eq!(go(Some(&mut Lookup::default())).tokens, plain.tokens);
    }
}

#[test]
fn truncating_goes_back() {
    let engine = engine(&Shape::default());
    let tokens = tokens(40);
    let mut session = engine.session(64).unwrap();
    session.forward(&tokens[..20]).unwrap();
    let first = session.forward(&tokens[20..]).unwrap().to_vec();
    session.truncate(20);
    assert_eq!(session.len(), 20);
    assert_eq!(session.forward(&tokens[20..]).unwrap(), first);
    session.truncate(0);
    assert!(session.is_empty());
}

#[test]
fn what_does_not_fit_is_an_error() {
    let engine = engine(&Shape::default());
    let mut session = engine.session(4).unwrap();
    let message = session.forward(&[1; 5]).unwrap_err().to_string();
    assert!(message.contains("context of 4"), "{message}");
    let message = session.forward(&[272]).unwrap_err().to_string();
    assert!(message.contains("token 272"), "{message}");
    assert!(session.forward(&[]).is_err());
    assert!(session.is_empty());
    assert!(engine.session(0).is_err());
    assert!(engine.session(usize::MAX).is_err());
    assert!(engine.session(1 << 50).is_err());
}

#[test]
fn every_missing_tensor_is_named_in_one_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    let missing = ["blk.0.attn_k.weight", "blk.1.ffn_norm.weight"];
    write_gguf_where(&path, &Shape::default(), |name| !missing.contains(&name));
    let error = Engine::new(Gguf::open(&path).unwrap()).unwrap_err();
    let message = error.to_string();
    assert!(!message.contains('\n'));
    for name in missing {
        assert!(message.contains(&format!("{name} is missing")), "{message}");
    }
}

/// What would be passed over makes other numbers than the file's author had.
#[test]
fn a_tensor_that_the_engine_does_not_use_is_an_error_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    let open = |shape: &Shape, more: &[(&str, usize)]| {
        write_gguf_with(&path, shape, more);
        let opened = Engine::new(Gguf::open(&path).unwrap());
        opened.map(|_| ()).map_err(|error| error.to_string())
    };
    let llama = Shape::default();
    let of = |architecture| Shape {
        architecture,
        ..Shape::default()
    };
    let tied = Shape {
        tied: true,
        ..Shape::default()
    };
    for (shape, name, size) in [
        (&llama, "blk.1.attn_output.bias", 64),
        (&llama, "blk.0.ffn_gate.bias", 96),
        (&llama, "blk.0.ffn_up.bias", 96),
        (&llama, "blk.0.ffn_down.bias", 64),
        (&llama, "output.bias", 272),
        (&tied, "output.bias", 272),
        (&llama, "output_norm.bias", 64),
        (&llama, "blk.0.attn_norm.bias", 64),
        (&llama, "blk.0.attn_q_norm.weight", 16),
        (&llama, "blk.0.attn_q.scale", 1),
        (&llama, "blk.2.attn_norm.weight", 64),
        (&llama, "rope_factors_long.weight", 8),
        (&of("qwen2"), "blk.0.attn_output.bias", 64),
        (&of("qwen3"), "blk.0.attn_output.bias", 64),
        (&Shape::qwen(), "blk.0.attn_output.bias", 64),
        (&Shape::qwen(), "blk.0.attn_q.bias", 64),
    ] {
        let message = open(shape, &[(name, size)]).unwrap_err();
        let said = format!("{name} has no place");
        assert!(message.contains(&said), "{message}");
        assert!(!message.contains('\n'));
    }
    // biases of q, k and v are used, all three of them
    let qkv = [
        ("blk.0.attn_q.bias", 64),
        ("blk.0.attn_k.bias", 32),
        ("blk.0.attn_v.bias", 32),
    ];
    open(&llama, &qkv).unwrap();
    for index in 0..3 {
        let message = open(&llama, &qkv[index..=index]).unwrap_err();
        for (other, _) in qkv.iter().filter(|(name, _)| *name != qkv[index].0) {
            assert!(
                message.contains(&format!("{other} is missing")),
                "{message}"
            );
        }
    }
}

/// The keys of llama.cpp's files, and retort's own for what has none.
#[test]
fn every_end_of_an_answer_in_a_file_counts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    let ends = |change: fn(&mut retort_format::gguf::Writer)| {
        retort_test_kit::write_gguf_changed(&path, &Shape::default(), change);
        let tokenizer = Model::open(&path).unwrap().tokenizer;
        let ends = (0..272).filter(|&id| tokenizer.is_end_of_generation(id));
        ends.collect::<Vec<u32>>()
    };
    assert_eq!(ends(|_| {}), [271]);
    let all = ends(|w| {
        w.set("tokenizer.ggml.eot_token_id", 256u32).unwrap();
        w.set("tokenizer.ggml.eom_token_id", 258u32).unwrap();
        w.set("retort.eos_token_ids", vec![261u32, 260]).unwrap();
    });
    assert_eq!(all, [256, 258, 260, 261, 271]);
    // an id that no token has is as if it were not there
    let none = ends(|w| {
        for name in ["padding", "eot", "eom", "bos"] {
            let key = format!("tokenizer.ggml.{name}_token_id");
            w.set(&key, u32::MAX).unwrap();
        }
    });
    assert_eq!(none, [271]);
    let none = ends(|w| w.set("tokenizer.ggml.padding_token_id", -1i32).unwrap());
    assert_eq!(none, [271]);
    let refused = |change: fn(&mut retort_format::gguf::Writer)| {
        retort_test_kit::write_gguf_changed(&path, &Shape::default(), change);
        Model::open(&path).err().unwrap().to_string()
    };
    let message = refused(|w| w.set("tokenizer.ggml.eos_token_id", 272u32).unwrap());
    assert!(message.contains("eos_token_id"), "{message}");
    let message = refused(|w| w.set("retort.eos_token_ids", vec![272u32]).unwrap());
    assert!(message.contains("retort.eos_token_ids"), "{message}");
}

#[test]
fn metadata_that_contradicts_the_tensors_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model.gguf");
    let wrong = |change: fn(&mut retort_format::gguf::Writer)| {
        retort_test_kit::write_gguf_changed(&path, &Shape::default(), change);
        Engine::new(Gguf::open(&path).unwrap())
            .unwrap_err()
            .to_string()
    };
    let message = wrong(|w| w.set("llama.embedding_length", 32u32).unwrap());
    assert!(
        message.contains("has shape [64, 272], not [32, 272]"),
        "{message}"
    );
    let message = wrong(|w| w.set("llama.block_count", u32::MAX).unwrap());
    assert!(message.contains("llama.block_count"), "{message}");
    let message = wrong(|w| w.set("llama.attention.head_count", 0u32).unwrap());
    assert!(message.contains("llama.attention.head_count"), "{message}");
    let message = wrong(|w| w.set("llama.attention.head_count_kv", 3u32).unwrap());
    assert!(message.contains("head_count_kv"), "{message}");
    let message = wrong(|w| w.set("llama.rope.freq_base", -1.0f32).unwrap());
    assert!(message.contains("llama.rope.freq_base"), "{message}");
    let message = wrong(|w| w.set("llama.rope.dimension_count", 7u32).unwrap());
    assert!(message.contains("rope.dimension_count"), "{message}");
    let message = wrong(|w| w.set("llama.expert_count", 8u32).unwrap());
    assert!(message.contains("experts"), "{message}");
    let message = wrong(|w| w.set("general.architecture", "mamba").unwrap());
    assert!(
        message.contains("architecture mamba is not supported"),
        "{message}"
    );
}
