#!/usr/bin/env python3
"""What each way of learning from a teacher is worth on generated stories, at equal steps, and what it takes.

    cargo build --release --bins
    target/release/retort demo --out DEMO
    python3 experiments/checks/distill_stories.py DEMO --work DIR [--steps 300] [--seeds 1 2 3] [--only hidden]

Students of the demo's shape (width 64, two layers), of the teacher's width (96), and cut out of the teacher
(its layers 0 and 2, learning rate 2e-3) learn from the demo's teacher (width 96, three layers) with
`experiments/recipes/demo/student.toml` and, each, one table more.
Prints the held-out loss after the last step, mean and range over the seeds, and what a step takes: time on
the clock, and of the processors (all of a run's, reading and evaluation included, over its steps), medians
over the seeds, the ways in turn. Runs that are done are not run again.
"""
import argparse
import json
import pathlib
import resource
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHAPES = {
    "small": [],
    "wide": ["model.hidden_size=96", "model.intermediate_size=256", "model.num_attention_heads=3"],
    "cut": ["model={{from={cut}}}", "train.lr=2e-3", "data.seed={seed}"],
}
CUT = "[[0,0],[1,2]]"
OWN = "prompt=16,new_tokens={n},temperature=1.0"
WAYS = {  # name: (shape, keys; none without a teacher)
    "text alone": ("small", None),
    "outputs alone (the recipe)": ("small", []),
    "and hidden": ("small", ["teacher.hidden.weight=1.0"]),
    "and attention": ("small", ["teacher.attention.weight=1.0"]),
    "and both": ("small", ["teacher.hidden.weight=0.5", "teacher.attention.weight=0.5"]),
    "and both, fading": ("small", [f"teacher.{t}.weight={{from=1.0,to=0.0,steps=HALF}}" for t in ("hidden", "attention")]),
    "on policy, half of the steps": ("small", [f"teacher.on_policy={{fraction=0.5,{OWN.format(n=48)}}}"]),
    "on policy, all steps": ("small", [f"teacher.on_policy={{fraction=1.0,{OWN.format(n=48)}}}"]),
    "wide: outputs alone": ("wide", []),
    "wide: and hidden, projected": ("wide", ["teacher.hidden.weight=1.0"]),
    "wide: and hidden, as it is": ("wide", ["teacher.hidden={weight=1.0,projection=false}"]),
    "wide: a fifth of the steps block by block": ("wide", ["teacher.blockwise.steps=FIFTH"]),
    "wide: half of the steps block by block": ("wide", ["teacher.blockwise.steps=HALF"]),
    "cut: text alone": ("cut", None),
    "cut: outputs alone": ("cut", []),
    "cut: and hidden, as it is": ("cut", [f"teacher.hidden={{weight=1.0,projection=false,layers={CUT}}}"]),
    "cut: a fifth of the steps block by block": ("cut", [f"teacher.blockwise={{steps=FIFTH,layers={CUT}}}"]),
    "cut: on policy, half of the steps": ("cut", [f"teacher.on_policy={{fraction=0.5,{OWN.format(n=48)}}}"]),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", type=pathlib.Path)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "target/release/retort")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--only", default="", help="ways with this in their name")
    args = parser.parse_args()
    teacher = newest(args.demo / "teacher")
    if not (args.work / "cut").exists():
        subprocess.run([args.bin, "prune", teacher, "--out", args.work / "cut", "--keep-layers", "0,2"], check=True, stdout=sys.stderr)
    found = {way: [] for way in WAYS if args.only in way}
    for seed in args.seeds:
        for way in found:
            shape, keys = WAYS[way]
            run = args.work / "".join(c if c.isalnum() else "-" for c in f"{way}-{args.steps}-{seed}")
            if not (run / "cpu_seconds_per_step").exists():
                cut = json.dumps(str(args.work / "cut"))
                start = [key.format(cut=cut, seed=seed) for key in SHAPES[shape]]
                go(args, run, teacher, start + (keys or []), keys is not None, seed)
            found[way].append(figures(run))
            print(f"{way}, seed {seed}: {found[way][-1]}", file=sys.stderr, flush=True)
    print("| way | held-out loss, nats/token | over the seeds | ms a step | CPU ms a step |\n| --- | --- | --- | --- | --- |")
    for way, all_of_it in found.items():
        losses, clock, cpu = zip(*all_of_it)
        takes = " | ".join(f"{1e3 * statistics.median(seconds):.0f}" for seconds in (clock, cpu))
        print(f"| {way} | {statistics.mean(losses):.4f} | {min(losses):.4f} to {max(losses):.4f} | {takes} |")


def go(args, run, teacher, keys, taught, seed):
    text = (ROOT / "experiments/recipes/demo/student.toml").read_text()
    if not taught:
        text = text[: text.index("\n[teacher]")]
    args.work.mkdir(parents=True, exist_ok=True)
    recipe = run.parent / f"{run.name}.toml"
    recipe.write_text(text)
    sets = [f"data.source={json.dumps(str(args.demo / 'corpus'))}", f"data.tokenizer={json.dumps(str(args.demo / 'tokenizer'))}"]
    sets += [f"seed={seed}", f"train.steps={args.steps}", f"train.eval_every={args.steps}", f"train.warmup_steps={min(30, args.steps // 2)}"]
    keys = [k.replace("HALF", str(args.steps // 2)).replace("FIFTH", str(args.steps // 5)) for k in keys]
    sets += [f"teacher.path={json.dumps(str(teacher))}"] * taught + keys
    command = [args.bin, "distill" if taught else "train", recipe, "--run", run, "--resume"]
    command += [a for s in sets for a in ("--set", s)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command}: {done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    (run / "cpu_seconds_per_step").write_text(str(cpu / args.steps))


def newest(run):
    return max((run / "checkpoints").iterdir(), key=lambda p: int(p.name.removeprefix("step-")))


def figures(run):
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    total = [m["seconds"] for m in metrics if "grad_norm" in m]
    clock = statistics.mean(b - a for a, b in zip(total, total[1:]))
    return metrics[-1]["validation_loss"], clock, float((run / "cpu_seconds_per_step").read_text())


if __name__ == "__main__":
    main()
