#!/usr/bin/env python3
"""Published tokenizers cut by `retort prune --vocab`, against themselves.

    cargo build --release --bins
    python3 experiments/checks/prune_tokenizers.py SIZE SOURCE TEXT TOKENIZER_JSON…  (RELEASE=DIRECTORY)

Tokens are chosen by their number in SOURCE and tried on pieces of four words of the file TEXT: one
that the whole tokenizer encodes to kept tokens must be encoded to the same ones, and every one must
come back from its ids as it was (or as normalization leaves it). Needs torch, transformers and
tokenizers. Exits 1 if anything differs.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unicodedata

import tokenizers
import transformers

size, source, text = sys.argv[1:4]
release = pathlib.Path(os.environ.get("RELEASE", pathlib.Path(__file__).resolve().parents[2] / "target/release"))
words = re.findall(r"\s*\S+", pathlib.Path(text).read_text())
pieces = ["".join(words[i : i + 4]) for i in range(0, len(words), 4)]
pieces += ["naïve café – 日本語 🙂\r\n\t x", "\0\x7f e\u0301 ½ <|endoftext|> <|im_start|>"]
failed = False
for path in sys.argv[4:]:
    with tempfile.TemporaryDirectory() as place:
        parent, student = pathlib.Path(place) / "parent", pathlib.Path(place) / "student"
        whole = tokenizers.Tokenizer.from_file(path)
        rows = whole.get_vocab_size(with_added_tokens=True)
        rows = max(rows, max(whole.get_vocab().values()) + 1)
        config = transformers.LlamaConfig(vocab_size=rows, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, eos_token_id=rows - 1, tie_word_embeddings=True)
        transformers.LlamaForCausalLM(config).save_pretrained(parent)
        shutil.copy(path, parent / "tokenizer.json")
        done = subprocess.run([release / "retort", "prune", parent, "--out", student, "--vocab", size, "--vocab-from", source, "--json"], capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"FAIL {path}: {done.stderr}")
        cut = tokenizers.Tokenizer.from_file(str(student / "tokenizer.json"))
        tokens = {token: i for token, i in cut.get_vocab().items()}
        new = {i: tokens[token] for token, i in whole.get_vocab().items() if token in tokens}
        same = other = wrong = lengths = longer = 0
        for piece in pieces:
            before, after = (t.encode(piece, add_special_tokens=False).ids for t in [whole, cut])
            back = cut.decode(after, skip_special_tokens=False)
            wrong += back not in (piece, unicodedata.normalize("NFC", piece))
            lengths, longer = lengths + len(before), longer + len(after)
            if all(i in new for i in before):
                wrong += [new[i] for i in before] != after
                same += 1
            else:
                other += 1
        wrong += len(tokens) != int(size)
        failed |= wrong > 0 or same == 0
        covers = json.loads(done.stdout)["vocabulary_covers"]
        print(f"{'FAIL' if wrong else 'ok  '} {path}: {rows} to {size}, {100 * covers:.2f} % of the source's tokens kept; {same} pieces of kept tokens alone equal, {other} others, {wrong} wrong; {100 * (longer / lengths - 1):.2f} % more tokens", flush=True)
sys.exit(failed)
