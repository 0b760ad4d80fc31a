#!/usr/bin/env python3
"""Students that `retort prune` writes, opened by transformers.

    cargo build --release --workspace --examples --bins
    python3 experiments/checks/prune_transformers.py CHECKPOINT SOURCE [RELEASE_DIRECTORY]

CHECKPOINT is a directory with trained weights and a tokenizer (such as SmolLM2), SOURCE is text.
Students of it, cut every way, and students of small random Llama, Qwen2 and Qwen3 models made
by transformers must open with no missing, unexpected or mismatched key, give retort's logits
(within 1e-4, or 1e-5 of the largest), and have a tokenizer that gives back any text. Needs
torch and transformers. Exits 1 if anything differs.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers

checkpoint, source = sys.argv[1:3]
release = pathlib.Path(sys.argv[3]) if len(sys.argv) > 3 else pathlib.Path(__file__).resolve().parents[2] / "target/release"
TEXT = "Once upon a time there was a naïve café by the sea – 日本語, 🙂!\n\n\tThe end.  "
failed = False


def report(ok, text):
    global failed
    failed |= not ok
    print(("ok   " if ok else "FAIL ") + text, flush=True)


def run(*args):
    done = subprocess.run(list(map(str, args)), capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"FAIL {args}: {done.stderr}")
    return done.stdout


def check(name, parent, arguments, ids=None):
    with tempfile.TemporaryDirectory() as place:
        student = pathlib.Path(place) / "student"
        figures = json.loads(run(release / "retort", "prune", parent, "--out", student, "--json", *arguments.split()))
        model, info = transformers.AutoModelForCausalLM.from_pretrained(student, dtype=torch.float32, output_loading_info=True)
        problems = {k: v for k, v in info.items() if v}
        count = sum(p.numel() for p in model.parameters())
        tokenizer = None
        if ids is None:
            tokenizer = transformers.AutoTokenizer.from_pretrained(student)
            given = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
            exact = tokenizer.decode(given) == TEXT and max(given) < model.config.vocab_size
            special = tokenizer.convert_tokens_to_ids(tokenizer.eos_token) == model.config.eos_token_id
        else:
            given, exact, special = ids, True, True
        with torch.no_grad():
            theirs = model.eval()(torch.tensor([given])).logits[0]
        ours = torch.tensor(json.loads(run(release / "examples/checkpoint_logits", student, ",".join(map(str, given)))))
        difference, largest = (ours - theirs).abs().max().item(), theirs.abs().max().item()
        shape = figures["student"]
        same = count == shape["parameters"] and difference <= max(1e-4, 1e-5 * largest)
        sizes = "/".join(str(shape[k]) for k in ["layers", "hidden", "heads", "mlp", "vocabulary"])
        words = f"{name}, {arguments.split(' --data')[0]}: {sizes}, {count} parameters, logits up to {largest:.1f}, max difference {difference:.1e}"
        report(same and not problems and exact and special, words + (f" {problems}" if problems else "") + ("" if exact and special else " tokenizer"))


data = f"--data {source} --tokens 8192"
for arguments in [
    f"--layers 20 {data}",
    f"--layers 20 --layers-by range {data}",
    "--layers 10 --layers-by every",
    "--keep-layers 0-3,5,29",
    f"--hidden 384 --kv-heads 2 --mlp 1024 {data}",
    "--hidden 384 --heads 6 --mlp 1024 --importance l1",
    f"--vocab 8192 --vocab-from {source}",
    f"--params 35M --vocab 16384 --vocab-from {source} {data}",
]:
    check("trained", checkpoint, arguments)

shape = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=8, max_position_embeddings=256)
cases = [
    ("llama, grouped, untied, all biases", "Llama", dict(vocab_size=257, num_key_value_heads=4, head_dim=16, attention_bias=True, mlp_bias=True), {}),
    ("llama, tied, bfloat16 in the file", "Llama", dict(vocab_size=128, num_key_value_heads=4, tie_word_embeddings=True), dict(dtype=torch.bfloat16)),
    ("qwen2, grouped, tied", "Qwen2", dict(vocab_size=301, num_key_value_heads=4, tie_word_embeddings=True), {}),
    ("qwen2, one head each, untied, shards, float16", "Qwen2", dict(vocab_size=300, num_key_value_heads=8), dict(max_shard_size="50KB", dtype=torch.float16)),
    ("qwen3, grouped, head_dim 24, tied", "Qwen3", dict(vocab_size=515, num_key_value_heads=4, head_dim=24, tie_word_embeddings=True), {}),
    ("qwen3, one head each, untied, biases", "Qwen3", dict(vocab_size=128, num_key_value_heads=8, head_dim=8, attention_bias=True), {}),
]
for name, kind, changes, save in cases:
    torch.manual_seed(len(name))
    config = getattr(transformers, kind + "Config")(**{**shape, **changes})
    model = getattr(transformers, kind + "ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0) if parameter.dim() == 2 else parameter.add_(torch.randn_like(parameter) * 0.3)
    with tempfile.TemporaryDirectory() as parent:
        model.to(save.get("dtype", torch.float32)).save_pretrained(parent, max_shard_size=save.get("max_shard_size", "5GB"))
        ids = torch.randint(0, config.vocab_size, (96,)).tolist()
        check(name, parent, "--layers 3 --layers-by every --hidden 48 --heads 4 --mlp 64 --importance l1", ids)
sys.exit(failed)
