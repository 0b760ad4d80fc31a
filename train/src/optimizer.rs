//! AdamW with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101) that
//! spares norms and embeddings, and clipping by the norm of all gradients together
//! (Pascanu et al., arXiv 1211.5063, algorithm 1).

use burn::module::{Module, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::Tensor;
use retort_model::Decoder;

use crate::recipe::TrainConfig;

/// The optimizer of `config`: decay on the blocks' matrices and the head only.
pub fn adamw(config: &TrainConfig, model: &Decoder) -> ModuleOptimizer {
    let adamw = |decay: f64| {
        AdamWConfig::new()
            .with_beta_1(config.beta1 as f32)
            .with_beta_2(config.beta2 as f32)
            .with_epsilon(config.epsilon as f32)
            .with_weight_decay(decay as f32)
    };
    adamw(0.0).init().with_group(
        ParamGroup::from_ids(decayed(model)),
        adamw(config.weight_decay).build(),
        None,
    )
}

fn decayed(model: &Decoder) -> Vec<ParamId> {
    struct Matrices(Vec<ParamId>);
    impl ModuleVisitor for Matrices {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if D == 2 {
                self.0.push(param.id);
            }
        }
    }
    let mut matrices = Matrices(Vec::new());
    model.layers.visit(&mut matrices);
    model.lm_head.visit(&mut matrices);
    matrices.0
}

/// Scales all gradients by `factor` and by `max_norm / norm` where the scaled norm
/// exceeds `max_norm` (0: never). Answers the norm before clipping.
pub fn clip(
    model: &Decoder,
    grads: GradientsParams,
    factor: f64,
    max_norm: f64,
) -> (GradientsParams, f64) {
    let mut squares = SumSquares {
        grads: &grads,
        sums: Vec::new(),
    };
    model.visit(&mut squares);
    let total: f32 = Tensor::cat(squares.sums, 0).sum().into_scalar();
    let norm = f64::from(total).sqrt() * factor;
    let clip = if max_norm > 0.0 && norm > max_norm {
        max_norm / norm
    } else {
        1.0
    };
    if factor * clip == 1.0 {
        return (grads, norm);
    }
    let mut scale = Scale {
        from: grads,
        to: GradientsParams::new(),
        factor: factor * clip,
    };
    model.visit(&mut scale);
    (scale.to, norm)
}

struct SumSquares<'a> {
    grads: &'a GradientsParams,
    sums: Vec<Tensor<1>>,
}

impl ModuleVisitor for SumSquares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.get::<D>(param.id) {
            self.sums.push(grad.square().sum());
        }
    }
}

struct Scale {
    from: GradientsParams,
    to: GradientsParams,
    factor: f64,
}

impl ModuleVisitor for Scale {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.from.remove::<D>(param.id) {
            self.to.register(param.id, grad.mul_scalar(self.factor));
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use retort_data::{Batch, Row};
    use retort_model::{ModelConfig, RandomInit};

    use super::*;
    use crate::objective::BatchTensors;

    fn model() -> Decoder {
        let config: ModelConfig = toml::from_str(
            "vocab_size = 20\nhidden_size = 8\nintermediate_size = 12\n\
             num_hidden_layers = 2\nnum_attention_heads = 2\ntie_word_embeddings = false",
        )
        .unwrap();
        let config = config.resolve().unwrap();
        let mut init = RandomInit::new(&config, 1);
        Decoder::build(&config, &mut init, &Device::flex().autodiff())
    }

    fn grads(model: &Decoder) -> GradientsParams {
        let device = Device::flex().autodiff();
        let row = Row {
            ids: vec![1, 2, 3, 4, 5],
            starts: vec![0],
        };
        let batch = BatchTensors::new(&Batch::new([&row], 4), &device);
        let loss = batch.cross_entropy(model);
        GradientsParams::from_grads(loss.backward(), model)
    }

    #[test]
    fn decays_matrices_but_neither_norms_nor_embedding() {
        let model = model();
        let ids = decayed(&model);
        assert_eq!(ids.len(), 2 * 7 + 1);
        assert!(!ids.contains(&model.embed_tokens.weight.id));
        assert!(!ids.contains(&model.norm.gamma.id));
        assert!(ids.contains(&model.lm_head.as_ref().unwrap().weight.id));
    }

    #[test]
    fn clips_to_the_norm_of_all_gradients() {
        let model = model();
        let (_, norm) = clip(&model, grads(&model), 1.0, 0.0);
        assert!(norm > 0.0);
        let (clipped, before) = clip(&model, grads(&model), 1.0, norm / 4.0);
        assert!((before - norm).abs() < 1e-6 * norm);
        let (_, after) = clip(&model, clipped, 1.0, 0.0);
        assert!((after - norm / 4.0).abs() < 1e-5 * norm, "{after} {norm}");
    }
}
