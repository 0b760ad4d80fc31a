#!/usr/bin/env python3
"""Runs killed with SIGKILL at random moments and resumed end in the bytes of a run never stopped.

    cargo build --release
    python3 experiments/checks/kill_resume.py [--runs 200] [--bin target/release] [--seed 1]

Makes a small corpus, trains a tiny recipe once without interruption, then `--runs` times over:
each run is killed at random moments until it completes. Every kind of state is in the recipe:
Muon beside AdamW, the average of the weights, warm-up and decay, the guard, samples, checkpoints
while training goes on. Exits 1 at the first run whose final `model.safetensors` (or
`ema/model.safetensors`, or the losses in `metrics.jsonl`) differs.
"""
import argparse
import json
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

RECIPE = """
seed = 7
[data]
source = "corpus"
tokenizer = "tokenizer"
seq_len = 32
validation_fraction = 0.1
max_validation_rows = 8
[model]
hidden_size = 32
intermediate_size = 96
num_hidden_layers = 2
num_attention_heads = 4
num_key_value_heads = 2
[train]
steps = 40
batch_size = 4
accumulate = 2
lr = 3e-3
warmup_steps = 5
schedule = "wsd"
optimizer = "muon"
ema_decay = 0.95
spike_factor = 1.5
eval_every = 10
checkpoint_every = 3
sample_every = 15
sample_tokens = 8
[[train.groups]]
parameters = ["*.0.mlp.*"]
lr_scale = 0.5
"""


def words(rng):
    nouns = "fox river town baker lamp stone garden boat teacher cloud".split()
    verbs = "saw found carried painted forgot mended followed".split()
    return " ".join(f"The {rng.choice(nouns)} {rng.choice(verbs)} the {rng.choice(nouns)}." for _ in range(rng.randint(3, 30)))


def final(run):
    checkpoint = run / "checkpoints/step-40"
    losses = []
    for line in (run / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        losses.append([record.get(key) for key in ("step", "loss", "grad_norm", "validation_loss", "ema_validation_loss")])
    return [(checkpoint / "model.safetensors").read_bytes(), (checkpoint / "ema/model.safetensors").read_bytes(), losses]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--bin", default=pathlib.Path(__file__).resolve().parents[2] / "target/release", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    retort = (args.bin / "retort").resolve()
    work = pathlib.Path(tempfile.mkdtemp(prefix="kill-resume-"))
    corpus = work / "corpus"
    corpus.mkdir()
    for shard in range(2):
        lines = [json.dumps({"text": words(rng)}) for _ in range(300)]
        (corpus / f"{shard}.jsonl").write_text("\n".join(lines) + "\n")
    (work / "recipe.toml").write_text(RECIPE)
    tokenizer = ["tokenizer", "train", "--data", "corpus", "--vocab-size", "300", "--out", "tokenizer"]
    subprocess.run([retort, *tokenizer], cwd=work, check=True, capture_output=True)

    command = [retort, "train", "recipe.toml", "--run"]
    start = time.monotonic()
    subprocess.run([*command, "whole"], cwd=work, check=True, capture_output=True)
    seconds = time.monotonic() - start
    expected = final(work / "whole")
    print(f"uninterrupted: {seconds:.2f} s; {args.runs} runs killed at random moments", flush=True)

    kills, before_start = 0, 0
    for i in range(args.runs):
        run = work / f"run{i}"
        while True:
            process = subprocess.Popen(
                [*command, run.name, "--resume"], cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            try:
                _, stderr = process.communicate(timeout=rng.uniform(0.0, 0.6 * seconds))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                kills += 1
                before_start += not run.exists()
                continue
            if process.returncode != 0:
                print(f"run {i} failed in {run}: {stderr.decode()}")
                return 1
            break
        for name, a, b in zip(["model.safetensors", "ema/model.safetensors", "losses"], expected, final(run)):
            if a != b:
                print(f"run {i} ended in other {name}: {run}, beside {work / 'whole'}")
                return 1
        shutil.rmtree(run)
        if (i + 1) % 20 == 0:
            print(f"{i + 1} runs, {kills} kills ({before_start} before the run directory was there): all equal", flush=True)
    print(f"{args.runs} runs, {kills} kills: final weights, average and losses equal every time")
    shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
