#!/usr/bin/env python3
"""Time and peak resident memory of export and import on the shape of Qwen-7B.

    pip install numpy
    cargo build --release -p retort-edge -p retort-engine -p retort-convert --bins --examples
    python experiments/checks/measure_7b.py TOKENIZER_DIR --work EMPTY_DIR --bin target/release

Writes a BF16 checkpoint of 7.7 billion arbitrary weights in two shards (15.4 GB), exports it to a
BF16 GGUF file, removes it, imports the file into a directory again, and holds every tensor's bytes
to the first ones. Needs 31 GB of disk at once. Exits non-zero if a byte differs or a program held
2 GB or more. Resident memory is ru_maxrss of the child process alone.
"""

import argparse
import hashlib
import json
import os
import pathlib
import shutil
import sys
import time

import numpy as np

LAYERS, HIDDEN, BOTH, VOCAB = 32, 4096, 22016, 151936


def shapes():
    """Every tensor of Qwen-7B."""
    yield "transformer.wte.weight", [VOCAB, HIDDEN]
    for layer in range(LAYERS):
        name = lambda part: f"transformer.h.{layer}.{part}"
        yield name("ln_1.weight"), [HIDDEN]
        yield name("attn.c_attn.weight"), [3 * HIDDEN, HIDDEN]
        yield name("attn.c_attn.bias"), [3 * HIDDEN]
        yield name("attn.c_proj.weight"), [HIDDEN, HIDDEN]
        yield name("ln_2.weight"), [HIDDEN]
        yield name("mlp.w1.weight"), [BOTH // 2, HIDDEN]
        yield name("mlp.w2.weight"), [BOTH // 2, HIDDEN]
        yield name("mlp.c_proj.weight"), [HIDDEN, BOTH // 2]
    yield "transformer.ln_f.weight", [HIDDEN]
    yield "lm_head.weight", [VOCAB, HIDDEN]


def write_shard(path, tensors, pool):
    """A safetensors file whose tensors are stretches of `pool`, each from a place of its own."""
    header, end = {}, 0
    for name, shape in tensors:
        begin, end = end, end + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    digests = {}
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, _ in tensors:
            begin, end = header[name]["data_offsets"]
            at = 2 * (int.from_bytes(hashlib.md5(name.encode()).digest()[:4], "little") % 1_000_003)
            digest, left = hashlib.blake2b(), end - begin
            while left:
                part = pool[at : at + min(left, 1 << 24)]
                file.write(part)
                digest.update(part)
                left -= len(part)
                at = (at + len(part)) % (1 << 24)
            digests[name] = digest.hexdigest()
    return digests


def digests_of(path):
    """The digest of every tensor's bytes as BF16, vectors that became F32 brought back."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            file.seek(8 + length + begin)
            digest, left = hashlib.blake2b(), end - begin
            while left:
                part = file.read(min(left, 1 << 24))
                left -= len(part)
                if entry["dtype"] == "F32":
                    bits = np.frombuffer(part, np.uint32)
                    assert not (bits & 0xFFFF).any(), name
                    part = (bits >> 16).astype(np.uint16).tobytes()
                digest.update(part)
            yield name, digest.hexdigest()


def measured(name, *command):
    start = time.time()
    pid = os.spawnv(os.P_NOWAIT, str(command[0]), [str(word) for word in command])
    _, status, usage = os.wait4(pid, 0)
    seconds, resident = time.time() - start, usage.ru_maxrss * 1024
    print(f"{name}: {seconds:.0f} s, {resident / 1e6:.0f} MB resident at most, exit {status}", flush=True)
    return status == 0 and resident < 2e9


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tokenizer", type=pathlib.Path)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--bin", type=pathlib.Path, default="target/release")
    args = parser.parse_args()
    source, back, gguf = args.work / "7b", args.work / "7b-back", args.work / "7b.gguf"
    source.mkdir()
    rng = np.random.default_rng(1)
    pool = (rng.standard_normal(1 << 25, dtype=np.float32) * 0.02).view(np.uint32)
    pool = (pool >> 16).astype(np.uint16).tobytes()
    tensors = list(shapes())
    middle, expected, weight_map = len(tensors) // 2, {}, {}
    for index, part in enumerate([tensors[:middle], tensors[middle:]], 1):
        name = f"model-0000{index}-of-00002.safetensors"
        expected |= write_shard(source / name, part, pool)
        weight_map |= {tensor: name for tensor, _ in part}
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    config = {
        "architectures": ["QWenLMHeadModel"], "model_type": "qwen", "hidden_size": HIDDEN,
        "intermediate_size": BOTH, "kv_channels": 128, "layer_norm_epsilon": 1e-6,
        "max_position_embeddings": 32768, "seq_length": 8192, "no_bias": True,
        "num_attention_heads": 32, "num_hidden_layers": LAYERS, "rotary_emb_base": 10000,
        "tie_word_embeddings": False, "use_dynamic_ntk": True, "use_logn_attn": True,
        "vocab_size": VOCAB,
    }
    (source / "config.json").write_text(json.dumps(config))
    shutil.copy(args.tokenizer / "tokenizer.json", source)
    size = sum(file.stat().st_size for file in source.iterdir())
    print(f"{sum(int(np.prod(shape)) for _, shape in tensors):,} parameters, {size:,} bytes", flush=True)
    good = measured("export to bf16", args.bin / "examples/export", source, gguf, "bf16")
    shutil.rmtree(source)
    good &= measured("import", args.bin / "examples/import", gguf, back)
    gguf.unlink()
    found = dict(pair for file in sorted(back.glob("*.safetensors")) for pair in digests_of(file))
    equal = sum(found.get(name) == digest for name, digest in expected.items())
    print(f"{equal} of {len(expected)} tensors hold the same bytes, {len(found)} are there", flush=True)
    shutil.rmtree(back)
    return 0 if good and found == expected else 1


if __name__ == "__main__":
    sys.exit(main())
