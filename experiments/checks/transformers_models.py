#!/usr/bin/env python3
"""Every architecture against transformers: logits, files retort writes, and adapters.

    cargo build --release -p retort-model --examples
    python3 experiments/checks/transformers_models.py [EXAMPLES_DIRECTORY]

Needs torch and transformers (and peft for the adapters). For each configuration a model with
random weights is made by transformers and saved; retort's logits on it must be within 1e-4 of
transformers' (float32). retort then loads the directory and writes it again, and transformers
must open that with no missing, unexpected or mismatched key and the same tensors. Exits 1 if
anything differs.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import safetensors.torch
import torch
import transformers

examples = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[2] / "target/release/examples"
shape = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=8, max_position_embeddings=256)
llama3 = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)
linear = dict(rope_type="linear", rope_theta=10000.0, factor=4.0)
cases = [
    ("llama, one head each, tied", "Llama", dict(vocab_size=128, tie_word_embeddings=True), {}),
    ("llama, grouped, untied, vocabulary 1013, llama3", "Llama", dict(vocab_size=1013, num_key_value_heads=2, rope_parameters=llama3), {}),
    ("llama, grouped, all biases, linear, head_dim 16", "Llama", dict(vocab_size=257, num_key_value_heads=4, head_dim=16, attention_bias=True, mlp_bias=True, rope_parameters=linear), dict(max_shard_size="50KB")),
    ("llama as SmolLM2, bfloat16 in the file", "Llama", dict(vocab_size=128, num_attention_heads=4, num_key_value_heads=1, tie_word_embeddings=True, rms_norm_eps=1e-5), dict(dtype=torch.bfloat16)),
    ("qwen2, grouped, tied, vocabulary 1013", "Qwen2", dict(vocab_size=1013, num_key_value_heads=2, tie_word_embeddings=True, rope_parameters=dict(rope_type="default", rope_theta=1e6)), {}),
    ("qwen2, one head each, untied, shards, float16 in the file", "Qwen2", dict(vocab_size=300, num_key_value_heads=8, tie_word_embeddings=False), dict(max_shard_size="50KB", dtype=torch.float16)),
    ("qwen3, grouped, head_dim 24, tied", "Qwen3", dict(vocab_size=515, num_key_value_heads=2, head_dim=24, tie_word_embeddings=True), {}),
    ("qwen3, one head each, untied, attention biases", "Qwen3", dict(vocab_size=128, num_key_value_heads=8, head_dim=8, attention_bias=True, tie_word_embeddings=False), {}),
]
failed = False


def report(ok, text):
    global failed
    failed |= not ok
    print(("ok   " if ok else "FAIL ") + text, flush=True)


def retort(*args):
    done = subprocess.run([examples / "checkpoint_logits", *map(str, args)], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"FAIL {done.stderr}")
    return done.stdout


def logits(directory, ids):
    return torch.tensor(json.loads(retort(directory, ",".join(map(str, ids)))))


def opened(directory, dtype):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, output_loading_info=True)
    problems = {k: v for k, v in info.items() if v}
    return model, problems


for name, kind, changes, save in cases:
    torch.manual_seed(len(name))
    config = getattr(transformers, kind + "Config")(**{**shape, **changes})
    model = getattr(transformers, kind + "ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            # Weights large enough that logits are of the size a trained model has; no bias or
            # norm at its trivial value.
            parameter.mul_(3.0) if parameter.dim() == 2 else parameter.add_(torch.randn_like(parameter) * 0.3)
    dtype = save.get("dtype", torch.float32)
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        model.to(dtype).save_pretrained(first, max_shard_size=save.get("max_shard_size", "5GB"))
        model, problems = opened(first, torch.float32)
        ids = torch.randint(0, config.vocab_size, (1, 96))
        with torch.no_grad():
            theirs = model(ids).logits[0]
        ours = logits(first, ids[0].tolist())
        difference = (ours - theirs).abs().max().item()
        report(difference < 1e-4, f"{name}: logits up to {theirs.abs().max():.1f}, max difference {difference:.1e}")
        retort(first, "--to", second)
        again, problems = opened(second, torch.float32)
        same = all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
        report(not problems and same and type(again) is type(model), f"    written again: {problems or 'every key'}, tensors {'equal' if same else 'DIFFERENT'}")
        stored = again.config.dtype if hasattr(again.config, "dtype") else None
        before = json.loads((pathlib.Path(first) / "config.json").read_text())
        after = json.loads((pathlib.Path(second) / "config.json").read_text())
        report(before == after, "    config.json " + ("unchanged" if before == after else f"CHANGED {before} {after}"))

try:
    import peft
except ImportError:
    print("skip peft is not installed")
    sys.exit(failed)
torch.manual_seed(1)
config = transformers.Qwen2Config(**shape, vocab_size=128, num_key_value_heads=2, tie_word_embeddings=False)
with tempfile.TemporaryDirectory() as base, tempfile.TemporaryDirectory() as adapters:
    transformers.Qwen2ForCausalLM(config).save_pretrained(base)
    ids = torch.randint(0, 128, (1, 40))
    command = [examples / "write_adapters", base, ",".join(map(str, ids[0].tolist())), adapters, "q_proj", "v_proj", "model.layers.1.mlp.*", "lm_head"]
    ours = torch.tensor(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with torch.no_grad():
        plain = model(ids).logits[0]
        theirs = peft.PeftModel.from_pretrained(model, adapters).eval()(ids).logits[0]
    difference, moved = (ours - theirs).abs().max().item(), (plain - theirs).abs().max().item()
    report(difference < 1e-4 < moved, f"adapters in peft: logits moved by {moved:.1e}, max difference {difference:.1e}")

# The first Qwen's q, k and v are one module: what peft adds to it against A and B of each.
WIDTH, INNER, IDS = 32, 48, 64


class Fused(torch.nn.Module):
    def __init__(self):
        super().__init__()
        linear = torch.nn.Linear
        block = lambda: torch.nn.ModuleDict({
            "ln_1": torch.nn.RMSNorm(WIDTH), "ln_2": torch.nn.RMSNorm(WIDTH),
            "attn": torch.nn.ModuleDict({"c_attn": linear(WIDTH, 3 * WIDTH), "c_proj": linear(WIDTH, WIDTH, bias=False)}),
            "mlp": torch.nn.ModuleDict({
                "w1": linear(WIDTH, INNER, bias=False), "w2": linear(WIDTH, INNER, bias=False),
                "c_proj": linear(INNER, WIDTH, bias=False)}),
        })
        self.transformer = torch.nn.ModuleDict({
            "wte": torch.nn.Embedding(IDS, WIDTH), "h": torch.nn.ModuleList(block() for _ in range(2)),
            "ln_f": torch.nn.RMSNorm(WIDTH)})
        self.lm_head = linear(WIDTH, IDS, bias=False)
        self.config = {"model_type": "custom"}


with tempfile.TemporaryDirectory() as base, tempfile.TemporaryDirectory() as adapters:
    model = Fused()
    pathlib.Path(base, "config.json").write_text(json.dumps({
        "architectures": ["QWenLMHeadModel"], "model_type": "qwen", "vocab_size": IDS, "hidden_size": WIDTH,
        "intermediate_size": 2 * INNER, "num_hidden_layers": 2, "num_attention_heads": 4, "kv_channels": WIDTH // 4,
        "seq_length": 64, "max_position_embeddings": 64, "tie_word_embeddings": False}))
    safetensors.torch.save_file(dict(model.state_dict()), pathlib.Path(base, "model.safetensors"))
    ids = ",".join(str(i * 5 % IDS) for i in range(20))
    subprocess.run([examples / "write_adapters", base, ids, adapters, "c_attn", "lm_head"], check=True, capture_output=True)
    peft_config = peft.LoraConfig.from_pretrained(adapters)
    peft_config.task_type = None
    loaded = peft.PeftModel(model, peft_config)
    state = safetensors.torch.load_file(pathlib.Path(adapters, "adapter_model.safetensors"))
    outcome = peft.set_peft_model_state_dict(loaded, state)
    report(not outcome.unexpected_keys, f"fused adapters in peft: unexpected keys {outcome.unexpected_keys}")
    for name, rank, alpha in [("transformer.h.1.attn.c_attn", 12, 24.0), ("lm_head", 4, 8.0)]:
        module = dict(loaded.base_model.model.named_modules())[name]
        theirs = module.get_delta_weight("default")
        a, b = (state[f"base_model.model.{name}.lora_{x}.weight"] for x in "AB")
        difference = (theirs - alpha / rank * (b @ a)).abs().max().item()
        right = difference < 1e-6 < theirs.abs().max().item() and a.shape[0] == rank
        report(right, f"fused adapters in peft: {name}, rank {a.shape[0]}, max difference {difference:.1e}")
sys.exit(failed)
