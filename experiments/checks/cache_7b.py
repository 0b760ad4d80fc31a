#!/usr/bin/env python3
"""A Qwen2.5-7B-shaped teacher in Q4_0 with random weights writes a cache: speed, bytes, memory.

    cargo build --release
    python3 experiments/checks/cache_7b.py TOKENIZER_DIR SOURCE --work DIR [--bin target/release]
        [--rows 2] [--length 512] [--layers 28] [--pack]

Needs numpy, gguf and 5 GB of disk (10 with --pack, which has `retort-edge pack` lay the weights out
in panels first). The file is made once in --work, around the tokenizer.json in TOKENIZER_DIR, with
152,064 rows of which the last are padding. Random weights spread the likely ids over the whole
vocabulary: the worst case for bytes.
"""
import argparse
import json
import pathlib
import resource
import subprocess

import gguf
import numpy as np

WIDTH, HEADS, KV_HEADS, INNER, ROWS = 3584, 28, 4, 18944, 152064


def write(path, tokenizer, layers):
    data = json.loads((tokenizer / "tokenizer.json").read_text())
    tokens = {id: token for token, id in data["model"]["vocab"].items()}
    special = {t["id"]: t["content"] for t in data["added_tokens"]}
    tokens |= special
    names = [tokens.get(i, f"[PAD{i}]") for i in range(ROWS)]
    kinds = [3 if i in special else 1 if i in tokens else 5 for i in range(ROWS)]
    merges = [m if isinstance(m, str) else " ".join(m) for m in data["model"]["merges"]]
    out = gguf.GGUFWriter(str(path), "qwen2", use_temp_file=True)
    out.add_context_length(32768)
    out.add_embedding_length(WIDTH)
    out.add_block_count(layers)
    out.add_feed_forward_length(INNER)
    out.add_head_count(HEADS)
    out.add_head_count_kv(KV_HEADS)
    out.add_rope_freq_base(1e6)
    out.add_layer_norm_rms_eps(1e-6)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("qwen2")
    out.add_token_list(names)
    out.add_token_types(kinds)
    out.add_token_merges(merges)
    out.add_eos_token_id(151643)
    random = np.random.default_rng(1)

    def matrix(name, rows, columns):
        blocks = random.integers(0, 256, (rows, columns // 32, 18), dtype=np.uint8)
        scale = np.full((rows, columns // 32), columns**-0.5 / 4.6, np.float16)
        blocks[:, :, :2] = scale.view(np.uint8).reshape(rows, columns // 32, 2)
        out.add_tensor(name, blocks.reshape(rows, -1), raw_dtype=gguf.GGMLQuantizationType.Q4_0)

    def vector(name, size, value=None):
        numbers = np.full(size, value) if value else random.standard_normal(size) * 0.1
        out.add_tensor(name, numbers.astype(np.float32))

    matrix("token_embd.weight", ROWS, WIDTH)
    vector("output_norm.weight", WIDTH, 1)
    matrix("output.weight", ROWS, WIDTH)
    for i in range(layers):
        layer = f"blk.{i}."
        vector(layer + "attn_norm.weight", WIDTH, 1)
        vector(layer + "ffn_norm.weight", WIDTH, 1)
        for name, heads in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
            matrix(f"{layer}attn_{name}.weight", heads * 128, WIDTH)
            vector(f"{layer}attn_{name}.bias", heads * 128)
        matrix(layer + "attn_output.weight", WIDTH, WIDTH)
        matrix(layer + "ffn_gate.weight", INNER, WIDTH)
        matrix(layer + "ffn_up.weight", INNER, WIDTH)
        matrix(layer + "ffn_down.weight", WIDTH, INNER)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tokenizer", type=pathlib.Path)
    parser.add_argument("source")
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--bin", type=pathlib.Path, default="target/release")
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--pack", action="store_true")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    teacher = args.work / f"teacher-{args.layers}.gguf"
    if not teacher.exists():
        write(teacher, args.tokenizer, args.layers)
    if args.pack:
        packed = args.work / f"teacher-{args.layers}.packed.gguf"
        if not packed.exists():
            subprocess.run([args.bin / "retort-edge", "pack", teacher, "--out", packed], check=True)
        teacher = packed
    recipe = args.work / "recipe.toml"
    recipe.write_text(
        f"[data]\nsource = {json.dumps(args.source)}\ntokenizer = {json.dumps(str(args.tokenizer))}\n"
        f"seq_len = {args.length}\n[model]\nhidden_size = 64\nintermediate_size = 128\n"
        "num_hidden_layers = 1\nnum_attention_heads = 1\n[train]\nsteps = 1\nbatch_size = 1\nlr = 1e-3\n"
        f"[teacher]\npath = {json.dumps(str(teacher))}\n"
    )
    for i, choice in enumerate((["--top-k", "50"], ["--samples", "50"])):
        out = args.work / f"cache-{len(list(args.work.glob('cache-*')))}"
        command = [args.bin / "retort", "distill", "cache", recipe, "--out", out, "--json"]
        command += ["--rows", str(args.rows)] + choice
        figures = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        print(
            f"{' '.join(choice)}: {figures['tokens_per_second']:.1f} tokens/s, "
            f"{figures['bytes_per_token']:.1f} bytes a token, peak so far {peak / 1e9:.2f} GB",
            flush=True,
        )


if __name__ == "__main__":
    main()
