#!/usr/bin/env python3
"""retort and PyTorch train the same model on the same batches: do the losses agree?

    cargo build --release --workspace --bins --examples
    python3 experiments/checks/convergence.py RECIPE.toml --out DIR [--set KEY=VALUE]… [--bin target/release]

Needs torch and transformers. The recipe must be a new Llama under AdamW without groups, low-rank
adapters or an average. retort writes the weights of step 0 and the batches (dump_batches), trains,
and PyTorch trains transformers' LlamaForCausalLM from the same weights on the same batches in the
same order, with torch.optim.AdamW, the same decay, clipping and schedule: in float32 and, as a
measure of what rounding alone does, in float64. At every evaluation of the recipe the three
validation losses stand in DIR/convergence.csv, the curves in DIR/convergence.svg.

Exits 1 if at an evaluation retort's validation loss is farther from PyTorch's float32 than
--tolerance (0.01 nats).
"""
import argparse
import json
import math
import pathlib
import subprocess
import sys
import time

import numpy as np
import torch
from transformers import AutoModelForCausalLM


def rate(t, step):
    if step <= t["warmup_steps"]:
        return t["lr"] * step / t["warmup_steps"]

    def share(start):
        return min(max(step - start, 0) / max(t["steps"] - start, 1), 1.0)

    if t["schedule"] == "cosine":
        height = 0.5 * (1 + math.cos(math.pi * share(t["warmup_steps"])))
    elif t["schedule"] == "linear":
        height = 1 - share(t["warmup_steps"])
    else:
        height = 1 - share(max(t["steps"] - round(t["decay_fraction"] * t["steps"]), t["warmup_steps"]))
    floor = t["lr"] * t["min_lr_ratio"]
    return floor + (t["lr"] - floor) * height


def loss_of(model, inputs, targets, weight):
    """The sum of the losses of the targets, each times `weight`."""
    logits = model(inputs).logits
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="sum")
    return losses * weight


def evaluate(model, inputs, targets, batch):
    with torch.no_grad():
        total = sum(loss_of(model, inputs[i : i + batch], targets[i : i + batch], 1.0).item() for i in range(0, len(inputs), batch))
    return total / (targets != -1).sum().item()


def train(out, shape, dtype):
    t = shape["train"]
    model = AutoModelForCausalLM.from_pretrained(out / "initial", dtype=dtype, attn_implementation="sdpa")
    model.train()
    decayed = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed_tokens" not in n]
    spared = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed_tokens" in n]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": t["weight_decay"]}, {"params": spared, "weight_decay": 0.0}],
        lr=t["lr"],
        betas=(t["beta1"], t["beta2"]),
        eps=t["epsilon"],
    )
    size = (t["steps"] * t["accumulate"], 2, shape["batch_size"], shape["seq_len"])
    batches = torch.from_numpy(np.fromfile(out / "train.i32", "<i4").reshape(size).astype(np.int64))
    size = (2, shape["validation_rows"], shape["seq_len"])
    held = torch.from_numpy(np.fromfile(out / "validation.i32", "<i4").reshape(size).astype(np.int64))
    losses, evaluations = [], {}
    for step in range(1, t["steps"] + 1):
        parts = batches[(step - 1) * t["accumulate"] : step * t["accumulate"]]
        tokens = (parts[:, 1] != -1).sum().item()
        optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for inputs, targets in parts:
            loss = loss_of(model, inputs, targets, 1.0 / tokens)
            loss.backward()
            total += loss.item()
        if t["grad_clip"] > 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), t["grad_clip"])
        for group in optimizer.param_groups:
            group["lr"] = rate(t, step)
        optimizer.step()
        losses.append(total)
        if step == t["steps"] or (t["eval_every"] and step % t["eval_every"] == 0):
            model.eval()
            evaluations[step] = evaluate(model, *held, shape["batch_size"])
            model.train()
    return losses, evaluations


def plot(path, curves, evaluations):
    """Training losses as lines (a running mean of 10), validation losses as dots."""
    width, height, left, bottom = 900, 420, 60, 40
    steps = max(len(losses) for _, _, losses in curves)
    smooth = [(name, colour, [np.mean(losses[max(0, i - 9) : i + 1]) for i in range(len(losses))]) for name, colour, losses in curves]
    values = [v for _, _, losses in smooth for v in losses]
    low, high = min(values), max(values)
    x = lambda step: left + (width - left - 10) * step / steps
    y = lambda v: 10 + (height - bottom - 10) * (high - v) / (high - low)
    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">']
    svg.append(f'<rect width="{width}" height="{height}" fill="white"/>')
    for i in range(6):
        v = low + (high - low) * i / 5
        svg.append(f'<line x1="{left}" x2="{width - 10}" y1="{y(v):.1f}" y2="{y(v):.1f}" stroke="#ddd"/>')
        svg.append(f'<text x="{left - 6}" y="{y(v) + 4:.1f}" text-anchor="end">{v:.2f}</text>')
        svg.append(f'<text x="{x(steps * i / 5):.1f}" y="{height - bottom + 18}" text-anchor="middle">{round(steps * i / 5)}</text>')
    svg.append(f'<text x="{(left + width) / 2}" y="{height - 4}" text-anchor="middle">step</text>')
    svg.append(f'<text x="14" y="{height / 2}" transform="rotate(-90 14 {height / 2})" text-anchor="middle">loss, nats a token</text>')
    for i, (name, colour, losses) in enumerate(smooth):
        points = " ".join(f"{x(step + 1):.1f},{y(v):.1f}" for step, v in enumerate(losses))
        dash = "" if i == 0 else f' stroke-dasharray="{4 * i} {4}"'
        svg.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"{dash}/>')
        svg.append(f'<text x="{width - 20}" y="{30 + 16 * i}" text-anchor="end" fill="{colour}">{name}</text>')
        for step, v in evaluations[i].items():
            svg.append(f'<circle cx="{x(step):.1f}" cy="{y(min(max(v, low), high)):.1f}" r="{5 - 1.5 * i}" fill="none" stroke="{colour}"/>')
    path.write_text("\n".join(svg) + "\n</svg>\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--bin", default=pathlib.Path(__file__).resolve().parents[2] / "target/release", type=pathlib.Path)
    parser.add_argument("--tolerance", type=float, default=0.01)
    args = parser.parse_args()
    out = args.out
    out.mkdir(parents=True)
    subprocess.run([args.bin / "examples/dump_batches", args.recipe, out, *args.set], check=True)
    shape = json.loads((out / "shape.json").read_text())
    start = time.monotonic()
    overrides = [word for key in args.set for word in ("--set", key)]
    subprocess.run([args.bin / "retort", "train", args.recipe, "--run", out / "run", *overrides], check=True, stdout=subprocess.DEVNULL)
    print(f"retort: {time.monotonic() - start:.0f} s", flush=True)
    ours, our_evaluations = [], {}
    for line in (out / "run/metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        if "validation_loss" in record:
            our_evaluations[record["step"]] = record["validation_loss"]
        else:
            ours.append(record["loss"])
    results = {}
    for name, dtype in [("float32", torch.float32), ("float64", torch.float64)]:
        start = time.monotonic()
        results[name] = train(out, shape, dtype)
        print(f"PyTorch {name}: {time.monotonic() - start:.0f} s", flush=True)
    (single, single_evaluations), (double, double_evaluations) = results["float32"], results["float64"]
    lines = ["step,retort,pytorch_float32,pytorch_float64"]
    worst = worst_rounding = 0.0
    for step in sorted(single_evaluations):
        row = [our_evaluations[step], single_evaluations[step], double_evaluations[step]]
        worst = max(worst, abs(row[0] - row[1]))
        worst_rounding = max(worst_rounding, abs(row[1] - row[2]))
        lines.append(",".join([str(step), *(f"{v:.6f}" for v in row)]))
    (out / "convergence.csv").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    train_worst = max(abs(a - b) for a, b in zip(ours, single))
    print(f"validation loss, largest difference: retort from PyTorch float32 {worst:.6f}, float32 from float64 {worst_rounding:.6f}")
    print(f"training loss of a step, largest difference over {len(ours)} steps: {train_worst:.6f}; of the first: {abs(ours[0] - single[0]):.2e}")
    curves = [("retort", "#d62728", ours), ("PyTorch float32", "#1f77b4", single), ("PyTorch float64", "#2ca02c", double)]
    plot(out / "convergence.svg", curves, [our_evaluations, single_evaluations, double_evaluations])
    return worst > args.tolerance or len(ours) != len(single)


if __name__ == "__main__":
    sys.exit(main())
