#!/usr/bin/env python3
"""A checkpoint that retort wrote, opened by transformers: logits and greedy text must agree.

    cargo build --release --workspace --examples --bins
    python3 experiments/checks/transformers_logits.py CHECKPOINT [PROMPT]

Needs torch and transformers. Prints the largest absolute difference over all positions and
the vocabulary and whether 64 greedy tokens are equal; exits 1 if the difference exceeds 1e-4
or the text differs.
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
release = pathlib.Path(__file__).resolve().parents[2] / "target/release"
ours = subprocess.run([release / "examples/checkpoint_logits", directory, ",".join(map(str, ids))], check=True, capture_output=True)
ours = torch.tensor(json.loads(ours.stdout))
difference = (ours - theirs).abs().max().item()
print(f"{len(ids)} tokens, logits up to {theirs.abs().max().item():.2f}, max difference {difference:.2e}")
with torch.no_grad():
    answer = model.generate(torch.tensor([ids]), max_new_tokens=64, do_sample=False, use_cache=False)
theirs = tokenizer.decode(answer[0], skip_special_tokens=True)
command = [release / "retort", "generate", directory, "-p", prompt, "-n", "64", "--temperature", "0"]
ours = subprocess.run(command, check=True, capture_output=True, text=True).stdout
equal = ours.strip() == theirs.strip()
print("greedy text over 64 tokens:", "equal" if equal else f"DIFFERENT\n{ours}\n{theirs}")
sys.exit(difference > 1e-4 or not equal)
