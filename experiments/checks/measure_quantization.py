#!/usr/bin/env python3
"""How much a model loses in 4 bits, ours beside llama.cpp's, as a Markdown table.

    cargo build --release -p retort-edge
    python experiments/checks/measure_quantization.py PARENT-f32.gguf --bin target/release --llama LLAMA_CPP/bin \\
        --calibrate c4-train.txt --text wiki=wiki.test.raw --text c4=c4-held-out.txt \\
        [--windows 24] [--ctx 512] [--tokens 32768] [--threads 2] [--work DIR] [--only NAME …] [--also NAME=FILE.gguf …]

Files are made of the same parent: llama-quantize's Q4_0, Q4_0 with an importance matrix of the same
calibration text, Q4_K_M; ours rounded and calibrated. A table that is the head too is Q8_0 in ours, and in
llama.cpp's Q4_0 Q6_K where the width is a multiple of 256: for equal bytes there is llama.cpp's with Q8_0, for
fewer ours with Q4_1. Files that are in DIR already are not made again; --also scores others beside them. All
are scored by retort-edge in one pass of the parent per text.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile


def run(command):
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parent", type=pathlib.Path)
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--llama", type=pathlib.Path, help="leave out to measure ours alone")
    parser.add_argument("--calibrate", type=pathlib.Path, required=True)
    parser.add_argument("--text", action="append", required=True, metavar="NAME=FILE")
    parser.add_argument("--windows", type=int, default=24)
    parser.add_argument("--ctx", type=int, default=512, help="tokens of a window, of calibration and of what is scored")
    parser.add_argument("--tokens", type=int, default=32768)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=pathlib.Path)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=FILE")
    args = parser.parse_args()
    work = args.work or pathlib.Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    edge, threads = args.bin / "retort-edge", ["-t", args.threads]
    calibrated = ["--calibrate", args.calibrate, "--calibrate-tokens", args.tokens, "--calibrate-context", args.ctx]
    ours = lambda *more: lambda out: run([edge, "quantize", args.parent, "--out", out, *threads, *more])
    theirs = lambda ty, *more: lambda out: run([args.llama / "llama-quantize", *more, args.parent, out, ty, args.threads])

    def with_matrix(ty, *more):
        def make(out):
            matrix = work / "imatrix.gguf"
            if not matrix.exists():
                run([args.llama / "llama-imatrix", "-m", args.parent, "-f", args.calibrate, "-o", matrix,
                     "--chunks", args.tokens // args.ctx, "-c", args.ctx, "-t", args.threads])
            theirs(ty, "--imatrix", matrix, *more)(out)
        return make

    files = {}
    if args.llama:
        files["llama.cpp Q4_0"] = theirs("Q4_0")
        files["llama.cpp Q4_0, importance matrix"] = with_matrix("Q4_0")
        files["llama.cpp Q4_0, importance matrix, table Q8_0"] = with_matrix("Q4_0", "--token-embedding-type", "q8_0")
        files["llama.cpp Q4_K_M"] = theirs("Q4_K_M")
    files["retort q4_0"] = ours()
    files["retort q4_0, calibrated, table Q4_1"] = ours(*calibrated, "--tensor", "token_embd.weight=q4_1")
    files["retort q4_0, calibrated"] = ours(*calibrated)
    made = []
    for name, make in files.items():
        if args.only and name not in args.only:
            continue
        out = work / (name.replace(" ", "-").replace(",", "").replace(".", "") + ".gguf")
        if not out.exists():
            make(out)
        made.append((name, out))
    made += [(name, pathlib.Path(path)) for name, _, path in (also.partition("=") for also in args.also)]
    for text in args.text:
        title, _, path = text.partition("=")
        command = [edge, "perplexity", *[out for _, out in made], "--against", args.parent, "--text", path,
                   "--windows", args.windows, "--ctx", args.ctx, "--json", *threads]
        answer = subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout
        figures = json.loads(answer)
        figures = figures if isinstance(figures, list) else [figures]
        print(f"\n{title}: {figures[0]['tokens']} tokens scored, parent {figures[0]['parent_perplexity']:.3f}\n")
        print("| file | bytes | perplexity | ln ratio | KL, nats a token | same top token |")
        print("| --- | --- | --- | --- | --- | --- |")
        for (name, out), f in zip(made, figures):
            print(f"| {name} | {out.stat().st_size:,} | {f['perplexity']:.3f} "
                  f"| {f['ln_perplexity_ratio']:.4f} ± {f['ln_perplexity_ratio_error']:.4f} "
                  f"| {f['mean_kl_divergence']:.4f} ± {f['mean_kl_divergence_error']:.4f} "
                  f"| {100 * f['top1_agreement']:.1f} % |", flush=True)


if __name__ == "__main__":
    main()
