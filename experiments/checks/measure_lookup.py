#!/usr/bin/env python3
"""How often `retort-edge run --speculate lookup` guesses right, on prompts out of files.

    measure_lookup.py MODEL.gguf --edge RETORT_EDGE [--count N] [--tokens N] NAME=FILE.jsonl[.gz]:FIELD:TEMPLATE ...

takes the first N prompts of each file (the field of each line, put into the template's {}; "\\n" there is a line break),
generates (greedily unless --temperature says otherwise), and prints a line per file: tokens that came out of a pass over
the weights, guesses made a pass, and the share of them that were right. Counts only: the load of the machine does not
matter.
"""
import argparse, gzip, json, re, subprocess


def prompts(file, field, template, count):
    opened = gzip.open if file.endswith(".gz") else open
    with opened(file, "rt", encoding="utf-8") as lines:
        for _, line in zip(range(count), lines):
            yield template.replace("\\n", "\n").replace("{}", json.loads(line)[field])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("files", nargs="+", metavar="NAME=FILE:FIELD:TEMPLATE")
    parser.add_argument("--edge", required=True)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--temperature", default="0")
    args = parser.parse_args()
    print(f"{'text':<12}{'prompts':>8}{'tokens':>8}{'passes':>8}{'a pass':>8}{'guesses':>9}{'right':>8}")
    for argument in args.files:
        name, rest = argument.split("=", 1)
        file, field, template = rest.split(":", 2)
        runs = tokens = passes = guesses = right = 0
        for prompt in prompts(file, field, template, args.count):
            command = [args.edge, "run", args.model, "-p", prompt, "-n", str(args.tokens), "--speculate", "lookup"]
            command += ["--temperature", args.temperature]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            made = int(re.search(r"generated (\d+) tokens", done.stderr)[1])
            found = re.search(r"(\d+) of (\d+) guesses right, (\d+) passes", done.stderr)
            # the first token comes of the prompt's pass
            of = [int(n) for n in found.groups()] if found else [0, 0, max(made - 1, 0)]
            runs, tokens, passes = runs + 1, tokens + max(made - 1, 0), passes + of[2]
            right, guesses = right + of[0], guesses + of[1]
        line = f"{name:<12}{runs:>8}{tokens:>8}{passes:>8}{tokens / max(passes, 1):>8.2f}"
        print(line + f"{guesses / max(passes, 1):>9.2f}{right / max(guesses, 1):>8.0%}", flush=True)


if __name__ == "__main__":
    main()
