"""Shards to packed batches of 2,048 tokens: retort beside Hugging Face datasets and tokenizers.

    pip install datasets tokenizers
    cargo build --release -p retort-data --example stream_throughput
    python experiments/checks/data_throughput.py --retort target/release/examples/stream_throughput \
        --tokenizer DIR --source 'shards/*.parquet' [--reps 5]

Both read the same parquet shards from start to end, tokenize on all cores, end every document with
the end-of-text id, and cut rows of 2,049 ids in batches of 8. They alternate; medians count.
"""

import argparse
import glob
import json
import os
import resource
import statistics
import subprocess
import sys
import time

SEQ_LEN, BATCH = 2048, 8


def peer(tokenizer_dir, source):
    import numpy as np
    from datasets import load_dataset
    from tokenizers import Tokenizer

    start = time.perf_counter()
    tokenizer = Tokenizer.from_file(os.path.join(tokenizer_dir, "tokenizer.json"))
    opened = time.perf_counter() - start
    eot = tokenizer.token_to_id("<|endoftext|>")
    start = time.perf_counter()
    dataset = load_dataset(
        "parquet", data_files=sorted(glob.glob(source)), split="train", streaming=True, columns=["text"]
    )
    rest, tokens, batch_ids = np.empty(0, dtype=np.int64), 0, BATCH * SEQ_LEN
    for documents in dataset.iter(batch_size=1000):
        encoded = tokenizer.encode_batch_fast(documents["text"], add_special_tokens=False)
        parts = [rest]
        for one in encoded:
            parts.append(np.array(one.ids + [eot], dtype=np.int64))
        ids = np.concatenate(parts)
        rows = (len(ids) - 1) // SEQ_LEN // BATCH * BATCH
        for first in range(0, rows * SEQ_LEN, batch_ids):
            window = ids[first : first + batch_ids + 1]
            inputs = window[:-1].reshape(BATCH, SEQ_LEN)
            targets = window[1:].reshape(BATCH, SEQ_LEN)
            assert inputs.shape == targets.shape
            tokens += targets.size
        rest = ids[rows * SEQ_LEN :]
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "tokens": tokens,
        "tokens_per_second": tokens / seconds,
        "seconds": seconds,
        "tokenizer_seconds": opened,
        "peak_rss_bytes": peak,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--retort")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--peer", action="store_true", help="one run of the peer alone")
    args = parser.parse_args()
    if args.peer:
        print(json.dumps(peer(args.tokenizer, args.source)))
        return
    commands = {
        "retort": [args.retort, args.tokenizer, args.source],
        "datasets + tokenizers": [
            sys.executable, __file__, "--peer", "--tokenizer", args.tokenizer, "--source", args.source,
        ],
    }
    runs = {name: [] for name in commands}
    for _ in range(args.reps):
        for name, command in commands.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            figures = json.loads(out.strip().splitlines()[-1])
            figures["cpu_seconds"] = (
                after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            )
            runs[name].append(figures)
            print(name, json.dumps({k: v for k, v in figures.items() if k != "counts"}), file=sys.stderr)
    medians = {
        name: {
            key: statistics.median(run[key] for run in all_runs)
            for key in ("tokens", "tokens_per_second", "cpu_seconds", "peak_rss_bytes")
        }
        for name, all_runs in runs.items()
    }
    mine, theirs = medians["retort"], medians["datasets + tokenizers"]
    medians["ratio"] = mine["tokens_per_second"] / theirs["tokens_per_second"]
    print(json.dumps(medians, indent=1))


if __name__ == "__main__":
    main()
