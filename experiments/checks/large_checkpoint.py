#!/usr/bin/env python3
"""A checkpoint of a large model's shape: opened by transformers, loaded and saved in Burn, exported
to a BF16 GGUF file and imported again, every byte of its weights the same.

    cargo build --release --workspace --examples --bins
    python3 experiments/checks/large_checkpoint.py TOKENIZER_DIR --work EMPTY_DIR [--like qwen2.5-7b]

Needs torch and transformers. Writes random bfloat16 weights of the shape with `write_shape`, holds
at most two copies on disk (31 GB for 7B) and one in memory (17 GB). transformers has no class for
the first Qwen (`qwen-7b`), which it is not asked to open. Peak resident memory is ru_maxrss of each
program alone. Exits 1 if a key is missing or unexpected or a byte differs.
"""

import argparse
import hashlib
import json
import os
import pathlib
import shutil
import sys
import time

OPEN = """
import sys, transformers
model, info = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype="auto", output_loading_info=True)
problems = {key: value for key, value in info.items() if value}
print(type(model).__name__, next(model.parameters()).dtype, problems or "every key", flush=True)
sys.exit(bool(problems))
"""

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("tokenizer", type=pathlib.Path)
parser.add_argument("--work", type=pathlib.Path, required=True)
parser.add_argument("--like", default="qwen2.5-7b")
parser.add_argument("--bin", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[2] / "target/release")
args = parser.parse_args()
failed = False


def check(good, text):
    global failed
    failed |= not good
    print(("ok   " if good else "FAIL ") + text, flush=True)


def measured(name, *command):
    start = time.time()
    pid = os.spawnv(os.P_NOWAIT, str(command[0]), [str(word) for word in command])
    _, status, usage = os.wait4(pid, 0)
    figures = f"{time.time() - start:.0f} s, {usage.ru_maxrss * 1024 / 1e9:.2f} GB resident at most"
    check(status == 0, f"{name}: {figures}, exit {os.waitstatus_to_exitcode(status)}")


def digests(directory):
    """Of the bytes and the type and shape of every tensor, and of every whole file."""
    tensors, files = {}, {}
    for path in sorted(directory.glob("*.safetensors")):
        with open(path, "rb") as file:
            length = file.read(8)
            text = file.read(int.from_bytes(length, "little"))
            whole, header = hashlib.blake2b(length + text), json.loads(text)
            header.pop("__metadata__", None)
            for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
                begin, end = entry["data_offsets"]
                digest, left = hashlib.blake2b(), end - begin
                while left:
                    part = file.read(min(left, 1 << 24))
                    left -= len(part)
                    digest.update(part)
                    whole.update(part)
                tensors[name] = (entry["dtype"], entry["shape"], digest.hexdigest())
            assert not file.read(1), f"{path}: bytes past the last tensor"
        files[path.name] = whole.hexdigest()
    return tensors, files


first, second, gguf = args.work / "first", args.work / "second", args.work / "model.gguf"
examples = args.bin / "examples"
measured("written", examples / "write_shape", "--like", args.like, "--dtype", "bf16", "--out", first)
shutil.copy(args.tokenizer / "tokenizer.json", first)
tensors, files = digests(first)
print(f"     {len(tensors)} tensors, {sum(f.stat().st_size for f in first.glob('*.safetensors')):,} bytes in {len(files)} files", flush=True)
if args.like != "qwen-7b":
    measured("opened by transformers", sys.executable, "-c", OPEN, first)
measured("loaded and saved in Burn", examples / "checkpoint_logits", first, "--to", second)
same = [name for name, digest in digests(second)[1].items() if files.get(name) == digest]
check(same == list(files), f"{len(same)} of {len(files)} files the same, byte for byte")
for name in ["config.json", "generation_config.json", "model.safetensors.index.json", "tokenizer.json"]:
    pair = [(directory / name) for directory in [first, second]]
    if pair[0].exists():
        check(pair[1].exists() and pair[0].read_bytes() == pair[1].read_bytes(), f"    and {name}")
shutil.rmtree(second)
measured("exported as bf16", args.bin / "retort", "export", first, "--out", gguf, "--quant", "bf16")
shutil.rmtree(first)
measured("imported", args.bin / "retort", "import", gguf, "--out", second, "--dtype", "bf16")
gguf.unlink()
back = digests(second)[0]
equal = sum(back.get(name) == value for name, value in tensors.items())
check(back == tensors, f"{equal} of {len(tensors)} tensors the same in type, shape and bytes, {len(back)} are there")
shutil.rmtree(second)
sys.exit(failed)
