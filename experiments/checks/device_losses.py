#!/usr/bin/env python3
"""Whether a device trains as the processor does: the same small recipe on each, losses side by side.

    cargo build --release --features wgpu --bin retort
    python3 experiments/checks/device_losses.py TOKENIZER_DIR SOURCE --work runs/devices [--devices cpu wgpu] [--steps 20]

Prints every step's loss on every device and the largest difference from the first's, relative; exits with 1 if
that is above --tolerance. A graphics card is not needed: Mesa's software Vulkan (Debian: mesa-vulkan-drivers) stands in for it,
slowly; CUBECL_AUTOTUNE_LEVEL=0 in the environment keeps it from timing kernels for minutes first.
"""
import argparse
import json
import pathlib
import subprocess
import sys

RECIPE = """seed = 1
[data]
source = {source}
tokenizer = {tokenizer}
seq_len = 64
max_validation_rows = 4
[model]
hidden_size = 64
intermediate_size = 128
num_hidden_layers = 2
num_attention_heads = 4
num_key_value_heads = 2
[train]
steps = {steps}
batch_size = 4
lr = 1e-3
warmup_steps = 2
precision = "{precision}"
eval_every = {steps}
checkpoint_every = {steps}
"""


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tokenizer", type=pathlib.Path)
    parser.add_argument("source", help="what data.source takes")
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--bin", type=pathlib.Path, default=root / "target/release/retort")
    parser.add_argument("--devices", nargs="+", default=["cpu", "wgpu"])
    parser.add_argument("--precision", default="float32", help="of the devices after the first")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--tolerance", type=float, default=1e-3)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    losses = {}
    for i, device in enumerate(args.devices):
        precision = args.precision if i else "float32"
        path = args.work / f"{device}-{precision}.toml"
        path.write_text(RECIPE.format(
            source=json.dumps(str(pathlib.Path(args.source).absolute())), steps=args.steps, precision=precision,
            tokenizer=json.dumps(str(args.tokenizer.absolute())),
        ))
        run = path.with_suffix("")
        subprocess.run([args.bin, "train", path, "--run", run, "--device", device], check=True)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        losses[device] = [line["loss"] for line in lines if "grad_norm" in line]
        losses[device] += [line["validation_loss"] for line in lines if "validation_loss" in line]
    first, *others = losses.values()
    worst = 0.0
    print("step  " + "  ".join(f"{device:>10}" for device in losses))
    for i, row in enumerate(zip(*losses.values())):
        print(f"{i + 1 if i < args.steps else 'held':>4}  " + "  ".join(f"{loss:10.6f}" for loss in row))
        worst = max([worst] + [abs(other - row[0]) / row[0] for other in row[1:]])
    print(f"largest difference {worst:.2e} of the loss")
    sys.exit(worst > args.tolerance)


if __name__ == "__main__":
    main()
