//! The edge engine: GGUF, quantization, kernels, decoding.
