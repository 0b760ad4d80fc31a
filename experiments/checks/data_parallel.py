#!/usr/bin/env python3
"""1, 2 and 4 ranks on this machine: how far their losses are apart at the same global batch, and 4 ranks gone on as 2.

    cargo build --release --features mpi
    python3 experiments/checks/data_parallel.py [--bin target/release] [--steps 100] [--optimizer adamw]

Makes a small corpus, trains a small recipe with each number of ranks, and compares every step's loss and norm and every
validation loss with those of one rank. Then a run of 4 ranks is stopped in its middle (SIGTERM to one rank) and goes on
with 2: its losses are compared too, and the place in the data where it ends must be the same. Exits 1 if a loss is more
than 1e-5 (relative) from one rank's, or if two runs of 4 ranks differ in any bit.
"""
import argparse
import json
import os
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
seq_len = 64
validation_fraction = 0.05
max_validation_rows = 16
[model]
hidden_size = 128
intermediate_size = 352
num_hidden_layers = 4
num_attention_heads = 4
num_key_value_heads = 2
[train]
steps = STEPS
batch_size = 8
accumulate = 1
lr = 1e-3
warmup_steps = 10
optimizer = "OPTIMIZER"
spike_factor = 3.0
eval_every = 25
activation_checkpointing = true
"""


def words(rng):
    nouns = "fox river town baker lamp stone garden boat teacher cloud".split()
    verbs = "saw found carried painted forgot mended followed".split()
    return " ".join(f"The {rng.choice(nouns)} {rng.choice(verbs)} the {rng.choice(nouns)}." for _ in range(rng.randint(3, 30)))


def records(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def furthest(run, one):
    """The largest relative differences of (loss, grad_norm, validation_loss)."""
    found = {}
    ours, theirs = records(run), records(one)
    assert len(ours) == len(theirs), f"{run}: {len(ours)} lines, {len(theirs)} of one rank"
    for a, b in zip(ours, theirs):
        for key in ("loss", "grad_norm", "validation_loss"):
            if key in a:
                found[key] = max(found.get(key, 0.0), abs(a[key] - b[key]) / abs(b[key]))
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", default=pathlib.Path(__file__).resolve().parents[2] / "target/release", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--optimizer", default="adamw")
    args = parser.parse_args()
    rng = random.Random(1)
    retort = (args.bin / "retort").resolve()
    work = pathlib.Path(tempfile.mkdtemp(prefix="data-parallel-"))
    (work / "corpus").mkdir()
    for shard in range(2):
        lines = [json.dumps({"text": words(rng)}) for _ in range(600)]
        (work / f"corpus/{shard}.jsonl").write_text("\n".join(lines) + "\n")
    recipe = RECIPE.replace("STEPS", str(args.steps)).replace("OPTIMIZER", args.optimizer)
    (work / "recipe.toml").write_text(recipe)
    tokenizer = ["tokenizer", "train", "--data", "corpus", "--vocab-size", "500", "--out", "tokenizer"]
    subprocess.run([retort, *tokenizer], cwd=work, check=True, capture_output=True)
    environment = {**os.environ, "RAYON_NUM_THREADS": "1"}

    def command(ranks, run, *more):
        mpirun = ["mpirun", "--oversubscribe", "--allow-run-as-root", "--bind-to", "none", "-n", str(ranks)]
        return [*mpirun, retort, "train", "recipe.toml", "--run", run, *more]

    def train(ranks, run, *more):
        start = time.monotonic()
        subprocess.run(command(ranks, run, *more), cwd=work, check=True, capture_output=True, env=environment)
        sent = [record.get("sent_bytes", 0) for record in records(work / run) if "loss" in record]
        print(f"{ranks} ranks: {time.monotonic() - start:.1f} s, {sorted(sent)[len(sent) // 2]} bytes sent a step", flush=True)

    for ranks in (1, 2, 4):
        train(ranks, f"run{ranks}")
    train(4, "again")
    wrong = False
    for name in ("run2", "run4"):
        found = furthest(work / name, work / "run1")
        print(f"{name}: largest relative differences from one rank over {args.steps} steps: {found}")
        wrong |= max(found["loss"], found["validation_loss"]) > 1e-5
    weights = f"checkpoints/step-{args.steps}/model.safetensors"
    same = (work / "run4" / weights).read_bytes() == (work / "again" / weights).read_bytes()
    print(f"4 ranks twice: the same weights: {same}")

    process = subprocess.Popen(command(4, "split"), cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    metrics = work / "split/metrics.jsonl"
    while not metrics.exists() or len(metrics.read_text().splitlines()) < args.steps // 2:
        time.sleep(0.05)
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[3]), signal.SIGTERM)
    process.wait()
    stopped = max(int(path.name[5:]) for path in (work / "split/checkpoints").glob("step-*"))
    train(2, "split", "--resume")
    found = furthest(work / "split", work / "run1")
    print(f"4 ranks to step {stopped}, then 2: exit {process.returncode}, largest relative differences: {found}")
    place = [json.loads((work / run / f"checkpoints/step-{args.steps}/state.json").read_text())["cursor"] for run in ("run1", "split")]
    print(f"the same place in the data at the end: {place[0] == place[1]}")
    wrong |= max(found["loss"], found["validation_loss"]) > 1e-5 or not same or place[0] != place[1] or process.returncode != 0
    if not wrong:
        shutil.rmtree(work)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
