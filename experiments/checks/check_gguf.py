#!/usr/bin/env python3
"""Holds GGUF files written or read by retort to the `gguf` package, which is llama.cpp's own.

    python3 experiments/checks/check_gguf.py QUANTIZED.gguf [--source F32.gguf]

reads QUANTIZED.gguf with the package (header, metadata, every tensor's place and size) and, given the same weights in
F32, encodes each of the source's tensors with the package's reference quantizers and compares the bytes. Needs
`pip install gguf numpy`. Exits 1 at the first difference.
"""
import argparse
import sys

import gguf
import numpy as np


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--source", help="the same weights in F32")
    args = parser.parse_args()

    reader = gguf.GGUFReader(args.file)
    tensors = {t.name: t for t in reader.tensors}
    kinds: dict[str, int] = {}
    for t in tensors.values():
        kinds[t.tensor_type.name] = kinds.get(t.tensor_type.name, 0) + 1
        if t.data_offset % 32:
            sys.exit(f"{args.file}: {t.name} at {t.data_offset} is not aligned to 32")
    print(f"{args.file}: {len(reader.fields)} fields, {len(tensors)} tensors, {kinds}")

    if args.source:
        source = {t.name: t for t in gguf.GGUFReader(args.source).tensors}
        if source.keys() != tensors.keys():
            sys.exit(f"different tensors: {sorted(source.keys() ^ tensors.keys())}")
        for name, t in tensors.items():
            want = gguf.quants.quantize(np.asarray(source[name].data, dtype=np.float32), t.tensor_type)
            got = t.data.view(np.uint8).reshape(-1)
            want = np.ascontiguousarray(want).view(np.uint8).reshape(-1)
            if got.shape != want.shape or not np.array_equal(got, want):
                differing = int((got != want).sum()) if got.shape == want.shape else "all"
                sys.exit(f"{name} ({t.tensor_type.name}): {differing} of {want.size} bytes differ")
        print(f"all {len(tensors)} tensors equal the reference quantizers' bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
