#!/usr/bin/env python3
"""Holds import's dequantization to the `gguf` package, llama.cpp's own, bit for bit.

    pip install gguf safetensors torch numpy
    cargo build --release -p retort-edge -p retort-engine -p retort-convert --bins --examples
    python experiments/checks/check_dequantize.py --bin target/release [--rounds 4]

For every type a llama model is written by the package with arbitrary blocks (every bit pattern of
the integers; scales of every finite half, subnormal and negative ones among them), imported, and
each tensor compared: quantized ones as f32 bits, F32, F16 and BF16 as the bytes they were.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
import torch
from safetensors import safe_open

HIDDEN, INNER, HEADS, KV_HEADS, HEAD_DIM = 256, 512, 4, 2, 64
TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"]
# where the halves of a block lie
SCALES = {"Q4_1": [0, 2], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


def arbitrary(rng, kind, rows, cols):
    """Encoded rows [rows, bytes] of `kind`, every number in them finite."""
    block, size = gguf.GGML_QUANT_SIZES[Type[kind]]
    data = rng.integers(0, 256, (rows, cols // block, size), dtype=np.uint8)
    if kind in ("F32", "F16", "BF16"):
        top = data[..., -1]
        # no exponent of all ones
        data[..., -1] = np.where(rng.random(top.shape) < 0.5, top & 0xBB, top & 0x80)
        return data.reshape(rows, -1)
    for at in SCALES.get(kind, [0]):
        data[..., at + 1] &= 0xBB
    return data.reshape(rows, -1)


def write(path, kind, rng):
    """The model, and its tensors as they were encoded."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    tokens = [chr(0x100 + i) for i in range(255)]
    tokens.append(tokens[0] + tokens[1])
    writer.add_token_list(tokens)
    writer.add_token_types([1] * 256)
    writer.add_token_merges([f"{tokens[0]} {tokens[1]}"])
    shapes = {
        "token_embd": (256, HIDDEN),
        "output": (256, HIDDEN),
        "blk.0.attn_q": (HEADS * HEAD_DIM, HIDDEN),
        "blk.0.attn_k": (KV_HEADS * HEAD_DIM, HIDDEN),
        "blk.0.attn_v": (KV_HEADS * HEAD_DIM, HIDDEN),
        "blk.0.attn_output": (HIDDEN, HEADS * HEAD_DIM),
        "blk.0.ffn_gate": (INNER, HIDDEN),
        "blk.0.ffn_up": (INNER, HIDDEN),
        "blk.0.ffn_down": (HIDDEN, INNER),
    }
    encoded = {}
    for name, (rows, cols) in shapes.items():
        encoded[f"{name}.weight"] = arbitrary(rng, kind, rows, cols)
        writer.add_tensor(f"{name}.weight", encoded[f"{name}.weight"], raw_dtype=Type[kind])
    for name in ["output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"]:
        writer.add_tensor(f"{name}.weight", np.ones(HIDDEN, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return encoded


def separate(rows):
    """llama's interleaved rows of q or k, each head's halves one after the other again."""
    heads = rows.reshape(-1, HEAD_DIM // 2, 2, rows.shape[1])
    return heads.swapaxes(1, 2).reshape(rows.shape)


NAMES = {
    "token_embd": "model.embed_tokens",
    "output": "lm_head",
    "blk.0.attn_q": "model.layers.0.self_attn.q_proj",
    "blk.0.attn_k": "model.layers.0.self_attn.k_proj",
    "blk.0.attn_v": "model.layers.0.self_attn.v_proj",
    "blk.0.attn_output": "model.layers.0.self_attn.o_proj",
    "blk.0.ffn_gate": "model.layers.0.mlp.gate_proj",
    "blk.0.ffn_up": "model.layers.0.mlp.up_proj",
    "blk.0.ffn_down": "model.layers.0.mlp.down_proj",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=pathlib.Path, default="target/release")
    parser.add_argument("--rounds", type=int, default=4)
    args = parser.parse_args()
    failed = False
    for kind in TYPES:
        equal = total = 0
        for seed in range(args.rounds):
            with tempfile.TemporaryDirectory() as folder:
                folder = pathlib.Path(folder)
                encoded = write(folder / "model.gguf", kind, np.random.default_rng(seed))
                command = [args.bin / "examples/import", folder / "model.gguf", folder / "out"]
                subprocess.run(command, check=True, capture_output=True)
                file = safe_open(folder / "out/model.safetensors", "pt")
                for name, data in encoded.items():
                    stem = name.removesuffix(".weight")
                    if "attn_q" in name or "attn_k" in name:
                        data = separate(data)
                    if kind not in ("F32", "F16", "BF16"):
                        data = gguf.quants.dequantize(data, Type[kind]).view(np.uint32)
                    ours = file.get_tensor(f"{NAMES[stem]}.weight").contiguous()
                    ours = ours.view({4: torch.int32, 2: torch.int16}[ours.element_size()])
                    bits = ours.numpy().view(data.dtype).reshape(-1)
                    equal += int((bits == data.reshape(-1)).sum())
                    total += bits.size
        unit = "bytes" if kind in ("F32", "F16", "BF16") else "weights"
        print(f"{'ok  ' if equal == total else 'FAIL'} {kind}: {equal} of {total} {unit} equal")
        failed |= equal != total
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
