"""A converted tokenizer.json against the library whose file it was converted from.

    retort tokenizer convert tokenizer.model --out OUT
    python tokenizer_ids.py OUT/tokenizer.json tokenizer.model SHARD.parquet... [VECTORS.inp]

The original is a SentencePiece `.model` (pip install sentencepiece) or Qwen v1's `.tiktoken` (pip
install tiktoken). Every document of the shards, and every text of llama.cpp's vectors, is encoded by
both; special tokens spelled out are ordinary text. Also needs tokenizers and pyarrow.
"""

import base64
import sys
import unicodedata

import pyarrow.parquet
import tokenizers

QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def original(path):
    """The encode function of the file's own library."""
    if path.endswith(".model"):
        import sentencepiece

        return sentencepiece.SentencePieceProcessor(model_file=path).encode
    import tiktoken

    with open(path, "rb") as file:
        ranks = {base64.b64decode(t): int(r) for t, r in (line.split() for line in file if line.strip())}
    encoding = tiktoken.Encoding("Qwen", pat_str=QWEN, mergeable_ranks=ranks, special_tokens={})
    return lambda text: encoding.encode_ordinary(unicodedata.normalize("NFC", text))


def texts(paths):
    for path in paths:
        if path.endswith(".inp"):
            with open(path, encoding="utf-8", newline="") as file:
                yield from file.read().split("\n__ggml_vocab_test__\n")
        else:
            yield from pyarrow.parquet.read_table(path, columns=["text"])["text"].to_pylist()


def main():
    converted = tokenizers.Tokenizer.from_file(sys.argv[1])
    converted.encode_special_tokens = True
    expected = original(sys.argv[2])
    count = different = tokens = 0
    for text in texts(sys.argv[3:]):
        ids = converted.encode(text, add_special_tokens=False).ids
        count += 1
        tokens += len(ids)
        if ids != expected(text):
            different += 1
            print("differs:", repr(text[:60]))
    print(f"{count - different} of {count} texts identical, {tokens} tokens")
    sys.exit(different != 0)


main()
