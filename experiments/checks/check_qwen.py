#!/usr/bin/env python3
"""Holds the first Qwen (QWenLMHeadModel) to llama.cpp and to a plain reference, with random weights.

    pip install torch safetensors xllamacpp numpy transformers
    cargo build --release -p retort-edge -p retort-engine -p retort-convert --bins --examples
    python experiments/checks/check_qwen.py TOKENIZER_DIR --bin target/release

A small checkpoint with Qwen's own tensor names is made around the tokenizer.json in TOKENIZER_DIR,
exported as F32 and F16, and run by the engine, by llama.cpp's `qwen` and by the equations below in
float64 (logits, greedy text; within the trained length, as llama.cpp knows nothing past it). Past
the trained length, with dynamic NTK and logn scaling, the engine is held to the equations alone.
Then the F32 file is imported, and the directory's tensors compared with the first ones. Exits
non-zero if a check fails.
"""

import argparse
import json
import math
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
from safetensors.numpy import load_file, save_file

import check_llamacpp

LAYERS, HIDDEN, HEADS, BOTH = 3, 128, 4, 448
DIM = HIDDEN // HEADS
LONG = "The sea was calm that morning, and nobody on the pier expected what came next. " * 12


def make(folder, tokenizer_dir, trained, base=10000.0):
    """A checkpoint as Qwen publishes it."""
    rng = np.random.default_rng(1)
    rows = lambda r, c: (rng.standard_normal((r, c)) * 2 / math.sqrt(c)).astype(np.float32)
    around = lambda n, centre, scale: (centre + scale * rng.standard_normal(n)).astype(np.float32)
    tokenizer = json.loads((tokenizer_dir / "tokenizer.json").read_text())
    ids = list(tokenizer["model"]["vocab"].values())
    ids += [token["id"] for token in tokenizer["added_tokens"]]
    vocab = -(-(max(ids) + 1) // 128) * 128
    tensors = {"transformer.wte.weight": rows(vocab, HIDDEN), "lm_head.weight": rows(vocab, HIDDEN)}
    tensors["transformer.ln_f.weight"] = around(HIDDEN, 1, 0.2)
    for layer in range(LAYERS):
        put = lambda name, value: tensors.__setitem__(f"transformer.h.{layer}.{name}", value)
        put("ln_1.weight", around(HIDDEN, 1, 0.2))
        put("ln_2.weight", around(HIDDEN, 1, 0.2))
        put("attn.c_attn.weight", rows(3 * HIDDEN, HIDDEN))
        put("attn.c_attn.bias", around(3 * HIDDEN, 0, 0.5))
        put("attn.c_proj.weight", rows(HIDDEN, HIDDEN))
        put("mlp.w1.weight", rows(BOTH // 2, HIDDEN))
        put("mlp.w2.weight", rows(BOTH // 2, HIDDEN))
        put("mlp.c_proj.weight", rows(HIDDEN, BOTH // 2))
    config = {
        "architectures": ["QWenLMHeadModel"],
        "model_type": "qwen",
        "hidden_size": HIDDEN,
        "intermediate_size": BOTH,
        "kv_channels": DIM,
        "layer_norm_epsilon": 1e-6,
        "max_position_embeddings": 1024,
        "no_bias": True,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "rotary_emb_base": base,
        "rotary_pct": 1.0,
        "scale_attn_weights": True,
        "seq_length": trained,
        "tie_word_embeddings": False,
        "use_dynamic_ntk": True,
        "use_logn_attn": True,
        "vocab_size": vocab,
    }
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(tokenizer_dir / "tokenizer.json", folder)
    return config, tensors


def reference(config, tensors, tokens):
    """Logits [len(tokens), vocab] in float64, from the equations of modeling_qwen.py."""
    weights = {name: value.astype(np.float64) for name, value in tensors.items() if "wte" not in name}
    length, trained = len(tokens), config["seq_length"]
    norm = lambda x, w: x / np.sqrt((x * x).mean(-1, keepdims=True) + config["layer_norm_epsilon"]) * w
    alpha = max(2 ** math.ceil(math.log2(length / trained) + 1) - 1, 1)
    base = config["rotary_emb_base"] * alpha ** (DIM / (DIM - 2))
    angles = np.outer(np.arange(length), base ** (-np.arange(0, DIM, 2) / DIM))
    cos, sin = (np.concatenate([f(angles)] * 2, 1)[:, None] for f in (np.cos, np.sin))
    half = DIM // 2
    turn = lambda x: x * cos + np.concatenate([-x[..., half:], x[..., :half]], -1) * sin
    seen = np.arange(1, length + 1)
    logn = np.where(seen > trained, np.log(seen) / math.log(trained), 1.0)[:, None, None]
    x = tensors["transformer.wte.weight"][tokens].astype(np.float64)
    for layer in range(config["num_hidden_layers"]):
        w = lambda name: weights[f"transformer.h.{layer}.{name}"]
        qkv = norm(x, w("ln_1.weight")) @ w("attn.c_attn.weight").T + w("attn.c_attn.bias")
        q, k, v = (part.reshape(length, HEADS, DIM) for part in np.split(qkv, 3, -1))
        q, k = turn(q) * logn, turn(k)
        scores = np.einsum("qhd,khd->hqk", q, k) / math.sqrt(DIM)
        scores[:, np.triu(np.ones((length, length), bool), 1)] = -np.inf
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        x = x + np.einsum("hqk,khd->qhd", scores, v).reshape(length, HIDDEN) @ w("attn.c_proj.weight").T
        n = norm(x, w("ln_2.weight"))
        gate = n @ w("mlp.w2.weight").T
        inner = n @ w("mlp.w1.weight").T * (gate / (1 + np.exp(-gate)))
        x = x + inner @ w("mlp.c_proj.weight").T
    return norm(x, weights["transformer.ln_f.weight"]) @ weights["lm_head.weight"].T


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tokenizer", type=pathlib.Path)
    parser.add_argument("--bin", type=pathlib.Path, default="target/release")
    args = parser.parse_args()
    failed = []

    def check(name, good, figures=""):
        print(f"{'ok  ' if good else 'FAIL'} {name}: {figures}", flush=True)
        failed.extend([] if good else [name])

    def run(*command):
        command = [str(word) for word in command]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    examples = args.bin / "examples"
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        config, tensors = make(work / "hf", args.tokenizer, 512)
        halves = {name: value.astype(np.float16).astype(np.float32) for name, value in tensors.items()}
        rounded = {name: halves[name] if value.ndim == 2 else value for name, value in tensors.items()}
        for quant, weights in [("f32", tensors), ("f16", rounded)]:
            out = work / f"{quant}.gguf"
            run(examples / "export", work / "hf", out, quant)
            llama = check_llamacpp.LlamaCpp(out, 512, 2)
            for prompt in check_llamacpp.PROMPTS + [LONG]:
                ours = json.loads(run(examples / "logits", out, prompt, 48))
                tokens, logits = ours["tokens"], np.array(ours["logits"])
                plain = np.abs(reference(config, weights, tokens) - logits).max()
                theirs = llama.logits(tokens, every=True)
                other = np.abs(theirs - logits).max()
                # llama.cpp rounds the inputs of F16 matrices to F16
                good = plain < 1e-3 and other < (1e-3 if quant == "f32" else 0.1)
                figures = f"max difference {plain:.1e} to the equations, {other:.1e} to llama.cpp"
                check(f"{quant}, {len(tokens)} tokens", good, f"{figures}, logits up to {np.abs(logits).max():.1f}")
                if quant == "f32":
                    good = llama.greedy(tokens, len(ours["greedy"])) == ours["greedy"]
                    check("greedy text is llama.cpp's", good, f"{len(ours['greedy'])} tokens")
        run(examples / "import", work / "f32.gguf", work / "back")
        back = load_file(work / "back/model.safetensors")
        equal = back.keys() == tensors.keys() and all(
            np.array_equal(back[name].view(np.uint32), tensors[name].view(np.uint32)) for name in back
        )
        same = (work / "back/model.safetensors").read_bytes() == (work / "hf/model.safetensors").read_bytes()
        check("imported again", equal, f"{len(back)} tensors equal, files {'equal' if same else 'differ'}")
        written = json.loads((work / "back/config.json").read_text())
        differing = {key: written.get(key) for key in config if written.get(key) != config[key]}
        check("configuration imported again", not differing, differing or f"{len(config)} fields equal")
        for trained in [128, 100, 40]:
            folder, out = work / f"hf-{trained}", work / f"{trained}.gguf"
            config, tensors = make(folder, args.tokenizer, trained)
            run(examples / "export", folder, out, "f32")
            ours = json.loads(run(examples / "logits", out, LONG, 1))
            tokens, logits = ours["tokens"], np.array(ours["logits"])
            plain = np.abs(reference(config, tensors, tokens) - logits).max()
            name = f"{len(tokens)} tokens, trained on {trained}"
            check(name, plain < 1e-3, f"max difference {plain:.1e} to the equations")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
