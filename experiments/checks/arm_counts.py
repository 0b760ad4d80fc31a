#!/usr/bin/env python3
"""Figures for the Arm kernels that need no Arm machine and do not depend on this one's load.

    arm_counts.py [--toolchain +NAME] [--cpus LIST] [--model FILE --plugin FILE [--qemu-cpu NAME]]

builds retort-edge for aarch64 (or takes --edge FILE), then prints

* per kernel: the instructions of its inner loop and its modelled cycles (llvm-mca, data in the first-level cache), for
  128 weights of a product with one token, for 2,048 multiply-adds of one with eight; a line for each loop that
  differs (formats, groups of 32 or 16 weights), without what LLVM keeps outside the loop;
* with --model and --plugin: executed guest instructions a token of the whole engine on one thread under qemu-aarch64,
  in prefill (prompt tokens 65 to 192) and decoding (positions 69 to 84), and the symbols that most of them are in.

The plugin is any QEMU TCG plugin that takes out=FILE and top=N and writes a line `icount total N ...` and lines
`sym N SHARE% NAME`. Tools are found by name; LLVM_MCA and LLVM_OBJDUMP name others (version 19 or later).
"""
import argparse, os, re, subprocess, sys, tempfile
from pathlib import Path

TARGET = "aarch64-unknown-linux-gnu"
FEATURES = "+v9a,+i8mm,+bf16,+fullfp16,+dotprod"
# (name, words that the function's symbol holds, multiply-adds per unit)
KERNELS = [
    ("rows16 x 1 token, sdot", ("neon", "rows16", "7dotprod"), 128),
    ("rows16 x 1 token, plain NEON", ("neon", "rows16", "4neon17h"), 128),
    ("Q4_0 rows x 1 token, sdot", ("neon", "q4_0", "7dotprod"), 128),
    ("Q4_1, Q5, Q8_0 rows x 1 token, sdot", ("4gemv7dotprod4gemv17h",), 128),
    ("Q4, Q5, Q8_0 rows, plain NEON", ("4gemv4neon4gemv17h",), 128),
    ("K formats' rows x 1 token, sdot", ("6gemv_k7dotprod4gemv17h",), 128),
    ("K formats' rows, plain NEON", ("6gemv_k4neon4gemv17h",), 128),
    ("panel x 8 tokens, smmla", ("neon", "smmla", "4tile17h"), 2048),
    ("panel x 8 tokens, sdot", ("neon", "4tile7dotprod"), 2048),
]
# multiply-adds of an instruction
PRODUCTS = {"smmla": 32, "sdot": 16, "smull": 8, "smull2": 8, "smlal": 8, "smlal2": 8}


def run(command, **kwargs):
    done = subprocess.run(command, capture_output=True, text=True, **kwargs)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}:\n{done.stderr[-2000:]}")
    return done.stdout


def functions(binary):
    """Name and [(address, instruction)] of every function."""
    objdump = os.environ.get("LLVM_OBJDUMP", "llvm-objdump")
    text = run([objdump, "-d", "--no-show-raw-insn", f"--mattr={FEATURES}", binary])
    name, body = None, []
    for line in text.splitlines():
        if head := re.match(r"^[0-9a-f]+ <(.*)>:", line):
            if name:
                yield name, body
            name, body = head[1], []
        elif at := re.match(r"^\s*([0-9a-f]+):\s+(.*)$", line):
            body.append((int(at[1], 16), at[2].replace("\t", " ").split(" //")[0].strip()))
    if name:
        yield name, body


def loops(body):
    """The innermost loops that multiply, as lists of instructions."""
    index = {address: i for i, (address, _) in enumerate(body)}
    found = []
    for end, (_, text) in enumerate(body):
        jump = re.match(r"^(?:b\.\w+|b|cbn?z|tbn?z)\s.*0x([0-9a-f]+)\s+<", text)
        start = index.get(int(jump[1], 16)) if jump else None
        if start is not None and start <= end:
            found.append((start, end))
    inner = [a for a in found if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in found)]
    bodies = [[text for _, text in body[a : b + 1]] for a, b in inner]
    return [body for body in bodies if products(body)]


def products(body):
    return sum(PRODUCTS.get(text.split()[0], 0) for text in body)


def cycles(body, cpu, rounds=500):
    """Modelled cycles of one turn of a loop."""
    mca = os.environ.get("LLVM_MCA", "llvm-mca")
    jump = lambda t: re.sub(r"0x[0-9a-f]+ <.*>", ".Lstart", t) if "<" in t else t
    source = ".Lstart:\n" + "\n".join(map(jump, body)) + "\n"
    options = ["-mtriple=aarch64-linux-gnu", f"-mcpu={cpu}", f"-mattr={FEATURES}", f"-iterations={rounds}"]
    total = re.search(r"Total Cycles:\s+(\d+)", run([mca, *options], input=source))
    return int(total[1]) / rounds


def kernels(binary, cpus):
    print(f"{'kernel':<36}{'unit':>6}{'instr.':>8}" + "".join(f"{cpu:>14}" for cpu in cpus))
    everything = list(functions(binary))
    for label, words, unit in KERNELS:
        seen = set()
        for name, body in everything:
            if not all(word in name for word in words):
                continue
            for loop in loops(body):
                scale = unit / products(loop)
                row = [len(loop) * scale] + [cycles(loop, cpu) * scale for cpu in cpus]
                line = f"{label:<36}{unit:>6}{row[0]:>8.1f}" + "".join(f"{c:>14.1f}" for c in row[1:])
                if line not in seen:
                    seen.add(line)
                    print(line)
        if not seen:
            print(f"{label:<36}  no loop found")


def count(args, prompt, generate):
    """Instructions by symbol of a run of `bench`."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "counts"
        emulator = ["qemu-aarch64", "-cpu", args.qemu_cpu, "-L", "/usr/aarch64-linux-gnu"]
        plugin = ["-plugin", f"{args.plugin},top=100000,out={out}"]
        bench = [args.edge, "bench", args.model, "--prompt", prompt, "--gen", generate, "--reps", "1", "--threads", "1"]
        run([*emulator, *plugin, *map(str, bench)])
        text = out.read_text()
    symbols = {}
    for n, name in re.findall(r"^\s+sym\s+(\d+)\s+\S+%\s+(.*)$", text, re.M):
        symbols[name] = symbols.get(name, 0) + int(n)
    return int(re.search(r"icount total (\d+)", text)[1]), symbols


def tokens(args):
    base, longer, more = count(args, 64, 4), count(args, 192, 4), count(args, 64, 20)
    # The prompt goes through twice: `bench` warms up with it.
    for label, (total, symbols), n in [("prefill", longer, 2 * 128), ("decode", more, 16)]:
        print(f"{label}: {(total - base[0]) / n / 1e6:.2f} M instructions a token")
        each = {name: (k - base[1].get(name, 0)) / n for name, k in symbols.items()}
        for name, k in sorted(each.items(), key=lambda item: -item[1])[: args.top]:
            print(f"    {k / 1e6:8.3f} M  {name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toolchain", help="cargo's, such as +NAME")
    parser.add_argument("--edge", help="retort-edge for aarch64, if it is built already")
    parser.add_argument("--cpus", default="neoverse-n2,neoverse-v2,cortex-a76,cortex-a55,cortex-a53")
    parser.add_argument("--model", help="a GGUF file")
    parser.add_argument("--plugin", help="the counting plugin")
    parser.add_argument("--qemu-cpu", default="max")
    parser.add_argument("--top", type=int, default=12, help="symbols to list")
    args = parser.parse_args()
    if not args.edge:
        os.environ.setdefault("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc")
        build = ["build", "--release", "-p", "retort-edge", "--target", TARGET]
        run(["cargo", *([args.toolchain] if args.toolchain else []), *build])
        place = os.environ.get("CARGO_TARGET_DIR", Path(__file__).parents[2] / "target")
        args.edge = Path(place) / TARGET / "release" / "retort-edge"
    kernels(args.edge, args.cpus.split(","))
    if args.model and args.plugin:
        tokens(args)


if __name__ == "__main__":
    main()
