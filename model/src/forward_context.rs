//! What all layers of one forward pass share.

use burn::tensor::{DType, Device, Tensor, TensorData};
use retort_format::ModelConfig;
use retort_format::rope::{angles, frequencies, logn_factor};
use retort_ops::{AttentionBackend, AttentionMask, AttentionShape};

/// See the module.
#[derive(Debug)]
pub(crate) struct ForwardContext {
    /// How attention is computed.
    pub attention: AttentionBackend,
    /// What queries are multiplied by, `[1 or B, T, 1, 1]`, where that is not 1.
    pub query_scale: Option<Tensor<4>>,
    /// The precision of products; f32 where the operations are fused.
    pub compute: DType,
}

impl ForwardContext {
    /// The context of a pass over ids `[B, T]` on `device` under `mask`. `fused` and `quantize_kv`
    /// are those of [`AttentionBackend::new`].
    pub fn new(
        config: &ModelConfig,
        [b, t]: [usize; 2],
        mask: AttentionMask<'_>,
        [fused, quantize_kv]: [bool; 2],
        compute: DType,
        device: &Device,
    ) -> Self {
        let (positions, rows): (Vec<usize>, _) = match mask {
            AttentionMask::Packed(documents) => (documents.positions().collect(), b),
            AttentionMask::Cached(past) => ((past..past + t).collect(), 1),
            AttentionMask::Causal => ((0..t).collect(), 1),
        };
        let length = positions.iter().max().map_or(0, |p| p + 1);
        // The first Qwen stretches past its trained length, but not while it is trained.
        let stretch = !device.is_autodiff();
        let scaled = stretch && config.use_logn_attn && length > config.seq_length;
        let query_scale = scaled.then(|| {
            let factor = |&p| logn_factor(p, config.seq_length) as f32;
            let factors: Vec<f32> = positions.iter().map(factor).collect();
            Tensor::from_data(TensorData::new(factors, [rows, t, 1, 1]), device)
        });
        let rope = angles(&positions, &frequencies(config, length, stretch));
        let shape = AttentionShape {
            batch: b,
            length: t,
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
        };
        Self {
            attention: AttentionBackend::new(shape, mask, rope, quantize_kv, fused, device),
            query_scale,
            compute,
        }
    }
}
