#!/usr/bin/env python3
"""Holds import to transformers and llama.cpp on one real GGUF file, there and back.

    pip install torch transformers xllamacpp numpy
    cargo build --release -p retort-edge -p retort-engine -p retort-convert --bins --examples
    python experiments/checks/check_import.py MODEL.gguf --work EMPTY_DIR --bin target/release
        [--text FILE --bytes 60000] [--texts TRICKY.inp --separator LINE] [--tokenizer tokenizer.json]

The file is imported and loaded by transformers: no missing and no unexpected keys, finite logits;
token ids of the rebuilt tokenizer against the engine's on every text; logits and greedy text
against the engine on the directory's F32 export, and of llama.cpp on the same export; perplexity of
FILE by the engine and by llama.cpp on the export and on the original. With --tokenizer, ids also
against a publisher's tokenizer.json. Exits non-zero if a check fails.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import unicodedata

import numpy as np
import torch
import transformers

import check_llamacpp

TEXTS = [
    "Hello world",
    "  two  spaces\tand\t\ttabs \n\n\n newlines\r\n",
    "In 2025 it cost $3.50 (up 1234567%)!!! \u00bd \u00b2\u00b3 \u0661\u0662\u0663 \u0967\u0968",
    "\u00c4pfel a\u0308pfel \U0001f999\U0001f468\u200d\U0001f469\u200d\U0001f467 \u1100\u1161 \u1780\u17bb\u17c6",
    "don't DON'T we'Ll I'd've \u2019s ''s",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "<|endoftext|>a<|endoftext|> <repo_name> <|tool_call|>",
    "def f(x):\n    return x**2  # \u6ce8\u91ca \u3053\u3093\u306b\u3061\u306f\n",
    " ",
    "\u3000\u00a0\u2003 \ufeff\u200b",
    "".join(chr(c) for c in range(1, 256)),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--bin", type=pathlib.Path, default="target/release")
    parser.add_argument("--text", type=pathlib.Path)
    parser.add_argument("--bytes", type=int, default=60000)
    parser.add_argument("--texts", type=pathlib.Path)
    parser.add_argument("--separator", default="__ggml_vocab_test__")
    parser.add_argument("--tokenizer", type=pathlib.Path)
    parser.add_argument("--tokens", type=int, default=64)
    args = parser.parse_args()
    failed = []

    def check(name, good, figures=""):
        print(f"{'ok  ' if good else 'FAIL'} {name}: {figures}", flush=True)
        failed.extend([] if good else [name])

    def run(*command):
        command = [str(word) for word in command]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    examples = args.bin / "examples"
    folder, again = args.work / "imported", args.work / "again.gguf"
    run(examples / "import", args.model, folder)
    run(examples / "export", folder, again, "f32")

    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    problems = {key: value for key, value in info.items() if value}
    check("transformers loads it", not problems, f"{type(model).__name__} {problems or ''}")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    check("chat template", True, f"{len(tokenizer.chat_template or '')} characters")

    texts = list(TEXTS)
    if args.texts:
        whole = args.texts.read_text()
        texts += whole.removesuffix(f"\n{args.separator}\n").split(f"\n{args.separator}\n")
    if args.text:
        data = args.text.read_bytes()[: args.bytes].decode(errors="replace")
        texts.append(data)
    inputs = args.work / "texts"
    inputs.write_text(f"\n{args.separator}\n".join(texts), newline="")
    lines = run(examples / "ids", args.model, inputs, args.separator, "special").splitlines()
    ours = [json.loads(line) for line in lines]
    theirs = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    equal = sum(a == b for a, b in zip(ours, theirs))
    check("ids of the rebuilt tokenizer are the engine's", equal == len(texts), f"{equal} of {len(texts)}")
    llama = check_llamacpp.LlamaCpp(args.model, 512, 2)
    # llama.cpp does not compose; Qwen's tokenizer does.
    composes = "NFC" in repr(tokenizer.backend_tokenizer.normalizer)
    given = [unicodedata.normalize("NFC", text) if composes else text for text in texts]
    equal = sum(llama.tokenize(text, add_special=False) == b for text, b in zip(given, theirs))
    check("and llama.cpp's", equal == len(texts), f"{equal} of {len(texts)}")
    if args.tokenizer:
        published = transformers.PreTrainedTokenizerFast(tokenizer_file=str(args.tokenizer))
        wanted = [published(text, add_special_tokens=False)["input_ids"] for text in texts]
        equal = sum(a == b for a, b in zip(theirs, wanted))
        check("and the publisher's", equal == len(texts), f"{equal} of {len(texts)}")

    llama_again = check_llamacpp.LlamaCpp(again, 512, 2)
    for prompt in check_llamacpp.PROMPTS:
        ours = json.loads(run(examples / "logits", again, prompt, args.tokens))
        ids = torch.tensor([ours["tokens"]])
        with torch.no_grad():
            theirs = model(ids).logits[0].numpy()
            greedy = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=args.tokens,
                do_sample=False,
            )
        engine = np.abs(theirs - np.array(ours["logits"], dtype=np.float32)).max()
        other = np.abs(theirs - llama_again.logits(ours["tokens"], every=True)).max()
        figures = f"max difference {engine:.1e} to the engine, {other:.1e} to llama.cpp"
        check(f"logits {prompt!r}", max(engine, other) <= 0.02, figures)
        greedy = greedy[0, ids.shape[1] :].tolist()
        if greedy and greedy[-1] == tokenizer.eos_token_id:
            greedy.pop()
        good = greedy == ours["greedy"]
        check(f"greedy {prompt!r}", good, f"{len(greedy)} tokens")

    if args.text:
        part = args.work / "text"
        part.write_bytes(args.text.read_bytes()[: args.bytes])
        figures = {}
        for name, file, theirs in [("original", args.model, llama), ("again", again, llama_again)]:
            out = run(args.bin / "retort-edge", "perplexity", file, "--text", part, "--kv-cache", "f32", "--json")
            figures[name] = json.loads(out)["perplexity"]
            figures[f"{name} in llama.cpp"] = check_llamacpp.perplexity(theirs, data, 512)[0]
        ids = tokenizer(data, add_special_tokens=False)["input_ids"]
        figures["imported in transformers"] = perplexity(model, ids, 512)
        imported = figures["imported in transformers"]
        for name, value in figures.items():
            limit = 0.01 if "original" in name else 0.001
            ratio = value / imported - 1
            check(f"perplexity, {name}", abs(ratio) <= limit, f"{value:.4f} ({ratio:+.3%})")
    return 1 if failed else 0


def perplexity(model, tokens, n_ctx):
    """The same windows as check_llamacpp.perplexity, for a tokenizer without BOS."""
    scored = []
    for start in range(0, len(tokens) // n_ctx * n_ctx, n_ctx):
        window = tokens[start : start + n_ctx]
        with torch.no_grad():
            logits = model(torch.tensor([window])).logits[0].numpy()
        half = n_ctx // 2
        rows = logits[half : n_ctx - 1]
        scored.append(check_llamacpp.nlls(rows, np.array(window[half + 1 :])))
    return float(np.exp(np.concatenate(scored).mean()))


if __name__ == "__main__":
    sys.exit(main())
