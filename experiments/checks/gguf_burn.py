#!/usr/bin/env python3
"""A GGUF file brought in, run in Burn, written out again, run by llama.cpp: the same logits.

    cargo build --release --workspace --examples --bins
    python3 experiments/checks/gguf_burn.py MODEL.gguf --work EMPTY_DIR [--text FILE] [--bin target/release]

Needs torch, transformers, xllamacpp and numpy. The commands of `retort` import MODEL.gguf and export
the directory as F32; Burn's logits on it are held to llama.cpp's on that export (0.02), for four
prompts and one window of 512 tokens of FILE; so are its greedy texts. The directory that Burn
loads and saves must hold the same bytes of weights, and transformers must open it, find every key
and save the same bytes. Exits 1 if anything differs.
"""

import argparse
import json
import pathlib
import subprocess
import sys

import numpy as np
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
import check_llamacpp

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("model", type=pathlib.Path)
parser.add_argument("--work", type=pathlib.Path, required=True)
parser.add_argument("--text", type=pathlib.Path)
parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "target/release")
args = parser.parse_args()
failed = False


def check(good, text):
    global failed
    failed |= not good
    print(("ok   " if good else "FAIL ") + text, flush=True)


def run(*command):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout


def burn(directory, ids):
    rows = run(args.bin / "examples/checkpoint_logits", directory, ",".join(map(str, ids)))
    return np.array(json.loads(rows), dtype=np.float32)


folder, saved, again = args.work / "imported", args.work / "saved", args.work / "again.gguf"
run(args.bin / "retort", "import", args.model, "--out", folder)
run(args.bin / "retort", "export", folder, "--out", again, "--quant", "f32")
llama = check_llamacpp.LlamaCpp(again, 512, 2)
prompts = [(repr(text), llama.tokenize(text)) for text in check_llamacpp.PROMPTS]
if args.text:
    # One token is at most a few bytes, so these suffice for a window.
    whole = args.text.read_bytes()[:8192].decode(errors="replace")
    prompts.append((args.text.name, llama.tokenize(whole, parse_special=False)[:512]))
for name, ids in prompts:
    theirs, ours = llama.logits(ids, every=True), burn(folder, ids)
    difference = np.abs(theirs - ours).max()
    same = (theirs.argmax(1) == ours.argmax(1)).sum()
    figures = f"logits up to {np.abs(theirs).max():.1f}, max difference {difference:.1e}"
    check(difference <= 0.02, f"{name}: {len(ids)} tokens, {figures}, most likely token equal at {same}")
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
for text in check_llamacpp.PROMPTS:
    command = ["generate", folder, "-p", text, "-n", 48, "--temperature", 0]
    ours = run(args.bin / "retort", *command)
    theirs = llama.greedy(llama.tokenize(text), 48)
    end = next((i for i, id in enumerate(theirs) if llama.is_end(id)), len(theirs))
    theirs = tokenizer.decode(theirs[:end], skip_special_tokens=True)
    # the command prints the prompt before its continuation
    equal = ours.strip() == (text + theirs).strip()
    check(equal, f"greedy text after {text!r}: {end} tokens{'' if equal else f' {ours!r} {theirs!r}'}")

weights = lambda directory: {file.name: file.read_bytes() for file in directory.glob("*.safetensors")}
run(args.bin / "examples/checkpoint_logits", folder, "--to", saved)
check(weights(folder) == weights(saved), f"loaded and saved in Burn: {sorted(weights(saved))} the same bytes")
for directory in [folder, saved]:
    model, info = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype="auto", output_loading_info=True)
    problems = {key: value for key, value in info.items() if value}
    check(not problems, f"transformers opens {directory.name}: {type(model).__name__}, {problems or 'every key'}")
    model.save_pretrained(args.work / f"{directory.name}-resaved")
    same = weights(directory) == weights(args.work / f"{directory.name}-resaved")
    check(same, f"and saves {'the same bytes' if same else 'OTHER BYTES'}")
sys.exit(failed)
