#!/usr/bin/env python3
"""Whether a teacher is worth its time on real text: students of a real model against their controls.

    cargo build --release --bins
    python3 experiments/checks/distill_real_text.py SMOLLM2_DIR c4-*.parquet --work runs/real \\
        [--sizes 0.25 0.1] [--seeds 0 1 2] [--steps 2000] [--set train.lr=1e-3] [--set-teacher KEY=VALUE]

Parent and teacher are one Hugging Face directory. `retort prune --params` cuts a student of each size;
then, for each size and seed:

    scratch              random start, no teacher        at equal tokens, and at equal time
    distilled            random start, teacher           what both are measured by
    pruned               cut out of the parent, no teacher   at equal tokens, and at equal time
    pruned and distilled cut out of the parent, teacher

All have one shape, one tokenizer, one order of the data and one set of held-out rows. "Equal time":
as many steps without the teacher as take as long as the distilled run's, from the seconds a step that
short runs of each kind take in the same session, in turn (`probes.json`); the seconds that the
long runs took themselves are in the table beside it. What pruning takes is not in it.

Writes recipes, runs `retort`, and into --work: `results.csv` (every evaluation), `results.md` (the last
of each run, mean and range over the seeds) and `report/` with curves. Ctrl-C stops with a checkpoint;
the same command goes on: runs that are done are not run again. `--set` overrides keys of all recipes,
`--set-teacher` those of the distilled runs (such as teacher.path=FILE.gguf, or
teacher.hidden.weight=1.0), after the others.
"""
import argparse
import csv
import json
import pathlib
import signal
import statistics
import subprocess
import sys

KINDS = {  # name: (starts from the pruned parent, has a teacher)
    "scratch": (False, False),
    "distilled": (False, True),
    "pruned": (True, False),
    "pruned and distilled": (True, True),
}
SHAPE = """model_type vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads
num_key_value_heads head_dim max_position_embeddings rope_theta rms_norm_eps tie_word_embeddings""".split()


class Stopped(Exception):
    pass


def main():
    args = arguments()
    args.work.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    corpus = args.work / "corpus"
    corpus.mkdir(exist_ok=True)
    for i, file in enumerate(args.data):
        link = corpus / f"{i:04}-{file.name}"
        if not link.is_symlink():
            link.symlink_to(file.resolve())
    try:
        experiment(args, corpus)
    except (KeyboardInterrupt, Stopped):
        sys.exit("stopped: the same command goes on from here")


def arguments():
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("teacher", type=pathlib.Path, help="a Hugging Face directory")
    parser.add_argument("data", type=pathlib.Path, nargs="+", help="parquet files of text")
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--bin", type=pathlib.Path, default=root / "target/release/retort")
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.25, 0.1], help="shares of the parent's parameters")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=2000, help="of the runs at equal tokens")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seq-len", type=int, default=256)
    parser.add_argument("--evaluations", type=int, default=10)
    parser.add_argument("--validation-rows", type=int, default=256)
    parser.add_argument("--calibration", type=int, default=65536, help="tokens that pruning looks at")
    parser.add_argument("--probe-steps", type=int, default=8)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--set-teacher", action="append", default=[], metavar="KEY=VALUE")
    return parser.parse_args()


def experiment(args, corpus):
    parent = itself(args, corpus)
    runs = []
    for size in args.sizes:
        pruned = args.work / f"pruned-{size:g}"
        if not (pruned / "config.json").exists():
            count = round(parent["parameters"] * size)
            call(args, "prune", args.teacher, "--out", pruned, "--params", count, "--data", corpus,
                 "--tokens", args.calibration, "--seq-len", args.seq_len)
        shape = json.loads((pruned / "config.json").read_text())
        per_step = probes(args, corpus, size, pruned, shape)
        for seed in args.seeds:
            for kind, (start, taught) in KINDS.items():
                plan = {"tokens and time" if taught else "tokens": args.steps}
                if not taught:
                    by = per_step["pruned and distilled" if start else "distilled"]
                    plan["time"] = max(1, round(args.steps * by / per_step[kind]))
                for equal, steps in plan.items():
                    name = f"{size:g}-{kind}-{equal}-{seed}".replace(" ", "-")
                    recipe = recipe_of(args, corpus, kind, pruned, shape, seed, steps)
                    train(args, args.work / name, recipe, steps)
                    runs.append({"size": size, "kind": kind, "equal": equal, "seed": seed, "steps": steps, "run": name})
                    results(args, parent, runs)
    call(args, "report", *(args.work / r["run"] for r in runs), "--out", args.work / "report")
    print((args.work / "results.md").read_text())


def recipe_of(args, corpus, kind, pruned, shape, seed, steps, probe=False):
    """A recipe's text, and the command that takes it."""
    start, taught = KINDS[kind]
    every = steps + 1 if probe else max(1, steps // args.evaluations)
    model = {"from": str(pruned)} if start else {k: shape[k] for k in SHAPE if k in shape}
    tables = {
        "data": {
            "source": str(corpus), "tokenizer": str(args.teacher), "seq_len": args.seq_len, "seed": seed,
            "validation_fraction": 0.05, "max_validation_rows": 1 if probe else args.validation_rows,
        },
        "model": model,
        "train": {
            "steps": steps, "batch_size": args.batch, "lr": 6e-4, "min_lr_ratio": 0.1, "warmup_steps": min(steps // 10, 200),
            "weight_decay": 0.1, "eval_every": every, "checkpoint_every": every, "keep_checkpoints": 1,
        },
    }
    if taught:
        tables["teacher"] = {"path": str(args.teacher)}
        tables["teacher.losses"] = {"forward_kl": 0.5, "cross_entropy": 0.5}
    lines = [f"seed = {seed}"]
    for table, keys in tables.items():
        lines += [f"[{table}]"] + [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    sets = args.set + (args.set_teacher if taught else [])
    return "\n".join(lines) + "\n", "distill" if taught else "train", [a for s in sets for a in ("--set", s)]


def train(args, run, recipe, steps):
    """Runs a recipe to its end, from wherever it is; it may be there already."""
    text, command, sets = recipe
    if done(run, steps):
        return
    path = run.parent / f"{run.name}.toml"
    path.write_text(text)
    print(f"{run.name}: {steps} steps", file=sys.stderr, flush=True)
    call(args, command, path, "--run", run, "--resume", *sets)
    if not done(run, steps):
        raise Stopped


def done(run, steps):
    return (run / f"checkpoints/step-{steps}/state.json").exists() and any(
        e["step"] == steps for e in evaluations(run)
    )


def metrics(run):
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def evaluations(run):
    return [m for m in metrics(run) if "validation_loss" in m]


def probes(args, corpus, size, pruned, shape):
    """Seconds a step of each kind: medians of short runs, two of each, the kinds in turn. Cut out of the parent or
    not, a step is the same work: those count together."""
    path = args.work / f"probes-{size:g}.json"
    if path.exists():
        return json.loads(path.read_text())
    seconds = {kind: [] for kind in KINDS}
    for turn in range(2):
        for kind in KINDS:
            run = args.work / f"probe-{size:g}-{kind}-{turn}".replace(" ", "-")
            train(args, run, recipe_of(args, corpus, kind, pruned, shape, 0, args.probe_steps, True), args.probe_steps)
            total = [m["seconds"] for m in metrics(run) if "grad_norm" in m]
            # The first step pays for what later ones find ready.
            seconds[kind] += [b - a for a, b in zip(total, total[1:])]
    found = {
        kind: statistics.median(s for other, (_, t) in KINDS.items() if t == taught for s in seconds[other])
        for kind, (_, taught) in KINDS.items()
    }
    write(path, json.dumps(found, indent=1))
    return found


def itself(args, corpus):
    """The parent on the same held-out rows: a run of one step that moves nothing."""
    path = args.work / "parent.json"
    if not path.exists():
        text, _, _ = recipe_of(args, corpus, "pruned", args.teacher, {}, 0, 1)
        text = text.replace("lr = 0.0006", "lr = 1e-30").replace("weight_decay = 0.1", "weight_decay = 0.0")
        train(args, args.work / "parent", (text, "train", ["--set", "train.batch_size=1"]), 1)
        last = evaluations(args.work / "parent")[-1]
        plan = subprocess.run([args.bin, "train", args.work / "parent.toml", "--plan", "--json"], capture_output=True, check=True)
        keep = {k: last[k] for k in ("validation_loss", "validation_bits_per_byte")}
        write(path, json.dumps(keep | {"parameters": json.loads(plan.stdout)["parameters"]}, indent=1))
    return json.loads(path.read_text())


def results(args, parent, runs):
    """The CSV of all evaluations and the table of the last ones, of the runs so far."""
    rows, last = [], {}
    for run in runs:
        steps = [m for m in metrics(args.work / run["run"]) if "grad_norm" in m]
        seconds = {m["step"]: m["seconds"] for m in steps}
        for e in evaluations(args.work / run["run"]):
            figures = {"step": e["step"], "tokens": e["tokens"], "seconds": seconds[e["step"]]}
            figures |= {"nats_per_token": e["validation_loss"], "bits_per_byte": e["validation_bits_per_byte"]}
            rows.append({k: run[k] for k in ("size", "kind", "equal", "seed", "steps")} | figures)
        last.setdefault((run["size"], run["kind"], run["equal"]), []).append(rows[-1])
    temporary = args.work / "results.csv.tmp"
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(args.work / "results.csv")
    lines = [
        f"The parent itself: {parent['parameters'] / 1e6:.1f} M parameters, {parent['validation_bits_per_byte']:.4f} bits a byte,"
        f" {parent['validation_loss']:.4f} nats a token.", "",
        "| share of the parent | student | equal | steps | tokens | seconds | bits a byte | range over seeds | seeds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (size, kind, equal), ends in last.items():
        bits = [e["bits_per_byte"] for e in ends]
        seconds = statistics.mean(e["seconds"] for e in ends)
        lines.append(
            f"| {size:g} | {kind} | {equal} | {ends[0]['step']} | {ends[0]['tokens']} | {seconds:.0f} "
            f"| {statistics.mean(bits):.4f} | {min(bits):.4f} to {max(bits):.4f} | {len(bits)} |"
        )
    write(args.work / "results.md", "\n".join(lines) + "\n")


def write(path, text):
    aside = path.with_name(path.name + ".tmp")
    aside.write_text(text)
    aside.replace(path)


def call(args, *command):
    # Out of the terminal's reach: it is asked to stop once, and a second time would kill it.
    child = subprocess.Popen([args.bin, *map(str, command)], stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        code = child.wait()
    except KeyboardInterrupt:
        child.terminate()
        child.wait()
        raise
    if code:
        sys.exit(f"retort {' '.join(map(str, command))}: exit {code}")


if __name__ == "__main__":
    main()
