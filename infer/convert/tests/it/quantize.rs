//! Quantization: types by recipe, budgets, calibration, and how far a file is from its parent.

use std::path::{Path, PathBuf};

use retort_convert::calibrate;
use retort_convert::calibrate::Calibration;
use retort_convert::export::export;
use retort_convert::pack::pack;
use retort_convert::quantize::{Recipe, Rotation, Texts, quantize};
use retort_convert::source::GgufSource;
use retort_convert::{Converted, Progress};
use retort_engine::Model;
use retort_engine::decoder::{Engine, EngineSettings, KvType};
use retort_engine::divergence::divergence;
use retort_format::GgmlType::*;
use retort_format::gguf::Gguf;
use retort_format::gguf::panels::Layout;
use retort_format::{GgmlType, Result};
use retort_test_kit::{Shape, hf, text, write_gguf};
use tempfile::TempDir;

/// A parent in F32, and a place to write to.
struct QuantizeFixture {
    dir: TempDir,
    parent: PathBuf,
}

impl QuantizeFixture {
    fn new(shape: &Shape) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let parent = dir.path().join("parent.gguf");
        write_gguf(&parent, shape);
        Self { dir, parent }
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out.gguf")
    }

    fn quantize(
        &self,
        recipe: &Recipe,
        calibrated: Option<calibrate::CalibrationSettings>,
    ) -> Result<Converted> {
        quantize_from(&self.parent, &self.out(), recipe, calibrated)
    }
}

fn settings() -> EngineSettings {
    EngineSettings::new(None, false, KvType::F32).unwrap()
}

fn quantize_from(
    parent: &Path,
    out: &Path,
    recipe: &Recipe,
    calibrated: Option<calibrate::CalibrationSettings>,
) -> Result<Converted> {
    let mut documents = (0..).map(|i| Ok(text(i)));
    let texts = calibrated.map(|settings| Texts {
        documents: &mut documents,
        tokens: 4096,
        settings,
    });
    quantize(parent, out, recipe, texts, settings(), |_| {})
}

fn small() -> calibrate::CalibrationSettings {
    calibrate::CalibrationSettings {
        context: 64,
        ..calibrate::CalibrationSettings::default()
    }
}

fn recipe(quant: GgmlType) -> Recipe {
    Recipe::new(quant).unwrap()
}

fn ty(gguf: &Gguf, name: &str) -> GgmlType {
    gguf.tensor(name).unwrap().ty
}

#[test]
fn a_recipe_says_what_each_tensor_is() {
    let place = QuantizeFixture::new(&Shape::default());
    let recipe = recipe(Q4_0)
        .tensor("blk.*.ffn_down.weight=q8_0")
        .and_then(|recipe| recipe.tensor("blk.1.*=f16"))
        .and_then(|recipe| recipe.tensor("token_embd.weight=Q4_1"))
        .unwrap();
    place.quantize(&recipe, None).unwrap();
    let gguf = Gguf::open(&place.out()).unwrap();
    for (name, want) in [
        ("token_embd.weight", Q4_1),
        ("output.weight", Q8_0),
        ("blk.0.attn_q.weight", Q4_0),
        ("blk.0.ffn_down.weight", Q8_0),
        ("blk.1.ffn_down.weight", F16),
        ("blk.1.attn_norm.weight", F32),
    ] {
        assert_eq!(ty(&gguf, name), want, "{name}");
    }
    Model::open(&place.out()).unwrap();
}

#[test]
fn export_and_quantize_agree() {
    let (place, dir) = (
        QuantizeFixture::new(&Shape::default()),
        tempfile::tempdir().unwrap(),
    );
    hf::write_directory(dir.path(), &Shape::default());
    for quant in [Q4_0, Q8_0] {
        let exported = place.dir.path().join("exported.gguf");
        export(dir.path(), &exported, quant, |_| {}).unwrap();
        quantize_from(dir.path(), &place.out(), &recipe(quant), None).unwrap();
        let exported = Gguf::open(&exported).unwrap();
        for tensor in Gguf::open(&place.out()).unwrap().tensors() {
            let other = exported.tensor(tensor.name).unwrap();
            assert!(tensor.data == other.data, "{}", tensor.name);
        }
    }
    // what stood beside it on the way is gone: parent, exported, out
    assert_eq!(std::fs::read_dir(place.dir.path()).unwrap().count(), 3);
}

#[test]
fn searched_scales_bring_the_weights_nearer() {
    let place = QuantizeFixture::new(&Shape::default());
    let parent = Gguf::open(&place.parent).unwrap();
    for quant in [Q4_0, Q4_1, Q8_0] {
        let lost = [recipe(quant), recipe(quant).search_scales()].map(|recipe| {
            place.quantize(&recipe, None).unwrap();
            let gguf = Gguf::open(&place.out()).unwrap();
            let of = |gguf: &Gguf| {
                let tensor = gguf.tensor("blk.0.ffn_gate.weight").unwrap();
                assert!([quant, F32].contains(&tensor.ty));
                tensor.to_f32().unwrap()
            };
            let pairs = of(&gguf).into_iter().zip(of(&parent));
            pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>()
        });
        assert!(lost[1] < 0.97 * lost[0], "{quant}: {lost:?}");
    }
}

#[test]
fn the_budget_is_met_and_spent() {
    let place = QuantizeFixture::new(&Shape::default());
    let least = place.quantize(&recipe(Q4_0), None).unwrap().bits_per_weight;
    let mut last = least;
    for more in [0.3, 1.0, 3.0] {
        let budget = recipe(Q4_0).bits_per_weight(least + more).unwrap();
        let written = place.quantize(&budget, None).unwrap();
        assert!(written.bits_per_weight <= least + more);
        assert!(written.bits_per_weight > last);
        last = written.bits_per_weight;
    }
    let refused = recipe(Q4_0).bits_per_weight(least - 0.5).unwrap();
    let message = place.quantize(&refused, None).unwrap_err().to_string();
    assert!(message.contains("is the least"), "{message}");
}

/// The engine's forward pass and calibration's are the same, for every architecture.
#[test]
fn calibration_computes_what_the_engine_does() {
    let of = |architecture| Shape {
        architecture,
        ..Shape::default()
    };
    let freqs = Shape {
        rope_freqs: true,
        tied: true,
        ..Shape::default()
    };
    for shape in [freqs, of("qwen2"), of("qwen3"), Shape::qwen()] {
        let place = QuantizeFixture::new(&shape);
        let engine = Engine::with(Gguf::open(&place.parent).unwrap(), settings()).unwrap();
        let tokens: Vec<u32> = (0..128).map(|i| i * 37 % 270).collect();
        let table = engine
            .gguf()
            .tensor("token_embd.weight")
            .unwrap()
            .to_f32()
            .unwrap();
        let row = |token: u32, out: &mut [f32]| {
            out.copy_from_slice(&table[token as usize * 64..][..64]);
            Ok(())
        };
        let (source, pool) = (
            GgufSource::open(&place.parent, &settings()).unwrap(),
            settings().pool,
        );
        let mut calibration = Calibration::new(&source, &pool, &small(), &tokens, row).unwrap();
        for _ in 0..shape.layers {
            calibration.next_layer(|_| F32).unwrap();
        }
        assert!(calibration.next_layer(|_| F32).is_err());
        let mut want = Vec::new();
        for window in tokens.chunks(64) {
            engine
                .session(64)
                .unwrap()
                .hidden(window, &mut want)
                .unwrap();
        }
        for (got, want) in calibration.states().iter().zip(&want) {
            assert!(
                (got - want).abs() < 2e-4 * (1.0 + want.abs()),
                "{got} for {want}: {shape:?}"
            );
        }
    }
}

#[test]
fn calibration_brings_a_file_nearer_to_its_parent() {
    for shape in [Shape::default(), Shape::qwen()] {
        let place = QuantizeFixture::new(&shape);
        let plain = place.dir.path().join("plain.gguf");
        for quant in [Q4_0, Q4_1] {
            quantize_from(&place.parent, &plain, &recipe(quant), None).unwrap();
            place.quantize(&recipe(quant), Some(small())).unwrap();
            let open = |path: &Path| Model::open_with(path, settings()).unwrap();
            let models = [open(&plain), open(&place.out()), open(&place.parent)];
            let held_out: String = (1000..1004).map(text).collect();
            let results = divergence(
                &open(&place.parent),
                &models,
                &held_out,
                64,
                None,
                |_, _| {},
            );
            let kl: Vec<_> = results
                .unwrap()
                .iter()
                .map(|r| r.mean_kl_divergence)
                .collect();
            assert!(kl[1] < 0.8 * kl[0], "{quant}: {kl:?}");
            assert!(
                kl[2].abs() < 1e-9,
                "a model is no distance from itself: {kl:?}"
            );
        }
    }
}

/// Eight bits lose so little that a layer which computes something else would show.
#[test]
fn balanced_layers_compute_what_they_did() {
    let of = |architecture| Shape {
        architecture,
        ..Shape::default()
    };
    let mut is_balanced = false;
    for shape in [Shape::default(), of("qwen2"), of("qwen3"), Shape::qwen()] {
        let place = QuantizeFixture::new(&shape);
        let models = [true, false].map(|balance| {
            let settings = calibrate::CalibrationSettings { balance, ..small() };
            place.quantize(&recipe(Q8_0), Some(settings)).unwrap();
            Model::open_with(&place.out(), self::settings()).unwrap()
        });
        let [norm, plain_norm] = models.each_ref().map(|model| {
            let norm = model.engine.gguf().tensor("blk.0.attn_norm.weight");
            norm.unwrap().data.to_vec()
        });
        is_balanced |= norm != plain_norm;
        let parent = Model::open_with(&place.parent, settings()).unwrap();
        let held_out: String = (1000..1004).map(text).collect();
        let results = divergence(&parent, &models, &held_out, 64, None, |_, _| {}).unwrap();
        let [balanced, plain] = [0, 1].map(|i: usize| results[i].mean_kl_divergence);
        assert!(balanced < 2.0 * plain, "{balanced} for {plain}: {shape:?}");
    }
    assert!(is_balanced, "no scales were moved");
}

/// Everything that is kept of a calibration to `out`, copied for one to `other` when the first layer is there.
fn copy_kept(out: &Path, other: &Path) {
    let kept = |out: &Path| PathBuf::from(format!("{}.calibration", out.display()));
    if kept(other).exists() || !kept(out).join("states-1").exists() {
        return;
    }
    std::fs::create_dir(kept(other)).unwrap();
    for entry in std::fs::read_dir(kept(out)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), kept(other).join(entry.file_name())).unwrap();
    }
}

#[test]
fn a_calibration_that_was_stopped_goes_on_to_the_same_bytes() {
    let place = QuantizeFixture::new(&Shape::default());
    let run = |out: &Path,
               recipe: Recipe,
               settings: calibrate::CalibrationSettings,
               also: Option<&Path>| {
        let mut documents = (0..).map(|i| Ok(text(i)));
        let texts = Texts {
            documents: &mut documents,
            tokens: 1024,
            settings,
        };
        let mut went_on = false;
        let threads = EngineSettings::new(None, false, KvType::F32).unwrap();
        let progress = |progress| match progress {
            Progress::Notice(text) => went_on |= text.contains("going on after the 1 layers"),
            Progress::Weights { .. } => {
                if let Some(also) = also {
                    copy_kept(out, also);
                }
            }
        };
        let parent = &place.parent;
        quantize(parent, out, &recipe, Some(texts), threads, progress).unwrap();
        went_on
    };
    let [whole, stopped, other, rotated] =
        ["whole", "stopped", "other", "rotated"].map(|name| place.dir.path().join(name));
    let damped = calibrate::CalibrationSettings {
        damping: 0.1,
        ..small()
    };
    assert!(!run(&whole, recipe(Q4_0), small(), Some(&stopped)));
    copy_kept(&stopped, &other);
    copy_kept(&stopped, &rotated);
    assert!(run(&stopped, recipe(Q4_0), small(), None));
    assert!(std::fs::read(&whole).unwrap() == std::fs::read(&stopped).unwrap());
    // what belongs to other settings is not gone on with, nor what belongs to other coordinates
    assert!(!run(&other, recipe(Q4_0), damped, None));
    assert!(std::fs::read(&whole).unwrap() != std::fs::read(&other).unwrap());
    let turned = || recipe(Q4_0).rotate(Rotation::Values);
    assert!(!run(&rotated, turned(), small(), None));
    assert!(!run(&whole, turned(), small(), Some(&stopped)));
    assert!(run(&stopped, turned(), small(), None));
    assert!(std::fs::read(&rotated).unwrap() == std::fs::read(&stopped).unwrap());
    // parent and four files
    assert_eq!(std::fs::read_dir(place.dir.path()).unwrap().count(), 5);
}

#[test]
fn calibration_is_the_same_for_any_number_of_threads() {
    let place = QuantizeFixture::new(&Shape::default());
    let files = [1, 3].map(|threads| {
        let mut documents = (0..).map(|i| Ok(text(i)));
        let texts = Texts {
            documents: &mut documents,
            tokens: 1024,
            settings: small(),
        };
        let threads = EngineSettings::new(std::num::NonZeroUsize::new(threads), false, KvType::F32);
        quantize(
            &place.parent,
            &place.out(),
            &recipe(Q4_0),
            Some(texts),
            threads.unwrap(),
            |_| {},
        )
        .unwrap();
        std::fs::read(place.out()).unwrap()
    });
    assert!(files[0] == files[1]);
}

#[test]
fn what_cannot_be_done_is_said() {
    let place = QuantizeFixture::new(&Shape::default());
    let message = |result: Result<Converted>| {
        let message = result.unwrap_err().to_string();
        assert!(!message.contains('\n'), "{message}");
        assert_eq!(
            std::fs::read_dir(place.dir.path()).unwrap().count(),
            1,
            "{message}"
        );
        message
    };
    for (text, word) in [
        ("blk.*", "PATTERN=TYPE"),
        ("blk.*=q3_k", "q4_1"),
        ("[=q8_0", "--tensor"),
    ] {
        let error = recipe(Q4_0).tensor(text).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    assert!(Recipe::new(Q6_K).is_err());
    assert!(recipe(Q4_0).bits_per_weight(f64::NAN).is_err());
    let nothing = recipe(Q4_0).tensor("layers.*=q8_0").unwrap();
    assert!(message(place.quantize(&nothing, None)).contains("no matrix"));
    let long = calibrate::CalibrationSettings {
        context: 8192,
        ..small()
    };
    assert!(message(place.quantize(&recipe(Q4_0), Some(long))).contains("512"));
    let mut one = std::iter::once(Ok("the sea".to_owned()));
    let texts = Texts {
        documents: &mut one,
        tokens: 4096,
        settings: small(),
    };
    let short = quantize(
        &place.parent,
        &place.out(),
        &recipe(Q4_0),
        Some(texts),
        settings(),
        |_| {},
    );
    assert!(message(short).contains("window of 64"));

    let packed = QuantizeFixture::new(&Shape {
        ty: Q4_0,
        ..Shape::default()
    });
    let panels = packed.dir.path().join("packed.gguf");
    pack(&packed.parent, &panels, |_, _| {}).unwrap();
    let refused = quantize_from(&panels, &packed.out(), &recipe(Q8_0), None);
    assert!(refused.unwrap_err().to_string().contains("packed"));
    assert!(!packed.out().exists());
}

/// A checkpoint gives the file that its exact export gives, whatever is asked for, and no other file stands beside it.
#[test]
fn a_checkpoint_quantizes_to_the_bytes_of_its_exact_export() {
    let tied = Shape {
        tied: true,
        ..Shape::default()
    };
    for shape in [Shape::default(), tied, Shape::qwen()] {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = dir.path().join("checkpoint");
        std::fs::create_dir(&checkpoint).unwrap();
        hf::write_directory(&checkpoint, &shape);
        let [exact, ours, theirs] = ["exact", "ours", "theirs"].map(|name| dir.path().join(name));
        export(&checkpoint, &exact, F32, |_| {}).unwrap();
        let budget = || recipe(Q4_0).bits_per_weight(7.0).unwrap();
        for (recipe, calibrated) in [
            (recipe(Q8_0), None),
            (budget(), None),
            (recipe(Q4_0).search_scales(), None),
            (recipe(Q4_0), Some(small())),
            (recipe(Q4_0).rotate(Rotation::Both), Some(small())),
        ] {
            quantize_from(&checkpoint, &ours, &recipe, calibrated.clone()).unwrap();
            quantize_from(&exact, &theirs, &recipe, calibrated).unwrap();
            let same = std::fs::read(&ours).unwrap() == std::fs::read(&theirs).unwrap();
            assert!(same, "{shape:?} {recipe:?}");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4);
        }
    }
}

#[test]
fn rows16_layout_goes_with_calibration_and_rotation() {
    let place = QuantizeFixture::new(&Shape::default());
    let recipe = || recipe(Q4_0).rotate(Rotation::Values);
    let [plain, packed, direct] =
        ["plain", "packed", "direct"].map(|name| place.dir.path().join(name));
    quantize_from(&place.parent, &plain, &recipe(), Some(small())).unwrap();
    pack(&plain, &packed, |_, _| {}).unwrap();
    let in_panels = recipe().with_layout(Layout::Rows16);
    quantize_from(&place.parent, &direct, &in_panels, Some(small())).unwrap();
    let same = std::fs::read(&packed).unwrap() == std::fs::read(&direct).unwrap();
    assert!(same);
}
