#!/usr/bin/env python3
"""Peak resident memory of calibration on the shape of a 7B model (Llama's: 4096 wide, 11008 inside, 32 heads).

    pip install numpy
    cargo build --release -p retort-edge
    python experiments/checks/calibrate_memory.py --work EMPTY_DIR --bin target/release [--layers 2] [--tokens 32768]
        [--only ffn_down]

Writes a GGUF file of that shape with random weights in F16 (0.4 GB a layer and 0.5 GB) and quantizes it to Q4_0,
calibrated on random text. Memory does not grow with the number of layers: one is there at a time, and what has been
read of the file is let go; a few layers show the peak. It comes where the matrix with the longest rows, ffn_down, is
rounded: with --only, no other is, which takes a fraction of the time. Prints seconds and ru_maxrss of the program alone, the pages of
the mapped file that are in memory among them, and fails at 6 GB or more.
"""

import argparse
import pathlib
import random
import resource
import struct
import subprocess
import sys
import time

import numpy as np

HIDDEN, INNER, HEADS, VOCAB = 4096, 11008, 32, 32000
F32, F16 = 0, 1


def byte_letters():
    """A printable letter for every byte, as byte-level BPE has them."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def metadata(layers):
    letters = byte_letters()
    tokens = [letters[b] for b in range(256)]
    tokens += [f"<{i}>" for i in range(256, VOCAB)]
    number = lambda key, value: string(key) + struct.pack("<II", 4, value)
    real = lambda key, value: string(key) + struct.pack("<If", 6, value)
    text = lambda key, value: string(key) + struct.pack("<I", 8) + string(value)
    texts = lambda key, values: string(key) + struct.pack("<IIQ", 9, 8, len(values)) + b"".join(map(string, values))
    return [
        text("general.architecture", "llama"), text("general.name", "random"),
        number("llama.block_count", layers), number("llama.context_length", 2048),
        number("llama.embedding_length", HIDDEN), number("llama.feed_forward_length", INNER),
        number("llama.attention.head_count", HEADS), number("llama.rope.dimension_count", HIDDEN // HEADS),
        real("llama.attention.layer_norm_rms_epsilon", 1e-5),
        text("tokenizer.ggml.model", "gpt2"), text("tokenizer.ggml.pre", "qwen2"),
        texts("tokenizer.ggml.tokens", tokens), texts("tokenizer.ggml.merges", []),
        number("tokenizer.ggml.eos_token_id", VOCAB - 1),
    ]


def tensors(layers):
    yield "token_embd.weight", [VOCAB, HIDDEN]
    yield "output_norm.weight", [HIDDEN]
    yield "output.weight", [VOCAB, HIDDEN]
    for layer in range(layers):
        name = lambda part: f"blk.{layer}.{part}.weight"
        yield name("attn_norm"), [HIDDEN]
        for part in ["attn_q", "attn_k", "attn_v", "attn_output"]:
            yield name(part), [HIDDEN, HIDDEN]
        yield name("ffn_norm"), [HIDDEN]
        yield name("ffn_gate"), [INNER, HIDDEN]
        yield name("ffn_up"), [INNER, HIDDEN]
        yield name("ffn_down"), [HIDDEN, INNER]


def write(path, layers):
    values, all_tensors = metadata(layers), list(tensors(layers))
    head = b"GGUF" + struct.pack("<IQQ", 3, len(all_tensors), len(values)) + b"".join(values)
    end = 0
    for name, shape in all_tensors:
        ty = F16 if len(shape) == 2 else F32
        head += string(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *reversed(shape))
        head += struct.pack("<IQ", ty, end)
        end += (-(-int(np.prod(shape)) * (2 if ty == F16 else 4) // 32)) * 32
    noise = np.random.default_rng(1)
    with open(path, "wb") as file:
        file.write(head + bytes(-len(head) % 32))
        for _, shape in all_tensors:
            if len(shape) == 1:
                file.write(np.ones(shape, np.float32).tobytes())
                continue
            scale = np.float32(shape[1] ** -0.5)
            for first in range(0, shape[0], 1024):
                rows = min(1024, shape[0] - first)
                block = noise.standard_normal((rows, shape[1]), dtype=np.float32) * scale
                file.write(block.astype(np.float16).tobytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--bin", type=pathlib.Path, required=True)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=32768)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", help="the only matrix of each layer that is calibrated, such as ffn_down; others are F16")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    parent, text, out = (args.work / name for name in ["parent.gguf", "text.txt", "out.gguf"])
    write(parent, args.layers)
    letters = random.Random(1)
    text.write_text("".join(letters.choice("abcdefghij klmnopqrst\n") for _ in range(args.tokens + 1000)))
    command = [args.bin / "retort-edge", "quantize", parent, "--out", out, "--calibrate", text,
               "--calibrate-tokens", args.tokens, "-t", args.threads]
    if args.only:
        command += ["--tensor", "blk.*=f16", "--tensor", f"blk.*.{args.only}.weight=q4_0"]
    before = time.time()
    subprocess.run([str(word) for word in command], check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(f"{args.layers} layers, {args.tokens} tokens: {time.time() - before:.0f} s, peak {peak / 1e9:.2f} GB resident")
    parent.unlink()
    sys.exit(peak >= 6e9)


if __name__ == "__main__":
    main()
