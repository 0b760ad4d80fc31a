#!/usr/bin/env python3
"""The entropy of a source's token frequencies, in nats: what a unigram model that knew them
exactly would lose a token. A trained model's validation loss must be clearly below it.

    python3 experiments/checks/unigram.py TOKENIZER.json SHARD.parquet…

Needs pyarrow and tokenizers. The end-of-text id between documents counts as a token.
"""
import collections
import math
import sys

import pyarrow.parquet as pq
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file(sys.argv[1])
counts = collections.Counter()
for shard in sys.argv[2:]:
    texts = [t for t in pq.read_table(shard, columns=["text"])["text"].to_pylist() if t]
    for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False):
        counts.update(encoding.ids)
        counts[0] += 1
total = sum(counts.values())
entropy = -sum(n / total * math.log(n / total) for n in counts.values())
print(f"{total} tokens, {len(counts)} kinds, unigram entropy {entropy:.4f} nats")
