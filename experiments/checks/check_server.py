"""Holds `retort-edge serve` to the clients people have: the official openai package, and lm-evaluation-harness.

    python check_server.py RETORT_EDGE MODEL.gguf [--lm-eval PYTHON]

MODEL needs a chat template. Needs the package `openai`; with --lm-eval, the Python of an environment with `lm_eval` and
`lm_eval[api]`. The harness's scores over the server are held to those of the engine's own logits, which this script asks
for token by token through the API without echo.
"""

import argparse
import json
import math
import subprocess
import tempfile
from pathlib import Path

import openai
from served import Served, check


def check_openai(address, key):
    client = openai.OpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0)
    model = client.models.list().data[0].id
    check("models", client.models.retrieve(model).id == model)
    done = client.completions.create(model=model, prompt="The capital of France is", max_tokens=8, temperature=0, logprobs=2)
    choice = done.choices[0]
    check(f"completion {choice.text!r}", choice.text and done.usage.prompt_tokens > 0)
    check("its logprobs", len(choice.logprobs.tokens) >= done.usage.completion_tokens and choice.logprobs.token_logprobs[0] < 0)
    several = client.completions.create(model=model, prompt=["One", "Two"], max_tokens=4, n=2, seed=3)
    check("several completions", sorted(c.index for c in several.choices) == [0, 1, 2, 3])

    turns = [{"role": "system", "content": "You answer briefly."}, {"role": "user", "content": "Name a colour."}]
    whole = client.chat.completions.create(model=model, messages=turns, max_tokens=24, seed=7, logprobs=True, top_logprobs=3)
    message = whole.choices[0].message.content
    check(f"chat {message!r}", message and whole.choices[0].finish_reason in ("stop", "length"))
    entry = whole.choices[0].logprobs.content[0]
    check("its logprobs", entry.logprob <= 0 and len(entry.top_logprobs) == 3)
    stream = client.chat.completions.create(
        model=model, messages=turns, max_tokens=24, seed=7, stream=True, stream_options={"include_usage": True}
    )
    text, usage = "", None
    for event in stream:
        usage = event.usage or usage
        text += (event.choices[0].delta.content or "") if event.choices else ""
    check("the same streamed", text == message and usage.completion_tokens == whole.usage.completion_tokens)
    again = client.chat.completions.create(model=model, messages=turns, max_tokens=24, seed=7)
    check("the same again", again.choices[0].message.content == message)

    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "green", "blue"]}, "sure": {"type": "boolean"}},
        "required": ["colour", "sure"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "colour", "schema": schema, "strict": True}}
    held = client.chat.completions.create(model=model, messages=turns, max_tokens=64, response_format=form)
    value = json.loads(held.choices[0].message.content)
    check(f"json schema {value}", value["colour"] in ("red", "green", "blue") and isinstance(value["sure"], bool))

    tool = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}
    told = client.chat.completions.create(model=model, messages=turns, max_tokens=4, tools=[tool])
    check("tools are taken", told.usage.prompt_tokens >= whole.usage.prompt_tokens)
    vectors = client.embeddings.create(model=model, input=["a cat", "a kitten", "tax law"]).data
    dot = lambda a, b: sum(x * y for x, y in zip(a.embedding, b.embedding))
    check("embeddings", abs(dot(vectors[0], vectors[0]) - 1) < 1e-4 and dot(vectors[0], vectors[1]) > dot(vectors[0], vectors[2]))

    def refused(kind, **arguments):
        try:
            client.chat.completions.create(**{"model": model, "messages": turns, "max_tokens": 1, **arguments})
        except kind as error:
            return error.body["message"]
        return None

    check("a bad field", "temperature" in (refused(openai.BadRequestError, temperature=99) or ""))
    check("an unknown model", refused(openai.NotFoundError, model="gpt-9"))
    client.api_key = "wrong"
    check("a wrong key", refused(openai.AuthenticationError))


def check_lm_eval(address, python):
    """A task of ten questions about the text's own continuation, by likelihood, and one by generation."""
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        rows = [
            {"question": f"{a} plus {b} is", "choices": [str(a + b), str(a + b + 3)], "answer": 0, "text": str(a + b)}
            for a, b in [(1, 1), (2, 3), (4, 4), (5, 2), (7, 1), (3, 3), (6, 2), (2, 2), (9, 1), (8, 3)]
        ]
        (directory / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        common = f"dataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {directory}/rows.jsonl\ntest_split: test\n"
        (directory / "sums.yaml").write_text(
            f"task: sums\n{common}output_type: multiple_choice\ndoc_to_text: '{{{{question}}}}'\n"
            "doc_to_choice: '{{choices}}'\ndoc_to_target: answer\nmetric_list:\n  - metric: acc\n"
        )
        (directory / "says.yaml").write_text(
            f"task: says\n{common}output_type: generate_until\ndoc_to_text: '{{{{question}}}}'\n"
            "doc_to_target: '{{text}}'\ngeneration_kwargs:\n  until: ['\\n', '.']\n  max_gen_toks: 12\n"
            "metric_list:\n  - metric: exact_match\n"
        )
        arguments = f"base_url={address}/v1/completions,model=served,tokenizer_backend=remote,num_concurrent=4,max_length=512"
        command = [python, "-m", "lm_eval", "--model", "local-completions", "--model_args", arguments]
        command += ["--tasks", "sums,says", "--include_path", str(directory), "--output_path", str(directory / "out")]
        command += ["--log_samples", "--batch_size", "4"]
        environment = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OPENAI_API_KEY": "unused", "HOME": str(directory)}
        done = subprocess.run(command, env={**environment, "PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
        check("lm-evaluation-harness ends well", done.returncode == 0 or print(done.stderr[-3000:]))
        results = json.loads(next((directory / "out").rglob("results_*.json")).read_text())["results"]
        print("     ", {task: {k: v for k, v in r.items() if "," in k} for task, r in results.items()})
        samples = next((directory / "out").rglob("samples_sums_*.jsonl")).read_text().splitlines()
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="unused")
        worst = 0.0
        for sample in map(json.loads, samples):
            row = sample["doc"]
            for choice, response in zip(row["choices"], sample["filtered_resps"]):
                worst = max(worst, abs(float(response[0]) - likelihood(client, row["question"], f" {choice}")))
        check(f"its likelihoods are the engine's, within {worst:.1e}", worst < 1e-3)


def likelihood(client, context, continuation):
    """The continuation's log likelihood, a token at a time, from the probabilities of what comes next."""
    ids = lambda text: client.post("/../tokenize", body={"prompt": text, "add_special_tokens": False}, cast_to=object)["tokens"]
    whole, before = ids(context + continuation), len(ids(context))
    total = 0.0
    for i in range(before, len(whole)):
        # a bias that leaves only the token in question; what is told is the model's own probability
        told = client.completions.create(
            model="served", prompt=whole[:i], max_tokens=1, logprobs=0, temperature=0, logit_bias={str(whole[i]): 100},
            extra_body={"ignore_eos": True},
        )
        total += told.choices[0].logprobs.token_logprobs[0]
    assert math.isfinite(total)
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--lm-eval", metavar="PYTHON")
    arguments = parser.parse_args()
    with Served(arguments.program, arguments.model, "--api-key", "secret") as server:
        check_openai(server.address, "secret")
    if arguments.lm_eval:
        with Served(arguments.program, arguments.model, "--alias", "served") as server:
            check_lm_eval(server.address, arguments.lm_eval)


if __name__ == "__main__":
    main()
