//! Configs, architectures as Burn modules, and Hugging Face checkpoint directories.
