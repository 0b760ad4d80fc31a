//! Quantization-aware training (Jacob et al., arXiv 1712.05877): a decoder whose weights, and if
//! asked for its activations, keys and values, are rounded to the exported file's formats where
//! they are used.
//!
//! In: a decoder with f32 weights, which stay what is trained (the latent weights). Out: a decoder
//! that computes what the exported file computes, with gradients that pass straight through the
//! rounding. [`save`](crate::save) writes the rounded weights, which an export rounds to
//! themselves; `latent_weights.rs` writes the latent ones.

use retort_format::quant::round::BLOCK;
use retort_format::{Error, ParamKey, Result};

use crate::decoder::Decoder;
use crate::quantization_config::{FakeQuantization, LinearRounding};

impl Decoder {
    /// The same weights, used as `quantization` rounds them; as they are where it is none.
    ///
    /// # Errors
    /// [`Error::Config`]: a width that blocks of 32 do not divide.
    ///
    /// # Panics
    /// A model with adapters.
    pub fn with_fake_quantization(
        mut self,
        quantization: Option<FakeQuantization>,
    ) -> Result<Self> {
        let config = self.config.clone();
        for key in ParamKey::linears(&config) {
            let [input, _] = key.dims(&config);
            if quantization.is_some() && !input.is_multiple_of(BLOCK) {
                return Err(Error::Config {
                    field: "hidden_size",
                    reason: format!(
                        "{} has {input} inputs, and quantized weights come in blocks of {BLOCK}: \
                         make the sizes multiples of {BLOCK}, or leave out [quantize]",
                        key.module(&config)
                    ),
                });
            }
            let linear = self.linear_mut(key);
            assert!(
                quantization.is_none() || linear.adapter.is_none(),
                "adapters are merged before weights are rounded"
            );
            linear.rounding = quantization.map_or(LinearRounding::default(), |q| q.of(key));
        }
        self.quantization = quantization;
        Ok(self)
    }
}
