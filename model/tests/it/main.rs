//! A decoder from its config and weights to logits, checkpoints, adapters and rounded weights.

mod checkpoint;
mod fake_quantization;
mod forward;
mod lora;
mod qwen_reference;
