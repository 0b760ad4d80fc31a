#!/usr/bin/env python3
"""How much of a checkpoint is left after pruning, before any training: held-out loss.

    cargo build --release --bins
    python3 experiments/checks/prune_quality.py CHECKPOINT CALIBRATION TEXT [RELEASE_DIRECTORY] [TOKENS]

Each student is cut with TOKENS of text from CALIBRATION, exported as q8_0 and scored by retort-edge on
the file TEXT in windows of 512. Prints a table in Markdown, a row as soon as it is known.
"""
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import time

checkpoint, calibration, text = sys.argv[1:4]
release = pathlib.Path(sys.argv[4]) if len(sys.argv) > 4 else pathlib.Path(__file__).resolve().parents[2] / "target/release"
tokens = sys.argv[5] if len(sys.argv) > 5 else "65536"
data = f"--data {calibration} --tokens {tokens}"


def run(*args):
    done = subprocess.run(list(map(str, args)), capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{args}: {done.stderr}")
    return done.stdout


def loss(directory, place):
    gguf = place / "student.gguf"
    run(release / "retort", "export", directory, "--out", gguf, "--quant", "q8_0")
    figures = json.loads(run(release / "retort-edge", "perplexity", gguf, "--text", text, "--json"))
    return math.log(figures["perplexity"]), figures["tokens"]


def sizes(path):
    config = json.loads((pathlib.Path(path) / "config.json").read_text())
    return config["num_hidden_layers"], config["intermediate_size"], config["hidden_size"], config["num_key_value_heads"]


with tempfile.TemporaryDirectory() as place:
    parent, scored = loss(checkpoint, pathlib.Path(place))
layers, mlp, hidden, groups = sizes(checkpoint)
print(f"{scored} tokens scored\n\n| cut | parameters | loss, nats/token | seconds |\n| --- | --- | --- | --- |")
print(f"| nothing | | {parent:.3f} | |", flush=True)
deep, wide, by = ["influence", "range", "every"], ["l1", "activation"], "--importance"
cuts = [f"--layers {layers // 2} --layers-by {how}" for how in deep]
cuts += [f"--mlp {mlp // 2} {by} {how}" for how in wide]
cuts += [f"--layers {layers * 5 // 6} --layers-by {how}" for how in deep]
cuts += [f"--mlp {mlp * 3 // 4} {by} {how}" for how in wide]
cuts += [f"--hidden {hidden * 5 // 6} {by} {how}" for how in wide]
cuts += [f"--kv-heads {groups * 2 // 3} {by} {how}" for how in wide]
for cut in cuts:
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        start = time.time()
        needs = "every" not in cut and "l1" not in cut
        figures = json.loads(run(release / "retort", "prune", checkpoint, "--out", place / "s", "--json", *cut.split(), *(data.split() if needs else [])))
        seconds = time.time() - start
        after, _ = loss(place / "s", place)
        print(f"| `{cut}` | {figures['student']['parameters'] / 1e6:.1f} M | {after:.3f} | {seconds:.0f} |", flush=True)
