#!/usr/bin/env python3
"""A checkpoint that retort wrote, opened by transformers: the logits must agree.

    cargo build --release -p retort-model --example checkpoint_logits
    python3 experiments/checks/transformers_logits.py CHECKPOINT [PROMPT]

Needs torch and transformers. Prints the largest absolute difference over all positions and
the vocabulary, and exits 1 if it exceeds 1e-4.
"""
import json
import pathlib
import subprocess
import sys

import torch
import transformers

directory = sys.argv[1]
prompt = sys.argv[2] if len(sys.argv) > 2 else "Once upon a time there was a small town by the sea."
tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
assert type(model).__name__ == "LlamaForCausalLM", type(model).__name__
ids = tokenizer(prompt)["input_ids"]
with torch.no_grad():
    theirs = model(torch.tensor([ids])).logits[0]
binary = pathlib.Path(__file__).resolve().parents[2] / "target/release/examples/checkpoint_logits"
ours = subprocess.run([binary, directory, ",".join(map(str, ids))], check=True, capture_output=True)
ours = torch.tensor(json.loads(ours.stdout))
difference = (ours - theirs).abs().max().item()
print(f"{len(ids)} tokens, logits up to {theirs.abs().max().item():.2f}, max difference {difference:.2e}")
sys.exit(difference > 1e-4)
