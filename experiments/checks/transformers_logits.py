#!/usr/bin/env python3
"""A checkpoint that retort wrote, opened by transformers: logits and greedy text must agree.

    cargo build --release --workspace --examples --bins
    python3 experiments/checks/transformers_logits.py CHECKPOINT [PROMPT]

Needs torch and transformers. Prints the largest absolute difference over all positions and
the vocabulary, how far either is from transformers in float64, and whether 64 greedy tokens are
equal. Exits 1 if the text differs or the difference exceeds both 1e-4 and 1e-5 of the largest
logit: those of a trained model reach tens, where float32 itself is about 1e-4 from float64.
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
largest = theirs.abs().max().item()
print(f"{len(ids)} tokens, logits up to {largest:.2f}, max difference {difference:.2e}")
with torch.no_grad():
    exact = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float64)(torch.tensor([ids])).logits[0]
distances = [(logits.double() - exact).abs().max().item() for logits in [ours, theirs]]
print(f"from float64: {distances[0]:.2e} retort, {distances[1]:.2e} transformers in float32")
with torch.no_grad():
    answer = model.generate(torch.tensor([ids]), max_new_tokens=64, do_sample=False, use_cache=False)
theirs = tokenizer.decode(answer[0], skip_special_tokens=True)
command = [release / "retort", "generate", directory, "-p", prompt, "-n", "64", "--temperature", "0"]
ours = subprocess.run(command, check=True, capture_output=True, text=True).stdout
equal = ours.strip() == theirs.strip()
print("greedy text over 64 tokens:", "equal" if equal else f"DIFFERENT\n{ours}\n{theirs}")
sys.exit(difference > max(1e-4, 1e-5 * largest) or not equal)
