#!/usr/bin/env python3
"""Memory of a distillation step with a vocabulary as large as Qwen's, at several chunk sizes.

    cargo build --release
    python3 experiments/checks/distill_memory.py TOKENIZER_DIR SOURCE --work EMPTY_DIR
        [--bin target/release/retort] [--chunks 64 256 1024] [--rows 8] [--length 256]

TOKENIZER_DIR has a tokenizer.json (Qwen2.5's: 151,665 tokens, padded to 151,936 rows), SOURCE is
text. A student of width 256 is its own teacher (a checkpoint after one step). `retort distill
--plan` times two passes, forward and backward, and says the peak of resident memory. Beside it:
what the logits of all positions would take, once.
"""
import argparse
import json
import pathlib
import subprocess

RECIPE = """
[data]
source = {source}
tokenizer = {tokenizer}
seq_len = {length}
[model]
vocab_size = 151936
hidden_size = 256
intermediate_size = 688
num_hidden_layers = 2
num_attention_heads = 4
tie_word_embeddings = true
[train]
steps = 1
batch_size = {rows}
lr = 1e-3
"""
TEACHER = """
[teacher]
path = {path}
[teacher.losses]
forward_kl = 0.5
reverse_kl = 0.1
cross_entropy = 0.4
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tokenizer")
    parser.add_argument("source")
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--bin", default="target/release/retort")
    parser.add_argument("--chunks", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=256)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    text = RECIPE.format(
        source=json.dumps(args.source),
        tokenizer=json.dumps(args.tokenizer),
        length=args.length,
        rows=args.rows,
    )
    plain, student = args.work / "teacher.toml", args.work / "student.toml"
    plain.write_text(text)
    run = args.work / "teacher"
    subprocess.run([args.bin, "train", plain, "--run", run], check=True, capture_output=True)
    student.write_text(text + TEACHER.format(path=json.dumps(str(run / "checkpoints/step-1"))))
    positions = args.rows * args.length
    print(f"{positions} positions; logits of all of them: {positions * 151936 * 4 / 1e6:.0f} MB, once")
    for chunk in args.chunks:
        command = [args.bin, "distill", student, "--plan", "--json", "--set", f"teacher.chunk={chunk}"]
        plan = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        measured = plan["measured"]
        print(
            f"chunk {chunk:5}: peak {measured['peak_resident_bytes'] / 1e6:6.0f} MB, "
            f"{measured['tokens_per_second']:6.0f} tokens/s"
        )
    command = [args.bin, "train", plain, "--plan", "--json"]
    plan = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"without a teacher: peak {plan['measured']['peak_resident_bytes'] / 1e6:6.0f} MB")


if __name__ == "__main__":
    main()
