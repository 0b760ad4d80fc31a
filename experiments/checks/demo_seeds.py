"""The demo's table for several seeds: what the teacher is worth on little text.

    python3 experiments/checks/demo_seeds.py --retort target/release/retort --work DIR [--seeds 1,2,3,4,5]

Each seed has its own stories, first weights and order of data. Fails unless the taught student's held-out loss
is below both controls' by at least 0.02 nats in every one.
"""

import argparse
import json
import pathlib
import subprocess
import sys

MARGIN = 0.02
NAMES = ["teacher", "student, from scratch", "student, cut out", "student, cut out and taught",
         "student, cut out and taught, int4"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--retort", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", default="1,2,3,4,5")
    args = parser.parse_args()
    print("| seed | entropy | " + " | ".join(NAMES) + " | seconds of the students |")
    print("| --- " * (len(NAMES) + 3) + "|")
    failed = False
    for seed in args.seeds.split(","):
        out = args.work / f"seed-{seed}"
        command = [str(args.retort), "demo", "--seed", seed, "--out", str(out)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        results = json.loads((out / "results.json").read_text())
        models = {model["name"]: model for model in results["models"]}
        losses = [models[name]["loss"] for name in NAMES]
        seconds = " / ".join(f"{models[name]['seconds']:.0f}" for name in NAMES[1:4])
        row = [seed, f"{results['entropy']:.3f}", *(f"{loss:.4f}" for loss in losses), seconds]
        print("| " + " | ".join(row) + " |", flush=True)
        failed |= losses[3] > min(losses[1], losses[2]) - MARGIN
    if failed:
        sys.exit("the taught student does not win by 0.02 nats for every seed")


if __name__ == "__main__":
    main()
