#!/usr/bin/env python3
"""How unlike in size a model's states are from position to position: why a distance between states is
divided position by position (`distill/src/matching.rs`) and not by a batch's mean square.

    python3 experiments/checks/state_sizes.py CHECKPOINT TEXT [ROWS] [LENGTH]

Needs torch and transformers. Of the residual stream after layers and of what attention adds to it: the
median and largest norm, the share of all squares that the ROWS largest positions hold, and the mean of
(median / norm)²: how much a small position would count against the median one.
"""
import pathlib
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

checkpoint, text = sys.argv[1:3]
rows, length = (int(n) for n in (sys.argv[3:5] or ("4", "256")))
model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
ids = AutoTokenizer.from_pretrained(checkpoint)(pathlib.Path(text).read_text()[: 8 * rows * length])["input_ids"]
ids = torch.tensor(ids[: rows * length]).reshape(rows, length)
attention = {}
for i, layer in enumerate(model.model.layers):
    layer.self_attn.o_proj.register_forward_hook(lambda _, __, out, i=i: attention.__setitem__(i, out))
with torch.no_grad():
    hidden = model(ids, output_hidden_states=True).hidden_states

print("| layer | state | median norm | largest | share of the largest squares | (median / norm)² |\n| --- | --- | --- | --- | --- | --- |")
layers = len(model.model.layers)
for i in sorted({0, layers // 6, layers // 3, layers // 2, layers * 2 // 3, layers * 5 // 6, layers - 2}):
    for name, x in (("hidden", hidden[i + 1]), ("attention", attention[i])):
        squares = x.square().sum(-1).flatten().sort(descending=True).values
        median = squares.median()
        share = (squares[:rows].sum() / squares.sum()).item()
        figures = f"{median.sqrt():.1f} | {squares[0].sqrt():.1f} | {share:.2f} | {(median / squares).mean():.2f}"
        print(f"| {i} | {name} | {figures} |")
