#!/usr/bin/env python3
"""Holds retort-edge to llama.cpp on one GGUF file: token ids, logits, greedy text, perplexity.

    pip install xllamacpp numpy
    cargo build --release -p retort-edge -p retort-engine -p retort-convert --bins --examples
    python experiments/checks/check_llamacpp.py MODEL.gguf --bin target/release [--text FILE --bytes 60000]

Prints one line per check with the figures and exits non-zero if one fails. llama.cpp is driven
through the C functions that xllamacpp's library exports, with f32 keys and values and no flash
attention, so that differences are those of the engines and not of a rounded cache. Tolerances are
for F32 files by default; quantized ones round activations differently: pass --tolerance.
"""

import argparse
import ctypes
import importlib.util
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

import numpy as np

PROMPTS = [
    "The capital of France is",
    "Once upon a time, there was a little girl named Lily. She",
    "def fibonacci(n):\n    ",
    "In 1969,  the price was $3.50 (up 12%)\tÄpfel 🦙 don't",
]


class Params(ctypes.Structure):
    """Parameters passed by value; their layout differs between versions, so bytes suffice."""

    _fields_ = [("bytes", ctypes.c_uint8 * 512)]


class LlamaCpp:
    """A model in llama.cpp and one context of n_ctx positions."""

    def __init__(self, path, n_ctx, threads):
        folder = pathlib.Path(importlib.util.find_spec("xllamacpp").origin).parent
        lib = self.lib = ctypes.CDLL(str(next(folder.glob("*.so"))))
        self.silence = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(
            lambda *_: None
        )
        lib.llama_log_set(self.silence, None)
        for name in ["llama_model_default_params", "llama_context_default_params"]:
            getattr(lib, name).restype = Params
        for name in ["llama_model_load_from_file", "llama_init_from_model", "llama_model_get_vocab"]:
            getattr(lib, name).restype = ctypes.c_void_p
        lib.llama_get_logits.restype = ctypes.POINTER(ctypes.c_float)
        lib.llama_get_logits_ith.restype = ctypes.POINTER(ctypes.c_float)
        lib.llama_get_memory.restype = ctypes.c_void_p
        model = lib.llama_model_load_from_file(str(path).encode(), lib.llama_model_default_params())
        if not model:
            sys.exit(f"llama.cpp cannot load {path}")
        self.model = ctypes.c_void_p(model)
        self.vocab = ctypes.c_void_p(lib.llama_model_get_vocab(self.model))
        self.n_vocab = lib.llama_vocab_n_tokens(self.vocab)
        params = lib.llama_context_default_params()
        self.configure(params, n_ctx, threads)
        self.context = ctypes.c_void_p(lib.llama_init_from_model(self.model, params))

    @staticmethod
    def configure(params, n_ctx, threads):
        """n_ctx, n_batch, n_ubatch lead; n_threads twice is 4, 4; both cache types are 1, 1."""
        raw = bytes(params.bytes)
        ints = struct.unpack_from("<40i", raw)
        assert ints[:3] == (512, 2048, 512), "llama_context_params has another layout"
        put = lambda at, value: struct.pack_into("<i", params.bytes, 4 * at, value)
        for at in range(3):
            put(at, n_ctx)
        where = next(at for at in range(3, 12) if ints[at : at + 2] == (4, 4))
        put(where, threads), put(where + 1, threads)
        flash = max(at for at in range(8, 16) if ints[at] == -1)
        put(flash, 0)
        cache = next(at for at in range(20, 36) if ints[at : at + 2] == (1, 1))
        put(cache, 0), put(cache + 1, 0)

    def tokenize(self, text, add_special=True, parse_special=True):
        data = text.encode()
        ids = (ctypes.c_int32 * (len(data) + 8))()
        n = self.lib.llama_tokenize(
            self.vocab, data, len(data), ids, len(ids), add_special, parse_special
        )
        assert n >= 0
        return list(ids[:n])

    def logits(self, tokens, every):
        """Logits of a fresh sequence: [len(tokens), n_vocab], or of the last token alone."""
        memory = ctypes.c_void_p(self.lib.llama_get_memory(self.context))
        self.lib.llama_memory_clear(memory, True)
        return self.more_logits(tokens, every)

    def more_logits(self, tokens, every=False):
        """The same, for tokens that follow those taken in before."""
        n = len(tokens)

        class Batch(ctypes.Structure):
            _fields_ = [("n_tokens", ctypes.c_int32)] + [
                (name, ctypes.c_void_p)
                for name in ["token", "embd", "pos", "n_seq_id", "seq_id", "logits"]
            ]

        ids = (ctypes.c_int32 * n)(*tokens)
        flags = (ctypes.c_int8 * n)(*([int(every)] * (n - 1) + [1]))
        batch = Batch(n, ctypes.addressof(ids), None, None, None, None, ctypes.addressof(flags))
        assert self.lib.llama_decode(self.context, batch) == 0
        rows = n if every else 1
        first = self.lib.llama_get_logits(self.context)
        return np.ctypeslib.as_array(first, (rows, self.n_vocab)).copy()

    def greedy(self, tokens, n):
        """The n most likely tokens that follow, whatever they are."""
        out = [int(self.logits(tokens, every=False)[0].argmax())]
        while len(out) < n:
            out.append(int(self.more_logits(out[-1:])[0].argmax()))
        return out

    def is_end(self, token):
        self.lib.llama_vocab_is_eog.restype = ctypes.c_bool
        return self.lib.llama_vocab_is_eog(self.vocab, token)


def nlls(logits, targets):
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(targets)), targets]


def perplexity(llama, text, n_ctx):
    tokens = llama.tokenize(text, add_special=True, parse_special=False)
    llama.lib.llama_vocab_get_add_bos.restype = ctypes.c_bool
    add_bos = llama.lib.llama_vocab_get_add_bos(llama.vocab)
    scored = []
    for start in range(0, len(tokens) // n_ctx * n_ctx, n_ctx):
        window = tokens[start : start + n_ctx]
        if add_bos:
            window[0] = llama.lib.llama_vocab_bos(llama.vocab)
        half = n_ctx // 2
        rows = llama.logits(window, every=True)[half : n_ctx - 1]
        scored.append(nlls(rows, np.array(window[half + 1 :])))
    scored = np.concatenate(scored)
    return float(np.exp(scored.mean())), len(scored)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--bin", default="target/release", help="where retort-edge was built")
    parser.add_argument("--text", help="a text to compare the perplexity on")
    parser.add_argument("--bytes", type=int, default=60000, help="how much of it")
    parser.add_argument("--ctx", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=64, help="how much greedy text")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="of a logit")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    folder, failed = pathlib.Path(args.bin), []

    def check(name, good, figures):
        print(f"{'ok  ' if good else 'FAIL'} {name}: {figures}", flush=True)
        failed.extend([] if good else [name])

    llama = LlamaCpp(args.model, args.ctx, args.threads)
    for prompt in PROMPTS:
        command = [folder / "examples/logits", args.model, prompt, str(args.tokens)]
        ours = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        tokens = llama.tokenize(prompt)
        check(f"ids {prompt!r}", tokens == ours["tokens"], f"{len(tokens)} tokens")
        if tokens != ours["tokens"]:
            continue
        theirs = llama.logits(tokens, every=True)
        difference = np.abs(theirs - np.array(ours["logits"], dtype=np.float32))
        check(
            f"logits {prompt!r}",
            difference.max() <= args.tolerance,
            f"max difference {difference.max():.2e}, mean {difference.mean():.2e}",
        )
        # llama.cpp also stops at the control tokens of code completion; compare past them, and
        # only ask that where we stop, it would.
        theirs, ours = llama.greedy(tokens, args.tokens), ours["greedy"]
        same = next((i for i, (a, b) in enumerate(zip(theirs, ours)) if a != b), len(ours))
        ended = len(ours) == args.tokens or llama.is_end(theirs[len(ours)])
        good = same == len(ours) and ended
        check(f"greedy {prompt!r}", good, f"{same} of {len(ours)} tokens equal")
    if args.text:
        data = pathlib.Path(args.text).read_bytes()[: args.bytes]
        with tempfile.NamedTemporaryFile(suffix=".txt") as file:
            file.write(data)
            file.flush()
            command = [folder / "retort-edge", "perplexity", args.model, "--text", file.name, "--kv-cache", "f32"]
            command += ["--ctx", str(args.ctx), "--json"]
            ours = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        theirs, scored = perplexity(llama, data.decode(errors="replace"), args.ctx)
        ratio = ours["perplexity"] / theirs - 1
        good = abs(ratio) < 0.01 and scored == ours["tokens"]
        figures = f"{ours['perplexity']:.4f} against {theirs:.4f} ({ratio:+.3%}), {scored} tokens"
        check("perplexity", good, figures)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
