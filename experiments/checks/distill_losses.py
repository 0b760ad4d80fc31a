#!/usr/bin/env python3
"""The distillation losses and their gradients beside PyTorch's, for the same formulas in float64.

    cargo build --release --workspace --examples
    python3 experiments/checks/distill_losses.py [--bin target/release/examples]

Needs torch. Random hidden states, head and teacher logits go through `distill_losses`, an example of
retort-model that prints the loss and its gradients; PyTorch differentiates each formula by itself:
cross entropy, forward and reverse KL and the Jensen-Shannon divergence as TRL's GKD trainer has it,
total variation, and all of them together at a temperature. Then states against a teacher's, through
a learned projection and without (`match_losses`, an example of retort-distill). Exits 1 where the loss
or a gradient is further away than 1e-5 of the largest.
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


def run(program, case):
    """What the example prints for a case."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(case, file)
        file.flush()
        done = subprocess.run([program, file.name], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def compare(what, ours, theirs_loss, named):
    """Prints how far the loss and the gradients are from PyTorch's; whether they are too far."""
    theirs_loss.backward()
    worst = abs(ours["loss"] / theirs_loss.item() - 1)
    line = [f"loss {worst:.1e}"]
    for name, x in named.items():
        got = torch.tensor(ours[name], dtype=torch.float64).reshape(x.shape)
        far = ((got - x.grad).abs().max() / x.grad.abs().max()).item()
        line.append(f"d{name} {far:.1e}")
        worst = max(worst, far)
    ok = worst < 1e-5
    print("ok  " if ok else "FAIL", f"{what}:", ", ".join(line))
    return not ok


def matching(examples):
    """States of unlike sizes (the first position's are large, as models' are) against a teacher's."""
    failed = False
    for d, e, projected in ((48, 80, True), (80, 48, True), (48, 48, True), (48, 48, False)):
        torch.manual_seed(d + e)
        n = 300
        x, y = torch.randn(n, d), torch.randn(n, e) * torch.exp(torch.randn(n, 1))
        y[0] *= 300
        projection = torch.randn(d, e) / d**0.5
        weights = torch.rand(n)
        weights[::5] = 0
        case = {"x": x.flatten().tolist(), "y": y.flatten().tolist(), "weights": weights.tolist()}
        case["projection"] = projection.flatten().tolist() if projected else []
        ours = run(examples / "match_losses", case)
        x, projection = (t.double().requires_grad_() for t in (x, projection))
        y, weights = y.double(), weights.double()
        mapped = x @ projection if projected else x
        share = functional.mse_loss(mapped, y, reduction="none").mean(-1) / y.square().mean(-1)
        named = {"x": x} | ({"projection": projection} if projected else {})
        what = f"states of {d} against {e}, {'projected' if projected else 'as they are'}"
        failed |= compare(what, ours, (weights * share).sum(), named)
    return failed


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
            ours = run(args.bin / "distill_losses", case)
            inputs = [x.double().requires_grad_() for x in (hidden, head)]
            names = "+".join(name for name in NAMES if case[name])
            what = f"{names}, {v} of {theirs} ids"
            failed |= compare(what, ours, loss(*inputs, case), dict(zip(("hidden", "head"), inputs)))
    failed |= matching(args.bin)
    sys.exit(failed)


if __name__ == "__main__":
    main()
