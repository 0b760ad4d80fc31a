//! Adapters alone in files, as PEFT keeps them: `adapter_config.json` and
//! `adapter_model.safetensors` with A `[rank, in]` and B `[out, rank]` of each module.
//!
//! Where a checkpoint fuses q, k and v into one module, PEFT has one adapter for the three.
//! Theirs become one of three times the rank: A stacked, B block-diagonal, which adds the
//! same to the fused weight (`rank_pattern` and `alpha_pattern` say so to PEFT).

use std::ops::Range;
use std::path::Path;

use burn::tensor::TensorData;
use retort_format::checkpoint::{SafetensorsMap, TensorHeader, write_file, write_json};
use retort_format::{Error, Kind, ModelConfig, ParamKey, Precision, Result, TensorSpec};
use serde_json::{Map, json};

use crate::decoder::Decoder;
use crate::lora::LoraConfig;
use crate::tensor_data::{encode, read};

const FILE: &str = "adapter_model.safetensors";

/// The adapters of one module of a checkpoint.
struct Module {
    name: String,
    /// One, or those of q, k and v where they are fused.
    sites: Vec<ParamKey>,
    input: usize,
    /// The outputs of each site.
    outputs: Vec<usize>,
    rank: usize,
}

impl Module {
    /// The modules of `sites`.
    fn of(sites: &[ParamKey], config: &ModelConfig, rank: usize) -> Vec<Self> {
        let mut modules: Vec<Self> = Vec::new();
        for &site in sites {
            let (name, [input, output]) = (site.module(config), site.dims(config));
            match modules.last_mut() {
                Some(module) if module.name == name => {
                    module.sites.push(site);
                    module.outputs.push(output);
                }
                _ => modules.push(Self {
                    name,
                    sites: vec![site],
                    input,
                    outputs: vec![output],
                    rank,
                }),
            }
        }
        modules
    }

    /// The rank of all its sites together.
    fn whole_rank(&self) -> usize {
        self.rank * self.sites.len()
    }

    /// The outputs of site number `i`.
    fn rows(&self, i: usize) -> Range<usize> {
        let first = self.outputs[..i].iter().sum();
        first..first + self.outputs[i]
    }

    fn specs(&self) -> [TensorSpec; 2] {
        let output = self.outputs.iter().sum();
        let shapes = [[self.whole_rank(), self.input], [output, self.whole_rank()]];
        [("A", shapes[0]), ("B", shapes[1])].map(|(which, shape)| TensorSpec {
            name: format!("base_model.model.{}.lora_{which}.weight", self.name),
            shape: shape.to_vec(),
            kind: Kind::Matrix,
            parts: Vec::new(),
        })
    }

    /// A's or B's bytes.
    fn bytes(&self, model: &Decoder, b: bool) -> Vec<u8> {
        let adapters = self.sites.iter().map(|&site| {
            let adapter = model.linear(site).adapter.as_ref();
            adapter.expect("chosen for having one")
        });
        let whole = self.whole_rank();
        let mut bytes = Vec::new();
        for (i, adapter) in adapters.enumerate() {
            let matrix = if b { &adapter.b } else { &adapter.a };
            let part = encode(&matrix.val().into_data(), Precision::F32, true);
            if !b {
                bytes.extend(part);
                continue;
            }
            for row in part.chunks_exact(4 * self.rank) {
                let mut wide = vec![0; 4 * whole];
                wide[4 * self.rank * i..][..row.len()].copy_from_slice(row);
                bytes.extend(wide);
            }
        }
        bytes
    }

    /// A `[in, rank]` and B `[rank, out]` of site number `i`.
    fn read(&self, i: usize, mapped: &SafetensorsMap, path: &Path) -> Result<[TensorData; 2]> {
        let [a, b] = self.specs();
        let ranks = i * self.rank..(i + 1) * self.rank;
        let a = read(mapped, &a, ranks.clone(), Precision::F32, true);
        let rows = self.rows(i);
        let output = rows.len();
        let (bytes, _, dtype) = read(mapped, &b, rows, Precision::F32, true).into_parts();
        let row = bytes.len() / self.whole_rank().max(1);
        let own = ranks.start * row..ranks.end * row;
        if bytes[..own.start]
            .iter()
            .chain(&bytes[own.end..])
            .any(|&byte| byte != 0)
        {
            let reason = format!(
                "the adapter of {} mixes q, k and v, which retort keeps apart: merge it with \
                 PEFT and start from the merged model",
                self.name
            );
            return Err(Error::format(path, reason));
        }
        let b = TensorData::from_bytes_vec(bytes[own].to_vec(), [self.rank, output], dtype);
        Ok([a, b])
    }
}

/// Writes the adapters of `model` into the existing `directory` as PEFT opens them, for a
/// base model known to PEFT as `base`.
///
/// # Errors
/// The model has none; a file cannot be written.
pub fn save_adapters(
    directory: &Path,
    model: &Decoder,
    lora: &LoraConfig,
    base: &str,
) -> Result<()> {
    let path = directory.join(FILE);
    let adapted: Vec<ParamKey> = ParamKey::linears(&model.config)
        .filter(|&site| model.linear(site).adapter.is_some())
        .collect();
    if adapted.is_empty() {
        return Err(Error::format(&path, "the model has no adapters to write"));
    }
    let modules = Module::of(&adapted, &model.config, lora.rank);
    let specs: Vec<TensorSpec> = modules.iter().flat_map(Module::specs).collect();
    let headers = TensorHeader::all(&specs, Precision::F32);
    write_file(&path, &headers, |i, sink| {
        sink.write(&modules[i / 2].bytes(model, i % 2 == 1))
    })?;
    let (mut ranks, mut alphas) = (Map::new(), Map::new());
    for module in modules.iter().filter(|m| m.sites.len() > 1) {
        let times = module.sites.len();
        ranks.insert(module.name.clone(), json!(module.whole_rank()));
        alphas.insert(module.name.clone(), json!(lora.alpha * times as f64));
    }
    let names: Vec<&String> = modules.iter().map(|m| &m.name).collect();
    write_json(
        &directory.join("adapter_config.json"),
        &json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "r": lora.rank,
            "lora_alpha": lora.alpha,
            "rank_pattern": ranks,
            "alpha_pattern": alphas,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "target_modules": names,
        }),
    )
}

/// Puts the adapters in `directory`, as [`save_adapters`] writes them for `lora`, into
/// `model`, whose weights are frozen.
///
/// # Errors
/// A missing or damaged file, or adapters of other layers or shapes than `lora` says.
pub fn load_adapters(directory: &Path, model: Decoder, lora: &LoraConfig) -> Result<Decoder> {
    let path = directory.join(FILE);
    let chosen = lora.chosen(&model.config)?;
    let modules = Module::of(&chosen, &model.config, lora.rank);
    let specs: Vec<TensorSpec> = modules.iter().flat_map(Module::specs).collect();
    let mapped = SafetensorsMap::open_file(&path)?;
    mapped.check(&specs)?;
    let mut pairs = modules
        .iter()
        .flat_map(|module| (0..module.sites.len()).map(move |i| (module, i)));
    model.attach(lora, &chosen, |_| {
        let (module, i) = pairs.next().expect("a pair for each site chosen");
        module.read(i, &mapped, &path)
    })
}
