"""lm-evaluation-harness over `retort-edge serve` beside `retort eval` on the same file: every choice, every likelihood.

    pip install "lm_eval[api]"
    HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 python check_lm_eval.py RETORT_EDGE RETORT MODEL.gguf --data DIR
        [--limit 200] [--tasks arc_challenge,hellaswag,piqa]

DIR holds arc_challenge.test.jsonl, hellaswag.validation.jsonl and piqa.validation.jsonl. The harness asks for the
likelihoods of continuations through the completions API (echo and logprobs, several prompts at a time) and has the server
cut text into tokens; its own task files are used, of which only the data set is replaced. MODEL must be packed (other
files round differently in company), and keys and values are kept in single precision, as `retort eval` keeps them. Exits 1
if a choice differs, by acc's rule or by acc_norm's, or a likelihood by more than 1e-3 nats.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import lm_eval
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml
from served import Served

FILES = {
    "arc_challenge": ("arc_challenge.test.jsonl", "test"),
    "hellaswag": ("hellaswag.validation.jsonl", "validation"),
    "piqa": ("piqa.validation.jsonl", "validation"),
}


def spec(manager, task, work):
    """The harness's own task with the rows of `work`."""
    name, split = FILES[task]
    changes = dict.fromkeys(["dataset_name", "training_split", "validation_split", "test_split"])
    changes |= {"task": task, "dataset_path": "json", f"{split}_split": split}
    if task == "hellaswag":  # the rows are as the harness would make them
        changes["process_docs"] = None
    return {**load_yaml(manager.task_index[task].yaml_path), **changes, "dataset_kwargs": {"data_files": {split: str(work / name)}}}


def harness(manager, task, work, address, arguments):
    """Likelihoods of every item's choices, the predictions of acc and acc_norm, and seconds."""
    served = f"base_url={address}/v1/completions,model=served,tokenizer_backend=remote,max_length={arguments.max_length},num_concurrent=4"
    start = time.time()
    found = lm_eval.simple_evaluate(
        model="local-completions", model_args=served, batch_size=8, tasks=[spec(manager, task, work)], task_manager=manager,
        log_samples=True, bootstrap_iters=0,
    )
    seconds = time.time() - start
    samples = sorted(found["samples"][task], key=lambda sample: sample["doc_id"])
    items = []
    for sample in samples:
        choices = [argument[1] for argument in map(texts, sample["arguments"])]
        logs = [float(response[0][0]) for response in sample["resps"]]
        items.append((logs, choices, sample["acc"], sample["acc_norm"]))
    return items, seconds


def texts(argument):
    return argument if isinstance(argument, (list, tuple)) else list(argument.values())


def retort(task, work, arguments):
    out = work / "items.jsonl"
    start = time.time()
    command = [arguments.retort, "eval", arguments.model, "--tasks", task, "--data", work, "--items", out, "--json", "-"]
    done = subprocess.run([*map(str, command), "--max-length", str(arguments.max_length)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    seconds = time.time() - start
    return [json.loads(line) for line in out.read_text().splitlines()], json.loads(done.stdout)["results"][task], seconds


def likeliest(logs, choices, by_letters):
    scores = [log / len(choice.removeprefix(" ")) if by_letters else log for log, choice in zip(logs, choices)]
    return scores.index(max(scores))


def compare(manager, task, work, address, arguments):
    asked, harness_seconds = harness(manager, task, work, address, arguments)
    own, figures, own_seconds = retort(task, work, arguments)
    assert len(asked) == len(own), (len(asked), len(own))
    worst, differ = 0.0, {"acc": 0, "acc_norm": 0}
    for (logs, choices, *_), item in zip(asked, own):
        assert len(logs) == len(item["log_likelihoods"])
        worst = max(worst, *(abs(a - b) for a, b in zip(logs, item["log_likelihoods"])))
        for name, by_letters in (("acc", False), ("acc_norm", True)):
            differ[name] += likeliest(logs, choices, by_letters) != likeliest(item["log_likelihoods"], choices, by_letters)
    means = {"acc": sum(a for *_, a, _ in asked) / len(asked), "acc_norm": sum(n for *_, n in asked) / len(asked)}
    same = all(abs(means[name] - figures[name]) < 1e-9 for name in means)
    print(
        f"{task}: {len(own)} items, {sum(len(logs) for logs, *_ in asked)} likelihoods; choices that differ: acc {differ['acc']}, "
        f"acc_norm {differ['acc_norm']}; largest difference {worst:.1e} nats; acc {means['acc']:.4f} and {figures['acc']:.4f}, acc_norm "
        f"{means['acc_norm']:.4f} and {figures['acc_norm']:.4f}; {harness_seconds:.0f} s over the server, {own_seconds:.0f} s in process",
        flush=True,
    )
    return same and not any(differ.values()) and worst < 1e-3


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("retort")
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--tasks", default=",".join(FILES))
    parser.add_argument("--max-length", type=int, default=2048)
    arguments = parser.parse_args()
    manager, fine = TaskManager(), True
    options = ["--alias", "served", "--kv-cache", "f32"]
    with tempfile.TemporaryDirectory() as directory, Served(arguments.program, arguments.model, *options) as server:
        work = Path(directory)
        for task in arguments.tasks.split(","):
            name = FILES[task][0]
            rows = (arguments.data / name).read_text().splitlines(keepends=True)
            (work / name).write_text("".join(rows[: arguments.limit]))
            fine &= compare(manager, task, work, server.address, arguments)
    sys.exit(not fine)


if __name__ == "__main__":
    main()
