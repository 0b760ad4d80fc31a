//! AdamW with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101), Muon for
//! the layers' matrices where the recipe says so (Jordan et al., 2024; its updates scaled to
//! AdamW's size as in Liu et al., arXiv 2502.16982).

use burn::lr_scheduler::constant::ConstantLr;
use burn::lr_scheduler::module_lr_scheduler::{ModuleLearningRate, ModuleLrScheduler};
use burn::module::{ParamGroup as BurnGroup, ParamId};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdjustLrFn, ModuleOptimizer, MuonConfig};

use crate::adamw::AdamW;
use crate::param_groups::ParamGroup;
use crate::recipe::{Algorithm, TrainConfig};

/// The optimizer of `config` for `param_groups`.
pub fn optimizer(config: &TrainConfig, param_groups: &[ParamGroup]) -> ModuleOptimizer {
    let adamw = |decay: f64| AdamW {
        beta1: config.beta1 as f32,
        beta2: config.beta2 as f32,
        epsilon: config.epsilon as f32,
        decay: decay as f32,
    };
    // Burn keeps a matrix as [in, out]; this scaling does not care which side is which.
    let muon = |decay: f64| {
        MuonConfig::new()
            .with_momentum(MomentumConfig {
                momentum: config.momentum,
                dampening: 0.0,
                nesterov: true,
            })
            .with_weight_decay(Some(WeightDecayConfig::new(decay as f32)))
            .with_adjust_lr_fn(AdjustLrFn::MatchRmsAdamW)
    };
    let mut built = ModuleOptimizer::from(adamw(0.0));
    for ((algorithm, decay), ids) in grouped(
        param_groups,
        |r| (r.algorithm, r.weight_decay),
        (Algorithm::Adamw, 0.0),
    ) {
        let group = BurnGroup::from_ids(ids);
        built = match algorithm {
            Algorithm::Adamw => built.with_group(group, adamw(decay), None),
            Algorithm::Muon => built.with_group(group, muon(decay).build(), None),
        };
    }
    built
}

/// The learning rate of each parameter where the run's is `lr`.
pub fn learning_rates(lr: f64, param_groups: &[ParamGroup]) -> ModuleLearningRate {
    let groups = grouped(param_groups, |r| r.lr_scale, 1.0);
    let all = ModuleLrScheduler::new(ConstantLr::new(lr));
    let mut each = groups.into_iter().fold(all, |all, (scale, ids)| {
        all.with_group(BurnGroup::from_ids(ids), ConstantLr::new(lr * scale))
    });
    each.step()
}

/// Parameters with the same `key`, in the order in which the keys come; those with the
/// `usual` key are left out.
fn grouped<K: PartialEq>(
    param_groups: &[ParamGroup],
    key: impl Fn(&ParamGroup) -> K,
    usual: K,
) -> Vec<(K, Vec<ParamId>)> {
    let mut groups: Vec<(K, Vec<ParamId>)> = Vec::new();
    for group in param_groups {
        let key = key(group);
        if key == usual {
            continue;
        }
        match groups.iter_mut().find(|(k, _)| *k == key) {
            Some((_, ids)) => ids.extend(&group.ids),
            None => groups.push((key, group.ids.clone())),
        }
    }
    groups
}

#[cfg(test)]
pub(crate) mod tests {
    use burn::module::{Module, ModuleVisitor, Param};
    use burn::optim::GradientsParams;
    use burn::tensor::{Device, Tensor};
    use retort_data::{Batch, BatchSource, Row};
    use retort_format::ModelConfig;
    use retort_model::{Decoder, RandomInit};

    use super::*;
    use crate::batch_tensors::BatchTensors;
    use crate::param_groups::param_groups;

    pub(crate) fn model() -> Decoder {
        let config: ModelConfig = toml::from_str(
            "vocab_size = 20\nhidden_size = 8\nintermediate_size = 12\n\
             num_hidden_layers = 2\nnum_attention_heads = 2\ntie_word_embeddings = false",
        )
        .unwrap();
        let config = config.resolve().unwrap();
        let mut init = RandomInit::new(&config, 1);
        Decoder::build(&config, &mut init, &Device::flex().autodiff())
    }

    pub(crate) fn grads(model: &Decoder) -> GradientsParams {
        let device = Device::flex().autodiff();
        let row = Row {
            ids: vec![1, 2, 3, 4, 5],
            starts: vec![0],
        };
        let batch = BatchTensors::new(&Batch::new([&row], 4, BatchSource::Synthetic), &device);
        let loss = batch.cross_entropy(model, batch.hidden(model));
        GradientsParams::from_grads(loss.backward(), model)
    }

    /// One update of a gradient of ones, so that what a parameter moves by says its group.
    fn moved(groups: &str) -> (Decoder, Decoder) {
        let text = format!("steps = 1\nbatch_size = 1\nlr = 1.0\nweight_decay = 0.5\n{groups}");
        let config: TrainConfig = toml::from_str(&text).unwrap();
        let before = model();
        let param_groups = param_groups(&config, before.named_parameters()).unwrap();
        let mut grads = GradientsParams::new();
        before.visit(&mut Ones(&mut grads));
        let mut optimizer = optimizer(&config, &param_groups);
        let after = optimizer.step(learning_rates(0.125, &param_groups), before.clone(), grads);
        (before, after)
    }

    struct Ones<'a>(&'a mut GradientsParams);
    impl ModuleVisitor for Ones<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.register(param.id, param.val().inner().ones_like());
        }
    }

    fn assert_moved<const D: usize>(
        before: &Param<Tensor<D>>,
        after: &Param<Tensor<D>>,
        lr: f32,
        decay: f32,
    ) {
        let values = |p: &Param<Tensor<D>>| p.val().into_data().try_into_vec::<f32>().unwrap();
        for (b, a) in values(before).into_iter().zip(values(after)) {
            let expected = b - lr * decay * b - lr;
            assert!((a - expected).abs() < 1e-5, "{b} -> {a}, not {expected}");
        }
    }

    #[test]
    fn decays_matrices_but_neither_norms_nor_embedding() {
        let (b, a) = moved("");
        assert_moved(&b.embed_tokens.weight, &a.embed_tokens.weight, 0.125, 0.0);
        assert_moved(&b.norm.gamma, &a.norm.gamma, 0.125, 0.0);
        let heads = [&b, &a].map(|m| &m.lm_head.as_ref().unwrap().weight);
        assert_moved(heads[0], heads[1], 0.125, 0.5);
        let up = [&b, &a].map(|m| &m.layers[1].mlp.up_proj.weight);
        assert_moved(up[0], up[1], 0.125, 0.5);
    }

    #[test]
    fn groups_have_their_own_learning_rate_and_decay() {
        let (b, a) = moved(
            "[[groups]]\nparameters = [\"model.norm.weight\", \"*.1.mlp.up_proj.*\"]\n\
             lr_scale = 0.5\nweight_decay = 0.25",
        );
        assert_moved(&b.norm.gamma, &a.norm.gamma, 0.0625, 0.25);
        let up = [&b, &a].map(|m| &m.layers[1].mlp.up_proj.weight);
        assert_moved(up[0], up[1], 0.0625, 0.25);
        let up = [&b, &a].map(|m| &m.layers[0].mlp.up_proj.weight);
        assert_moved(up[0], up[1], 0.125, 0.5);
    }

    /// A gradient of ones has rank one: of its directions Muon keeps that one, with a
    /// singular value that five iterations bring near 1.
    #[test]
    fn muon_moves_matrices_by_their_orthogonal_part() {
        let (b, a) = moved("optimizer = \"muon\"");
        let up = [&b, &a].map(|m| m.layers[0].mlp.up_proj.weight.val());
        let [rows, columns] = up[0].dims();
        let kept = up[0].clone() * (1.0 - 0.125 * 0.5);
        let step = (kept - up[1].clone())
            .into_data()
            .try_into_vec::<f32>()
            .unwrap();
        let whole = 0.125 * 0.2 * (rows.max(columns) as f32).sqrt();
        let full = whole / ((rows * columns) as f32).sqrt();
        for s in &step {
            assert!((0.6 * full..1.3 * full).contains(s), "{s} {full}");
        }
        // What is not a layer's matrix is AdamW's.
        assert_moved(&b.norm.gamma, &a.norm.gamma, 0.125, 0.0);
        let heads = [&b, &a].map(|m| &m.lm_head.as_ref().unwrap().weight);
        assert_moved(heads[0], heads[1], 0.125, 0.5);
    }
}
