#!/usr/bin/env python3
"""Holds export to transformers and llama.cpp, with a real tokenizer and random weights.

    pip install torch transformers xllamacpp numpy
    cargo build --release -p retort-edge -p retort-engine -p retort-convert --bins --examples
    python experiments/checks/check_export.py TOKENIZER_DIR --bin target/release [--kind qwen2]
        [--rope linear|llama3] [--vectors ggml-vocab-qwen2.gguf]

A small model of the kind asked for, its rotary positions scaled if asked, is made by transformers around the tokenizer.json in
TOKENIZER_DIR and exported at every quantization. Checked: logits and 64 greedy tokens of
transformers, llama.cpp and retort-edge on the F32 file (1e-3); that llama.cpp loads the others; the
token ids of llama.cpp's own vectors (NAME.inp and NAME.out), where given.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers

import check_llamacpp

SEPARATOR = "__ggml_vocab_test__"


ROPE = {
    None: {"rope_type": "default", "rope_theta": 10000.0},
    "linear": {"rope_type": "linear", "rope_theta": 20000.0, "factor": 4.0},
    "llama3": {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
}


def save_model(kind, tokenizer_dir, folder, rope):
    """A random model with a vocabulary as large as the tokenizer's, spread enough to be definite."""
    tokenizer = json.loads((tokenizer_dir / "tokenizer.json").read_text())
    ids = list(tokenizer["model"]["vocab"].values())
    ids += [token["id"] for token in tokenizer["added_tokens"]]
    kinds = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
        "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
    }
    make_config, make_model = kinds[kind]
    config = make_config(
        vocab_size=max(ids) + 1,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=1024,
        rms_norm_eps=1e-6,
        tie_word_embeddings=False,
        initializer_range=0.15,
        bos_token_id=None,
        eos_token_id=None,
        rope_parameters=ROPE[rope],
    )
    torch.manual_seed(1)
    model = make_model(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter += 0.2 * torch.randn_like(parameter)
            if name.endswith("bias"):
                parameter += 0.5 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    shutil.copy(tokenizer_dir / "tokenizer.json", folder)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tokenizer", type=pathlib.Path)
    parser.add_argument("--kind", default="llama", choices=["llama", "qwen2", "qwen3"])
    parser.add_argument("--rope", choices=["linear", "llama3"])
    parser.add_argument("--bin", type=pathlib.Path, default="target/release")
    parser.add_argument("--vectors", type=pathlib.Path)
    args = parser.parse_args()
    failed = []

    def check(name, good, figures=""):
        print(f"{'ok  ' if good else 'FAIL'} {name}: {figures}", flush=True)
        failed.extend([] if good else [name])

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        model = save_model(args.kind, args.tokenizer, folder, args.rope)
        for quant in ["f16", "bf16", "q8_0", "q4_0", "f32"]:
            out = folder / f"{quant}.gguf"
            subprocess.run([args.bin / "examples/export", folder, out, quant], check=True)
            llama = check_llamacpp.LlamaCpp(out, 512, 2)
            finite = np.isfinite(llama.logits([1, 2, 3], every=True)).all()
            check(f"llama.cpp runs {quant}", finite, f"{out.stat().st_size} bytes")
        prompt = "The capital of France is Paris, and the sea was calm that morning. " * 8
        run = [args.bin / "examples/logits", out, prompt, "64"]
        ours = json.loads(subprocess.run(run, check=True, capture_output=True).stdout)
        with torch.no_grad():
            ids = torch.tensor([ours["tokens"]])
            logits = model(ids).logits[0].numpy()
            greedy = model.generate(ids, max_new_tokens=64, do_sample=False, use_cache=True)
        difference = np.abs(logits - np.array(ours["logits"])).max()
        check("transformers' logits", difference < 1e-3, f"max difference {difference:.2e}")
        greedy = greedy[0, ids.shape[1] :].tolist()
        check("transformers' greedy text", greedy == ours["greedy"], f"{len(greedy)} tokens")
        if args.vectors:
            run = [args.bin / "examples/ids", out, f"{args.vectors}.inp", SEPARATOR]
            lines = subprocess.run(run, check=True, capture_output=True).stdout.splitlines()
            expected = pathlib.Path(f"{args.vectors}.out").read_text().splitlines()
            wanted = [[int(word) for word in line.split()] for line in expected]
            equal = sum(json.loads(a) == b for a, b in zip(lines, wanted))
            good = equal == len(wanted) == len(lines)
            check("ids of the vectors", good, f"{equal} of {len(wanted)}")
        back = folder / "back"
        subprocess.run([args.bin / "examples/import", out, back], check=True, capture_output=True)
        again, info = type(model).from_pretrained(back, output_loading_info=True)
        with torch.no_grad():
            equal = torch.equal(again.eval()(ids).logits, model(ids).logits)
        problems = {key: value for key, value in info.items() if value}
        check("imported again", equal and not problems, f"the same logits, {problems or 'no keys missing'}")
        script = pathlib.Path(__file__).with_name("check_llamacpp.py")
        run = [sys.executable, script, out, "--bin", args.bin]
        check("llama.cpp agrees", subprocess.run(run).returncode == 0)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
