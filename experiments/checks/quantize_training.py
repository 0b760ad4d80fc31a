#!/usr/bin/env python3
"""What quantization-aware distillation brings back of what int4 costs a checkpoint.

    cargo build --release --workspace --bins
    python3 experiments/checks/quantize_training.py PARENT c4-*.parquet --text wiki.test.raw --work runs/qat \\
        --steps 200 [--seconds 3600] [--batch 4] [--seq-len 512] [--lr 2e-5] [--start DIR] [--set KEY=VALUE]

PARENT is a Hugging Face directory with its tokenizer. The parent in float teaches a student that starts as its copy, or as
`--start` (such as a calibrated file that `retort import` has read), and rounds its weights to Q4_0 (`[quantize]`). Exports of the parent (F32, Q4_0) and of the student (Q4_0) are then
measured by `retort-edge perplexity`, on each `--text`.
`--seconds` stops the run after so long (it can be gone on with: the same command). Prints a table.
"""
import argparse
import json
import pathlib
import signal
import subprocess
import sys
import time

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("parent", type=pathlib.Path)
parser.add_argument("data", type=pathlib.Path, nargs="+")
parser.add_argument("--text", type=pathlib.Path, action="append", default=[])
parser.add_argument("--work", type=pathlib.Path, required=True)
parser.add_argument("--bin", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[2] / "target/release")
parser.add_argument("--start", type=pathlib.Path)
parser.add_argument("--steps", type=int, default=200)
parser.add_argument("--seconds", type=float)
parser.add_argument("--batch", type=int, default=4)
parser.add_argument("--seq-len", type=int, default=512)
parser.add_argument("--lr", type=float, default=2e-5)
parser.add_argument("--activations", default="float32")
parser.add_argument("--ctx", type=int, default=512)
parser.add_argument("--bytes", type=int, help="only so many of each text's first bytes")
parser.add_argument("--set", action="append", default=[])
args = parser.parse_args()
args.work.mkdir(parents=True, exist_ok=True)
corpus = args.work / "corpus"
corpus.mkdir(exist_ok=True)
for i, file in enumerate(args.data):
    link = corpus / f"{i:04}-{file.name}"
    if not link.is_symlink():
        link.symlink_to(file.resolve())

recipe = args.work / "recipe.toml"
tables = {
    "data": {"source": str(corpus), "tokenizer": str(args.parent), "seq_len": args.seq_len,
             "validation_fraction": 0.02, "max_validation_rows": 32},
    "model": {"from": str(args.start or args.parent)},
    "quantize": {"weights": "q4_0", "activations": args.activations},
    "train": {"steps": args.steps, "batch_size": args.batch, "lr": args.lr, "min_lr_ratio": 0.1,
              "warmup_steps": args.steps // 10, "weight_decay": 0.0, "eval_every": max(1, args.steps // 10),
              "checkpoint_every": max(1, args.steps // 10), "keep_checkpoints": 1, "keep_best": False},
    "teacher": {"path": str(args.parent)},
    "teacher.losses": {"forward_kl": 1.0},
}
lines = ["seed = 1"]
for table, keys in tables.items():
    lines += [f"[{table}]"] + [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
recipe.write_text("\n".join(lines) + "\n")

run = args.work / "run"
sets = [a for s in args.set for a in ("--set", s)]
begun = time.monotonic()
child = subprocess.Popen([args.bin / "retort", "distill", recipe, "--run", run, "--resume", *sets], stdout=subprocess.DEVNULL)
while child.poll() is None:
    time.sleep(1)
    if args.seconds and time.monotonic() - begun > args.seconds:
        child.send_signal(signal.SIGINT)
        break
if child.wait():
    sys.exit("retort distill failed")
trained = time.monotonic() - begun
steps = [m for m in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if "grad_norm" in m]


def export(source, name, quant):
    out = args.work / name
    subprocess.run([args.bin / "retort", "export", source, "--out", out, "--quant", quant], check=True, stdout=subprocess.DEVNULL)
    return out


files = {
    "float parent": export(args.parent, "parent-f32.gguf", "f32"),
    "Q4_0, rounded": export(args.parent, "parent-q4_0.gguf", "q4_0"),
    "Q4_0, trained": export(run, "trained-q4_0.gguf", "q4_0"),
}
texts = []
for text in args.text:
    if args.bytes:
        cut = args.work / f"first-{text.name}"
        cut.write_bytes(text.read_bytes()[: args.bytes].decode("utf8", "ignore").encode())
        text = cut
    texts.append(text)
print(f"{steps[-1]['step']} steps, {steps[-1]['tokens']} tokens, {steps[-1]['seconds']:.0f} s of training ({trained:.0f} s now);"
      f" loss {steps[0]['loss']:.4f} -> {sum(m['loss'] for m in steps[-10:]) / len(steps[-10:]):.4f}\n")
print("| | bytes |", " | ".join(f"{t.name}: perplexity | over the parent's" for t in texts), "|")
print("| --- | --- |", " | ".join("--- | ---" for _ in texts), "|")
base = {}
for name, file in files.items():
    cells = []
    for text in texts:
        made = subprocess.run([args.bin / "retort-edge", "perplexity", file, "--text", text, "--ctx", str(args.ctx), "--json"],
                              check=True, capture_output=True)
        perplexity = json.loads(made.stdout)["perplexity"]
        base.setdefault(text, perplexity)
        cells.append(f"{perplexity:.4f} | {100 * (perplexity / base[text] - 1):+.2f} %")
    print(f"| {name} | {file.stat().st_size} |", " | ".join(cells), "|", flush=True)
