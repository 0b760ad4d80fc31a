#!/usr/bin/env python3
"""Training speed and memory beside PyTorch, in turns, on the two shapes of `step_speed`.

    cargo build --release --workspace --examples
    python3 experiments/checks/train_speed.py [--shapes small medium] [--rounds 3] [--steps 8]

Needs torch (and a C++ compiler for torch.compile). The same Llama in PyTorch: rotary positions,
RMSNorm, SwiGLU, scaled_dot_product_attention, AdamW, float32, the same random ids. Each round runs
retort, PyTorch eager and PyTorch compiled, each in a process of its own; the table has the medians
over the rounds of each process's median step, and of its peak resident memory. Exits 1 where retort
is below 1.2 times the better of the two or above 0.35 times its memory.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys

SHAPES = {
    "small": dict(ids=8192, width=256, layers=6, heads=4, inner=688, length=256, rows=8),
    "medium": dict(ids=32000, width=512, layers=8, heads=8, inner=1376, length=512, rows=4),
}


def train(shape, steps, compiled, threads):
    """One process's figures, in PyTorch."""
    import resource
    import time

    import torch
    from torch import nn
    from torch.nn import functional

    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(1)
    s = SHAPES[shape]
    width, heads, length = s["width"], s["heads"], s["length"]
    head = width // heads
    angles = torch.outer(torch.arange(length).float(), 10000.0 ** (-torch.arange(0, head, 2) / head))
    cos, sin = angles.cos(), angles.sin()

    def turn(x):
        a, b = x.chunk(2, -1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

    def linear(i, o):
        layer = nn.Linear(i, o, bias=False)
        nn.init.normal_(layer.weight, std=0.02)
        return layer

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.RMSNorm(width, 1e-5), nn.RMSNorm(width, 1e-5)
            self.q, self.k, self.v, self.o = (linear(width, width) for _ in range(4))
            self.gate, self.up, self.down = linear(width, s["inner"]), linear(width, s["inner"]), linear(s["inner"], width)

        def forward(self, x):
            n = self.first(x)
            q, k, v = (f(n).unflatten(-1, (heads, head)).transpose(1, 2) for f in (self.q, self.k, self.v))
            y = functional.scaled_dot_product_attention(turn(q), turn(k), v, is_causal=True)
            x = x + self.o(y.transpose(1, 2).flatten(2))
            n = self.second(x)
            return x + self.down(functional.silu(self.gate(n)) * self.up(n))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(s["ids"], width)
            nn.init.normal_(self.embedding.weight, std=0.02)
            self.layers = nn.ModuleList(Layer() for _ in range(s["layers"]))
            self.norm, self.head = nn.RMSNorm(width, 1e-5), linear(width, s["ids"])

        def forward(self, x):
            x = self.embedding(x)
            for layer in self.layers:
                x = layer(x)
            return self.head(self.norm(x))

    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, eps=1e-8, betas=(0.9, 0.999), weight_decay=0.01)
    run = torch.compile(model) if compiled else model
    state, ids = 12345, []
    for _ in range(s["rows"] * length):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        ids.append((state >> 33) % s["ids"])
    x = torch.tensor(ids).view(s["rows"], length)
    y = torch.tensor(ids[1:] + ids[:1])
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        loss = functional.cross_entropy(run(x).flatten(0, 1), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        times.append(time.perf_counter() - start)
    step = statistics.median(times[1:])
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(dict(tokens_per_second=len(ids) / step, peak_rss_bytes=rss)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", default="target/release/examples")
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=0, help="of PyTorch and of retort (all of the machine's)")
    parser.add_argument("--torch", choices=["eager", "compiled"], help="(one process of the comparison)")
    args = parser.parse_args()
    if args.torch:
        return train(args.shapes[0], args.steps, args.torch == "compiled", args.threads)
    import os

    environment = dict(os.environ, OMP_WAIT_POLICY="passive")
    if args.threads:
        environment.update(RAYON_NUM_THREADS=str(args.threads), OMP_NUM_THREADS=str(args.threads))
    failed = False
    for shape in args.shapes:
        own = pathlib.Path(args.examples, "step_speed")
        torch = [sys.executable, __file__, "--shapes", shape, "--steps", str(args.steps), "--threads", str(args.threads), "--torch"]
        commands = {"retort": [own, shape, str(args.steps)], "eager": torch + ["eager"], "compiled": torch + ["compiled"]}
        speeds, memory = ({name: [] for name in commands} for _ in range(2))
        for _ in range(args.rounds):
            for name, command in commands.items():
                line = subprocess.run(command, check=True, capture_output=True, env=environment).stdout
                figures = json.loads(line)
                speeds[name].append(figures["tokens_per_second"])
                memory[name].append(figures["peak_rss_bytes"])
        for name in commands:
            spread = f"{min(speeds[name]):.0f} to {max(speeds[name]):.0f}"
            print(f"{shape:7} {name:9} {statistics.median(speeds[name]):8.0f} tokens/s ({spread}) {statistics.median(memory[name]) / 1e6:8.0f} MB", flush=True)
        best = max(["eager", "compiled"], key=lambda name: statistics.median(speeds[name]))
        faster = statistics.median(speeds["retort"]) / statistics.median(speeds[best])
        smaller = statistics.median(memory["retort"]) / statistics.median(memory[best])
        failed |= faster < 1.2 or smaller > 0.35
        print(f"{shape:7} against {best}: {faster:.2f} times the speed, {smaller:.2f} times the memory", flush=True)
    return failed


sys.exit(main())
