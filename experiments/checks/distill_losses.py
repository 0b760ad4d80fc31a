#!/usr/bin/env python3
"""The distillation losses and their gradients beside PyTorch's, for the same formulas in float64.

    cargo build --release --workspace --examples
    python3 experiments/checks/distill_losses.py [--bin target/release/examples]

Needs torch. Random hidden states, head and teacher logits go through `distill_losses`, an example of
retort-model that prints the loss and its gradients; PyTorch differentiates each formula by itself:
cross entropy, forward and reverse KL and the Jensen-Shannon divergence as TRL's GKD trainer has it,
total variation, and all of them together at a temperature. Exits 1 where the loss or a gradient is
further away than 1e-5 of the largest.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from torch.nn import functional

NAMES = ("cross_entropy", "forward_kl", "reverse_kl", "jensen_shannon", "total_variation")


def loss(hidden, head, case):
    """The formula, as PyTorch users write it."""
    t, beta = case["temperature"], case["beta"]
    logits = hidden @ head.T
    shared = min(case["vocabulary"], case["teacher_vocabulary"])
    teacher = torch.tensor(case["teacher"], dtype=torch.float64).reshape(len(case["targets"]), -1)
    log_q = functional.log_softmax(logits[:, :shared] / t, -1)
    log_p = functional.log_softmax(teacher[:, :shared] / t, -1)

    def kl(log_a, log_b):
        return functional.kl_div(log_b, log_a, reduction="none", log_target=True).sum(-1)

    log_m = torch.logsumexp(
        torch.stack([log_p + torch.tensor(beta).log(), log_q + torch.tensor(1 - beta).log()]), 0
    )
    parts = {
        "cross_entropy": functional.cross_entropy(logits, torch.tensor(case["targets"]), reduction="none"),
        "forward_kl": t * t * kl(log_p, log_q),
        "reverse_kl": t * t * kl(log_q, log_p),
        "jensen_shannon": t * t * (beta * kl(log_p, log_m) + (1 - beta) * kl(log_q, log_m)),
        "total_variation": t * t * 0.5 * (log_p.exp() - log_q.exp()).abs().sum(-1),
    }
    weights = torch.tensor(case["weights"], dtype=torch.float64)
    return sum(case[name] * (weights * parts[name]).sum() for name in NAMES)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=pathlib.Path, default="target/release/examples")
    args = parser.parse_args()
    mixtures = [{name: 1.0} for name in NAMES] + [dict(zip(NAMES, (0.4, 0.3, 0.2, 0.6, 0.1)), temperature=2.5)]
    failed = False
    for i, mixture in enumerate(mixtures):
        # Padding rows in the teacher's table, in neither, and in the student's.
        for v, theirs in ((1000, 1040), (1000, 1000), (1040, 1000)):
            torch.manual_seed(i)
            n, d = 300, 48
            hidden, head = torch.randn(n, d), torch.randn(v, d) * 0.3
            weights = torch.rand(n)
            weights[::5] = 0
            case = dict.fromkeys(NAMES, 0.0) | {"temperature": 1.0, "beta": 0.3, "chunk": 128} | mixture
            case |= {"vocabulary": v, "teacher_vocabulary": theirs, "hidden": hidden.flatten().tolist()}
            case |= {"head": head.flatten().tolist(), "weights": weights.tolist()}
            case |= {"targets": torch.randint(v, (n,)).tolist()}
            case |= {"teacher": (torch.randn(n, theirs) * 2).flatten().tolist()}
            with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
                json.dump(case, file)
                file.flush()
                run = subprocess.run([args.bin / "distill_losses", file.name], capture_output=True, text=True)
            if run.returncode:
                sys.exit(run.stderr)
            ours = json.loads(run.stdout)
            inputs = [x.double().requires_grad_() for x in (hidden, head)]
            theirs_loss = loss(*inputs, case)
            theirs_loss.backward()
            line = [f"loss {abs(ours['loss'] / theirs_loss.item() - 1):.1e}"]
            worst = abs(ours["loss"] / theirs_loss.item() - 1)
            for name, x in zip(("hidden", "head"), inputs):
                got = torch.tensor(ours[name], dtype=torch.float64).reshape(x.shape)
                far = ((got - x.grad).abs().max() / x.grad.abs().max()).item()
                line.append(f"d{name} {far:.1e}")
                worst = max(worst, far)
            ok = worst < 1e-5
            failed |= not ok
            names = "+".join(name for name in NAMES if case[name])
            print("ok  " if ok else "FAIL", f"{names}, {v} of {case['teacher_vocabulary']} ids:", ", ".join(line))
    sys.exit(failed)


if __name__ == "__main__":
    main()
