#!/usr/bin/env python3
"""`retort eval` beside lm-evaluation-harness through transformers: every likelihood, every figure.

    cargo build --release
    pip install torch transformers "lm_eval[api]"
    python3 experiments/checks/lm_eval_likelihoods.py MODEL --data DIR [--gguf FILE] [--text wiki.test.raw]
        [--engine-only] [--tasks arc_challenge,…] [--limit 300] [--shots 0] [--alternate N]

MODEL is a Hugging Face directory; FILE a GGUF of the same weights (`retort export --quant f32`).
DIR holds arc_challenge.test.jsonl, hellaswag.validation.jsonl, piqa.validation.jsonl and, for
what else is asked, commonsense_qa.dev.jsonl and TruthfulQA.csv. Where the data of a task is not
at hand (boolq, lambada_openai, mmlu, openbookqa, winogrande), rows of its layout are made from
ARC's questions and from the text: the likelihoods compare all the same. The harness runs its own
task files, of which only the data set is replaced.

Prints, a line a task and way: items, the largest difference of a continuation's log-likelihood in
nats, the largest difference of a figure, seconds of either. Exits 1 if a likelihood differs by
more than 1e-3 and 5e-6 of itself (what is over 1e-3 alone is asked of the harness again in float64, to say whose
rounding it is), an accuracy or its standard error by more than 1e-6 (TruthfulQA's mc2,
a share of probability: 1e-4), or a perplexity by more than 1e-4 of itself. With
--alternate N, the last task is timed N times, harness and retort by turns.
"""
import argparse
import csv
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import lm_eval
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

parser = argparse.ArgumentParser()
parser.add_argument("model", type=pathlib.Path)
parser.add_argument("--data", type=pathlib.Path, required=True)
parser.add_argument("--gguf", type=pathlib.Path)
parser.add_argument("--engine-only", action="store_true", help="only the GGUF, not the directory through Burn")
parser.add_argument("--text", type=pathlib.Path)
parser.add_argument("--tasks", default="arc_challenge,hellaswag,piqa")
parser.add_argument("--limit", type=int, default=300)
parser.add_argument("--shots", type=int, default=0)
parser.add_argument("--max-length", type=int, default=1024)
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--dtype", default="float32", help="of the harness; float64 says which side rounding is on")
parser.add_argument("--alternate", type=int, default=0)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--bin", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[2] / "target/release")
args = parser.parse_args()
torch.set_num_threads(args.threads)
work = pathlib.Path(tempfile.mkdtemp())

# The name of each task's file, and which of the harness's splits it is.
FILES = {
    "arc_challenge": ("arc_challenge.test.jsonl", "test"),
    "arc_easy": ("arc_easy.test.jsonl", "test"),
    "hellaswag": ("hellaswag.validation.jsonl", "validation"),
    "piqa": ("piqa.validation.jsonl", "validation"),
    "commonsense_qa": ("commonsense_qa.dev.jsonl", "validation"),
    "boolq": ("boolq.validation.jsonl", "validation"),
    "openbookqa": ("openbookqa.test.jsonl", "test"),
    "winogrande": ("winogrande.validation.jsonl", "validation"),
    "lambada_openai": ("lambada_test.jsonl", "test"),
    "mmlu": ("mmlu.test.jsonl", "test"),
    "truthfulqa_mc1": ("truthfulqa.validation.jsonl", "validation"),
    "truthfulqa_mc2": ("truthfulqa.validation.jsonl", "validation"),
    "wikitext": ("wikitext.test.jsonl", "test"),
}


def lines(name):
    return [json.loads(line) for line in (args.data / name).read_text().splitlines()]


def sentences():
    return [line.strip() for line in args.text.read_text().split("\n") if len(line.split()) > 20]


def pages():
    page, found = [], []
    for line in args.text.read_text().split("\n"):
        short = line.replace("= = =", "===").replace("= =", "==").strip()
        if short.startswith("= ") and short.endswith(" ="):
            found.append("\n".join(page))
            page = []
        page.append(line)
    found.append("\n".join(page))
    return [{"page": page} for page in found if page.strip()]


def truthful():
    parts = lambda text: [part.strip() for part in text.split(";") if part.strip()]
    for row in csv.DictReader(open(args.data / "TruthfulQA.csv", encoding="utf-8-sig")):
        right, wrong = parts(row["Correct Answers"]), parts(row["Incorrect Answers"])
        one = [row["Best Answer"].strip()] + wrong
        yield {
            "question": row["Question"],
            "mc1_targets": {"choices": one, "labels": [1] + [0] * len(wrong)},
            "mc2_targets": {"choices": right + wrong, "labels": [1] * len(right) + [0] * len(wrong)},
        }


def four():
    return [row for row in lines("arc_challenge.test.jsonl") if len(row["choices"]["text"]) == 4]


def blank(text):
    words = text.split(" ")
    middle = len(words) // 2
    return {
        "sentence": " ".join(words[:middle] + ["_"] + words[middle + 1 :]),
        "option1": words[middle],
        "option2": words[middle - 2],
        "answer": "1",
    }


def rows(task):
    """The rows of `task`: as they are, or made up in its layout."""
    match task:
        case "arc_easy":
            return lines("arc_challenge.test.jsonl")
        case "boolq":
            return [{"passage": text, "question": "is this an article", "label": i % 2} for i, text in enumerate(sentences())]
        case "openbookqa":
            return [{"question_stem": row["question"], **row} for row in four()]
        case "winogrande":
            return [blank(text) for text in sentences()]
        case "lambada_openai":
            return [{"text": text.removesuffix(" .")} for text in sentences()]
        case "mmlu":
            return [
                {"question": row["question"] + " ", "subject": "anatomy", "choices": row["choices"]["text"],
                 "answer": row["choices"]["label"].index(row["answerKey"])}
                for row in four()
            ]
        case "truthfulqa_mc1" | "truthfulqa_mc2":
            return list(truthful())
        case "wikitext":
            return pages()
        case _:
            return lines(FILES[task][0])


def write(name, content):
    (work / name).write_text("".join(json.dumps(row) + "\n" for row in content))


tasks = args.tasks.split(",")
manager = TaskManager()
for task in tasks:
    everything = rows(task)
    if task == "mmlu":
        write("mmlu.dev.jsonl", everything[-5:])
    write(FILES[task][0], everything[: args.limit])


def spec(task):
    """The harness's own task with the rows written above."""
    name, split = FILES[task]
    files = {split: str(work / name)}
    changes = {
        "task": "mmlu_anatomy" if task == "mmlu" else task,
        "dataset_path": "json",
        "dataset_name": None,
        "training_split": None,
        "validation_split": None,
        "test_split": None,
    }
    changes[f"{split}_split"] = split
    if task == "mmlu":
        files["dev"] = str(work / "mmlu.dev.jsonl")
    if task == "hellaswag":
        changes["process_docs"] = None
    own = load_yaml(manager.task_index[changes["task"]].yaml_path)
    return {**own, **changes, "dataset_kwargs": {"data_files": files}}


model = HFLM(pretrained=str(args.model), dtype=args.dtype, device="cpu", batch_size=args.batch, max_length=args.max_length)


def harness(task):
    start = time.time()
    found = lm_eval.simple_evaluate(
        model=model, tasks=[spec(task)], task_manager=manager, num_fewshot=args.shots,
        log_samples=True, bootstrap_iters=1000,
    )
    seconds = time.time() - start
    (name,) = found["samples"]
    samples = sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
    logs, asked = [], []
    for sample in samples:
        given = sample["arguments"]  # a list of pairs, or a dictionary of dictionaries
        given = [tuple(one.values()) for one in given.values()] if isinstance(given, dict) else given
        asked.append([tuple(one) for one in given])
        answers = [answer[0] for answer in sample["resps"]]
        logs.append([float(a[0]) if isinstance(a, (tuple, list)) else float(a) for a in answers])
    figures = {key.split(",")[0]: value for key, value in found["results"][name].items() if isinstance(value, float)}
    return logs, figures, seconds, asked


def exact(asked):
    """The log-likelihoods of contexts and continuations, by the harness in float64."""
    wide = HFLM(pretrained=str(args.model), dtype="float64", device="cpu", batch_size=1, max_length=args.max_length)
    requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(asked)]
    return [answer[0] for answer in wide.loglikelihood(requests, disable_tqdm=True)]


def retort(task, path):
    items = work / "items.jsonl"
    start = time.time()
    command = [args.bin / "retort", "eval", path, "--tasks", task, "--data", work, "--items", items, "--json", "-"]
    command += ["--shots", str(args.shots)] if args.shots else []
    command += ["--max-length", str(args.max_length), "--threads", str(args.threads)]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    seconds = time.time() - start
    found = [json.loads(line) for line in items.read_text().splitlines()]
    logs = [item["log_likelihoods"] for item in found]
    if task == "wikitext":
        logs = [[sum(windows)] for windows in logs]
    return logs, json.loads(done.stdout)["results"][task], seconds


failed = False
ways = [] if args.engine_only else [("burn", args.model)]
ways += [("engine", args.gguf)] if args.gguf else []
for task in tasks:
    expected, figures, seconds, asked = harness(task)
    counted = len(expected)
    for way, path in ways:
        logs, ours, own_seconds = retort(task, path)
        assert [len(item) for item in logs] == [len(item) for item in expected], task
        pairs = [(a, b) for x, y in zip(logs, expected) for a, b in zip(x, y)]
        worst = max(abs(a - b) for a, b in pairs)
        wrong = sum(abs(a - b) > max(1e-3, 5e-6 * abs(b)) for a, b in pairs)
        shared = [name for name in figures if ours.get(name) is not None]
        assert shared, (figures, ours)
        apart = 0.0
        for name in shared:
            if name == "perplexity_stderr":  # another random generator
                continue
            difference, most = abs(figures[name] - ours[name]), 1e-6
            if task == "truthfulqa_mc2":  # a share of probability, not a count
                most = 1e-4
            if "perplexity" in name or "bits" in name:
                difference, most = difference / figures[name], 1e-4
            apart = max(apart, difference)
            failed |= difference > most
        failed |= wrong > 0
        shown = " ".join(f"{name} {ours[name]:.6g}" for name in shared if not name.endswith("stderr"))
        print(
            f"{task:16} {way:7} {len(logs):5} items, {len(pairs)} likelihoods: largest difference {worst:.2e} nats, "
            f"{wrong} beyond tolerance; of figures {apart:.1e} ({shown}); {own_seconds:.1f} s, harness {seconds:.1f} s",
            flush=True,
        )
        far = [(i, j) for i, item in enumerate(logs) for j, a in enumerate(item) if abs(a - expected[i][j]) > 1e-3]
        if far and task != "wikitext" and args.dtype != "float64":
            wide = exact([asked[i][j] for i, j in far])
            ours = max(abs(logs[i][j] - w) for (i, j), w in zip(far, wide))
            theirs = max(abs(expected[i][j] - w) for (i, j), w in zip(far, wide))
            print(
                f"{'':16} {way:7} {len(far):5} over 1e-3; from the harness in float64 retort is at most {ours:.2e} "
                f"away, the harness in {args.dtype} {theirs:.2e}",
                flush=True,
            )
if args.alternate:
    times = {"harness": [], **{way: [] for way, _ in ways}}
    for _ in range(args.alternate):
        times["harness"].append(harness(task)[2])
        for way, path in ways:
            times[way].append(retort(task, path)[2])
    for way, seconds in times.items():
        middle = statistics.median(seconds)
        print(f"{task} {way}: {middle:.1f} s, {counted / middle:.2f} items/s ({min(seconds):.1f} to {max(seconds):.1f})")
sys.exit(failed)
