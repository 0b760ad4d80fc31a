#!/usr/bin/env python3
"""Two ranks with their own network addresses and a link of so many Mbit/s between them: synchronous steps against DiLoCo.

    cargo build --release --features mpi
    python3 experiments/checks/low_bandwidth.py RECIPE.toml [--mbit 100] [--steps 200] [--every 20] [--set KEY=VALUE]…

Needs root, `ip` and `tc` (iproute2). Makes two network namespaces with a pair of virtual Ethernet devices, each limited
by a token bucket, starts one rank in each over TCP (`mpirun` reaches the other through a script in place of ssh that
enters its namespace), and runs the recipe synchronously, with DiLoCo, and with DiLoCo in eight bits. Prints, for each:
tokens a second over the training steps after the first ones, bytes that both ranks sent a step, those that the devices
counted, and the losses at the end. The recipe's paths are taken from the working directory.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

NAMES = ("retort-a", "retort-b")
DEVICES = ("veth-a", "veth-b")
ADDRESSES = ("10.77.0.1", "10.77.0.2")


def call(line, check=True):
    return subprocess.run(line.split(), check=check, capture_output=True, text=True).stdout


def connect(mbit):
    disconnect()
    call(f"ip link add {DEVICES[0]} type veth peer name {DEVICES[1]}")
    for name, device, address in zip(NAMES, DEVICES, ADDRESSES):
        call(f"ip netns add {name}")
        call(f"ip link set {device} netns {name}")
        call(f"ip -n {name} addr add {address}/24 dev {device}")
        call(f"ip -n {name} link set {device} up")
        call(f"ip -n {name} link set lo up")
        if mbit:
            call(f"ip netns exec {name} tc qdisc add dev {device} root tbf rate {mbit}mbit burst 128kb latency 100ms")


def disconnect():
    for name in NAMES:
        call(f"ip netns del {name}", check=False)


def device_bytes():
    """Bytes that the two devices have sent."""
    total = 0
    for name, device in zip(NAMES, DEVICES):
        total += int(call(f"ip netns exec {name} cat /sys/class/net/{device}/statistics/tx_bytes"))
    return total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe", type=pathlib.Path)
    parser.add_argument("--bin", default=pathlib.Path(__file__).resolve().parents[2] / "target/release", type=pathlib.Path)
    parser.add_argument("--mbit", type=int, default=100, help="0: no limit")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--modes", default="synchronous,diloco,int8")
    parser.add_argument("--set", action="append", default=[])
    args = parser.parse_args()
    retort = (args.bin / "retort").resolve()
    work = pathlib.Path(tempfile.mkdtemp(prefix="low-bandwidth-"))
    # Takes ssh's place: enters the namespace of the address, under a host name of its own.
    agent = work / "agent.sh"
    agent.write_text(
        "#!/bin/sh\n"
        "while case $1 in -*) true;; *) false;; esac; do shift; done\n"
        f"test $1 = {ADDRESSES[1]} || exit 1\n"
        f"shift\nexec ip netns exec {NAMES[1]} unshare --uts sh -c \"hostname node-b; $*\"\n"
    )
    agent.chmod(0o755)
    (work / "hosts").write_text("".join(f"{address} slots=1\n" for address in ADDRESSES))
    mpirun = (
        f"ip netns exec {NAMES[0]} unshare --uts sh -c".split()
    )
    over = (
        f"hostname node-a; exec mpirun --allow-run-as-root --hostfile {work}/hosts -n 2 --map-by node --bind-to none "
        f"--mca plm_rsh_agent {agent} --mca pml ob1 --mca btl tcp,self --mca btl_tcp_if_include 10.77.0.0/24 "
        f"--mca oob_tcp_if_include 10.77.0.0/24 -x RAYON_NUM_THREADS=1 --wdir {os.getcwd()}"
    )
    modes = {
        "synchronous": [],
        "diloco": ["--set", f"train.diloco={{every={args.every}}}"],
        "int8": ["--set", f"train.diloco={{every={args.every},int8=true}}"],
    }
    connect(args.mbit)
    try:
        for mode in args.modes.split(","):
            run = work / mode
            sets = [f"train.steps={args.steps}", "train.ema_decay=0.0", *args.set]
            line = [str(retort), "train", str(args.recipe), "--run", str(run), *modes[mode]]
            for value in sets:
                line += ["--set", value]
            quoted = " ".join(f"'{word}'" for word in line)
            before, start = device_bytes(), time.monotonic()
            done = subprocess.run([*mpirun, f"{over} {quoted}"], capture_output=True, text=True)
            seconds, wire = time.monotonic() - start, device_bytes() - before
            if done.returncode != 0:
                print(done.stdout, done.stderr)
                return 1
            records = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]
            steps = [record for record in records if "loss" in record]
            # From the end of the first meeting (or of as many steps) to the end.
            first, last = steps[args.every - 1], steps[-1]
            span = last["seconds"] - first["seconds"]
            sent = sum(record.get("sent_bytes", 0) for record in steps)
            print(json.dumps({
                "mode": mode,
                "mbit": args.mbit,
                "steps": len(steps),
                "tokens_per_second": round((last["tokens"] - first["tokens"]) / span, 1),
                "median_step_seconds": round(statistics.median(b["seconds"] - a["seconds"] for a, b in zip(steps, steps[1:])), 4),
                "training_seconds": round(last["seconds"], 1),
                "wall_seconds": round(seconds, 1),
                "sent_bytes_per_step": round(sent / len(steps)),
                "device_bytes_per_step": round(wire / len(steps)),
                "loss_last_20": round(statistics.mean(record["loss"] for record in steps[-20:]), 4),
                "validation_loss": next((r["validation_loss"] for r in reversed(records) if "validation_loss" in r), None),
            }), flush=True)
    finally:
        disconnect()
    shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
