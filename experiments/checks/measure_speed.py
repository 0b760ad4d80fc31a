#!/usr/bin/env python3
"""Speed and memory of retort-edge beside llama.cpp on the same file, taking turns; medians.

    cargo build --release -p retort-edge
    python experiments/checks/measure_speed.py MODEL.gguf --llama LLAMA_CPP/bin --bin target/release
        [--threads 1 2] [--prompt 512] [--gen 128] [--reps 5] [--kv-cache f16]

Each round runs, one after the other: retort-edge on a packed copy of MODEL (made beside --work),
retort-edge on MODEL itself, llama-bench on MODEL; every one a process of its own with one
repetition after a warm-up. Memory is the process's peak. Load to first token is a whole process that
takes a one-token prompt and answers with one token, file in the page cache. Llama.cpp's threads wait
passively, since spinning ones lose most on a machine whose cores others use too.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--llama", type=pathlib.Path)
    parser.add_argument("--bin", type=pathlib.Path, default="target/release")
    parser.add_argument("--work", type=pathlib.Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--gen", type=int, default=128)
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--kv-cache", default="f16")
    args = parser.parse_args()
    edge = args.bin / "retort-edge"
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        packed = pathlib.Path(work) / "packed.gguf"
        made = subprocess.run([edge, "pack", args.model, "--out", packed], capture_output=True)
        files = ([("retort-edge, packed", packed)] if made.returncode == 0 else []) + [
            ("retort-edge", args.model)
        ]
        for threads in args.threads:
            results = {}
            for _ in range(args.reps):
                for name, file in files:
                    results.setdefault(name, []).append(retort(edge, file, threads, args))
                if args.llama:
                    results.setdefault("llama.cpp", []).append(llama(args, threads))
            print(f"{threads} threads, prompt {args.prompt}, {args.gen} generated, medians of {args.reps}")
            for name, rounds in results.items():
                print("  " + describe(name, rounds), flush=True)


def describe(name, rounds):
    def middle(key):
        values = [one[key] for one in rounds if one.get(key) is not None]
        return statistics.median(values) if values else float("nan")

    line = (
        f"{name:20} prefill {middle('prefill'):7.1f} tokens/s  decode {middle('decode'):6.1f} tokens/s  "
        f"peak {middle('peak') / 2**20:6.1f} MiB  first token after {middle('load'):6.3f} s"
    )
    if "bandwidth" in rounds[0]:
        line += f"  {middle('share'):.0%} of {middle('bandwidth') / 1e9:.1f} GB/s, {middle('macs_share'):.0%} of {middle('macs') / 1e9:.0f} G/s"
    return line


def peak_of(command, env=None):
    """Runs a command; its output, seconds, and the process's peak memory in bytes."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=env)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{command[0]} failed: {status}")
    return output.decode(), time.monotonic() - start, usage.ru_maxrss * 1024


def retort(edge, file, threads, args):
    common = ["--threads", str(threads), "--kv-cache", args.kv_cache]
    output, _, _ = peak_of(
        [edge, "bench", file, "--prompt", str(args.prompt), "--gen", str(args.gen), "--reps", "1", "--json", *common]
    )
    figures = json.loads(output)
    _, load, _ = peak_of([edge, "run", file, "-p", "a", "-n", "1", "--temperature", "0", *common])
    return {
        "prefill": figures["prefill_tokens_per_second"],
        "decode": figures["decode_tokens_per_second"],
        "peak": figures["peak_rss_bytes"],
        "load": load,
        "bandwidth": figures["read_bytes_per_second"],
        "share": figures["decode_share_of_bandwidth"],
        "macs": figures["peak_macs_per_second"],
        "macs_share": figures["prefill_share_of_peak"],
    }


def llama(args, threads):
    env = dict(os.environ, OMP_WAIT_POLICY="passive")
    output, _, peak = peak_of(
        [args.llama / "llama-bench", "-m", args.model, "-t", str(threads), "-p", str(args.prompt), "-n", str(args.gen), "-r", "1", "-o", "json"],
        env,
    )
    rows = json.loads(output)
    rate = {("prefill" if row["n_prompt"] else "decode"): row["avg_ts"] for row in rows}
    _, load, _ = peak_of(
        [args.llama / "llama-completion", "-m", args.model, "-t", str(threads), "-p", "a", "-n", "1", "-no-cnv", "--temp", "0", "-c", "512"],
        env,
    )
    return {**rate, "peak": peak, "load": load}


if __name__ == "__main__":
    main()
