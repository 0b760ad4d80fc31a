#!/usr/bin/env python3
"""Tasks that are written beside lm-evaluation-harness: prompts byte for byte, and verdicts on the same texts.

    cargo build --release -p retort-eval --example score_texts
    pip install torch transformers "lm_eval[api]"
    python3 experiments/checks/lm_eval_generation.py --data DIR [--limit 10] [--model DIR --gguf FILE]

DIR holds gsm8k.test.jsonl, HumanEval.jsonl.gz and bbh/ with the authors' files. The harness runs its own task files, of
which only the data set is replaced, and its examples are the first ones, as retort's are; its examples for BIG-bench
hard are written to cot-prompts/*.txt in the authors' layout, for retort to read. GSM8K's examples are the last rows of its
test. HumanEval is compared in its prompts alone, which its task file gives without its code, as that runs programs.

Every item is answered with texts made of its own target, right and wrong in many ways, cut at the task's stops by the
harness's own function. With --model and --gguf (`retort export --quant f32` of it), GSM8K's first items are also written
by either side, the likeliest token each time, and the texts compared.

A line a task: items, prompts that differ, texts, verdicts that differ. Exits 1 if any does.
"""
import argparse
import gzip
import json
import pathlib
import subprocess
import sys
import tempfile

from jinja2 import Environment
from lm_eval.api.instance import Instance
from lm_eval.models.utils import postprocess_generated_text
from lm_eval.tasks import TaskManager, get_task_dict
from lm_eval.tasks._yaml_loader import load_yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
parser = argparse.ArgumentParser()
parser.add_argument("--data", type=pathlib.Path, required=True)
parser.add_argument("--limit", type=int, default=10)
parser.add_argument("--model", type=pathlib.Path)
parser.add_argument("--gguf", type=pathlib.Path)
parser.add_argument("--write", type=int, default=5, help="items that both sides write")
parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "target/release")
args = parser.parse_args()
work = pathlib.Path(tempfile.mkdtemp())
manager = TaskManager()
failed = False


def lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def harness(name, files, **changes):
    """The harness's task `name` on other files, and its requests."""
    own = load_yaml(manager.task_index[name].yaml_path)
    spec = {**own, "dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": files}, **changes}
    (task,) = get_task_dict([spec], manager).values()
    task.set_config(key="num_fewshot", value=spec["num_fewshot"])
    task.build_all_requests(limit=args.limit, rank=0, world_size=1)
    return task


def texts_about(answer):
    """Texts that answer `answer`, rightly or not."""
    return [
        f" {answer}", answer, f" {answer}.", f"\n{answer}\n\nQ: another", f' "{answer}",\n', f" {answer.upper()}", "", " nothing",
        f" {answer}!\nQuestion: another", f" It is so.\n#### {answer}", f"#### {answer}.\nQuestion: #### 5", f"#### 5\n#### {answer}",
        f" That is ${answer} of 3 in 12.", f" 12 and then {answer}.", f"First. So the answer is {answer}.",
        f"the answer is {answer}. Or the answer is 7.", f"the answer is {answer}", "So the answer is 7.\nIt is.", f"the answer is\n{answer}.",
        " -5, 1,234", "#### -7.", "#### ,", f"</s>the answer is {answer}. #### {answer}", f"the answer is {answer}. <|im_end|>", " .", "#### 1 #### 2",
    ]


def given(task, data, shots, texts):
    path = work / "texts.json"
    path.write_text(json.dumps(texts))
    command = [args.bin / "examples/score_texts", task, data, shots, path]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


def compare(name, task, ours, data, shots, answer, filters, same=lambda text: text):
    """`filters` names retort's verdicts by the harness's filters; `same` is what is done to texts before it judges."""
    global failed
    instances = task.instances
    texts = [texts_about(answer(one.doc)) for one in instances]
    found = given(ours, data, shots, texts)
    prompts = sum(found[i]["prompt"] != one.args[0] for i, one in enumerate(instances))
    differ, right = {name: 0 for name in filters}, {name: 0 for name in filters}
    until = instances[0].args[1]["until"]
    for place in range(len(texts[0])):
        for one, own in zip(instances, texts):
            one.resps = [same(postprocess_generated_text(own[place], until, None))]
        task.apply_filters()
        for i, one in enumerate(instances):
            line = found[place * len(instances) + i]
            for filter_name, field in filters.items():
                verdict = task.process_results(one.doc, [one.filtered_resps[filter_name]])["exact_match"]
                right[filter_name] += int(verdict)
                if bool(verdict) != line[field]:
                    differ[filter_name] += 1
                    print(f"  {name} {filter_name}: {verdict} for {texts[i][place]!r}, retort: {line}")
    failed |= prompts > 0 or any(differ.values())
    shown = ", ".join(f"{key}: {right[key]} right, {differ[key]} differ" for key in filters)
    print(f"{name}: {len(instances)} items, {prompts} prompts differ; {len(texts) * len(texts[0])} texts, {shown}", flush=True)
    return texts


# GSM8K
rows = [json.loads(line) for line in (args.data / "gsm8k.test.jsonl").read_text().splitlines()]
data = work / "gsm8k"
files = {"test": lines(data / "gsm8k.test.jsonl", rows[: args.limit]), "train": lines(data / "gsm8k.train.jsonl", rows[-8:])}
for shots in (5, 0):
    task = harness("gsm8k", files, num_fewshot=shots, fewshot_config={"sampler": "first_n", "split": "train"})
    number = lambda doc: doc["answer"].split("#### ")[1]
    compare(f"gsm8k, {shots} examples", task, "gsm8k", data, shots, number, {"strict-match": "exact", "flexible-extract": "flexible"})
written = harness("gsm8k", files, num_fewshot=5, fewshot_config={"sampler": "first_n", "split": "train"}).instances

# BIG-bench hard: the examples of the harness's files in the authors' layout
data = work / "bbh"
for path in sorted((args.data / "bbh").glob("**/*.json")):
    kind, rows = path.stem, json.loads(path.read_text())["examples"][: args.limit]
    own = load_yaml(manager.task_index[f"bbh_cot_fewshot_{kind}"].yaml_path)
    step = "\nA: Let's think step by step.\n"
    examples = [f"Q: {one['input']}{step}{one['target']}" for one in own["fewshot_config"]["samples"]]
    (data / kind / "cot-prompts").mkdir(parents=True)
    (data / kind / "bbh").mkdir()
    about = "\n\n".join([own["description"].strip(), *examples])
    (data / kind / "cot-prompts" / f"{kind}.txt").write_text(f"A canary of theirs\n-----\n{about}\n")
    (data / kind / "bbh" / f"{kind}.json").write_text(json.dumps({"examples": rows}))
    files = {"test": lines(data / kind / "rows.jsonl", rows)}
    target = lambda doc: doc["target"]
    task = harness(f"bbh_cot_fewshot_{kind}", files, num_fewshot=3)
    compare(f"bbh_cot {kind}", task, "bbh_cot", data / kind, 3, target, {"get-answer": "exact"})
    task = harness(f"bbh_zeroshot_{kind}", files, num_fewshot=0)
    compare(f"bbh {kind}", task, "bbh", data / kind, 0, target, {"strict-match": "exact"}, same=str.strip)

# HumanEval
with gzip.open(args.data / "HumanEval.jsonl.gz", "rt") as file:
    rows = [json.loads(line) for line in file][: args.limit]
own = load_yaml(manager.task_index["humaneval"].yaml_path, resolve_func=False)
template = Environment(keep_trailing_newline=True).from_string(own["doc_to_text"])
lines(work / "humaneval" / "HumanEval.jsonl", rows)
texts = ["    return 1\n\ndef other():", "    return 2\n#", "    if x:\n        return 3\nif y:", "", "    a\nprint(a)\nclass B:"]
found = given("humaneval", work / "humaneval", 0, [texts] * len(rows))
prompts = sum(found[i]["prompt"] != template.render(**row) for i, row in enumerate(rows))
cut = [postprocess_generated_text(text, own["generation_kwargs"]["until"], None) for text in texts]
ends = sum(line["text"] != cut[line["place"]] for line in found)
failed |= prompts + ends > 0
print(f"humaneval: {len(rows)} items, {prompts} prompts differ; {len(found)} texts, {ends} end elsewhere", flush=True)

# What both sides write
if args.model:
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=str(args.model), dtype="float32", device="cpu", batch_size=1)
    task = (ROOT / "experiments/tasks/gsm8k.toml").read_text().replace("[generation]", "[generation]\nmax_tokens = 64")
    (work / "short.toml").write_text(task)
    items = work / "items.jsonl"
    command = [args.bin / "retort", "eval", args.gguf, "--tasks", work / "short.toml", "--data", work / "gsm8k", "--items", items]
    subprocess.run([*map(str, command), "--limit", str(args.write)], check=True, capture_output=True)
    ours = [json.loads(line)["completion"] for line in items.read_text().splitlines()]
    kwargs = {**written[0].args[1], "max_gen_toks": 64}
    asked = [Instance("generate_until", one.doc, (one.args[0], kwargs), i) for i, one in enumerate(written[: args.write])]
    theirs = model.generate_until(asked, disable_tqdm=True)
    differ = sum(a != b for a, b in zip(ours, theirs))
    failed |= differ > 0
    print(f"gsm8k written by both, up to 64 tokens: {len(ours)} texts of {sum(map(len, ours))} characters, {differ} differ")
    for a, b in zip(ours, theirs):
        if a != b:
            print(f"  retort  {a!r}\n  harness {b!r}")
sys.exit(failed)
