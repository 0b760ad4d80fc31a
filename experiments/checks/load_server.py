"""Load and abuse for `retort-edge serve`: counts replies and memory, and what several streams gain over one.

    python load_server.py RETORT_EDGE MODEL.gguf [--streams 64] [--seconds 60] [--threads T] [--rounds 5]

First the throughput: N streams of the same length together, against one alone, by turns; medians. Then, for the given
time, clients that behave, and clients that vanish in the middle, stall while they send or while they read, send garbage,
or send too much. Everything a well-behaved client asks must be answered as a quiet server answers it, or refused with 429
and a time to wait; what is refused must get a 4xx; the memory must not grow after the first quarter; the server must end
well. MODEL must be packed: other files round differently in company. Standard library only.
"""

import argparse
import collections
import http.client
import json
import random
import socket
import statistics
import subprocess
import threading
import time
from pathlib import Path


def start(program, model, *more):
    command = [program, "serve", model, "--port", "0", "--patience", "5", *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    address = process.stdout.readline().strip().removeprefix("http://")
    host, port = address.rsplit(":", 1)
    return process, (host, int(port))


def post(address, body, path="/v1/completions"):
    connection = http.client.HTTPConnection(*address, timeout=300)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    return connection, connection.getresponse()


def metrics(address):
    connection = http.client.HTTPConnection(*address, timeout=60)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def resident(process):
    """Bytes of the process's own memory, the mapped model not included."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(text.split("RssAnon:")[1].split()[0]) * 1024


def throughput(address, streams, tokens):
    """Tokens per second of `streams` answers together, from the first token to the last."""
    ends, begins = [], []

    def one(i):
        body = {"prompt": f"Story number {i}: once upon a time", "max_tokens": tokens, "seed": i, "stream": True, "ignore_eos": True}
        connection, response = post(address, body)
        first = None
        for line in response:
            if line.startswith(b"data: {") and first is None:
                first = time.monotonic()
        begins.append(first)
        ends.append(time.monotonic())
        connection.close()

    threads = [threading.Thread(target=one, args=(i,)) for i in range(streams)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return streams * tokens / (max(ends) - min(begins))


def questions():
    """What well-behaved clients ask: prompts that begin alike and others, each with a seed."""
    rng = random.Random(7)
    for i in range(32):
        begin = rng.choice(["The sea ", "A story: ", f"Number {i}. "])
        yield {"prompt": begin * rng.randrange(1, 200), "max_tokens": rng.randrange(1, 64), "seed": i}


def said(text, stream):
    """The answer in a response's body; none if it is not whole."""
    if not stream:
        return json.loads(text)["choices"][0]["text"]
    events = [line.removeprefix("data: ") for line in text.decode().split("\n\n") if line.startswith("data: ")]
    whole = events and events[-1] == "[DONE]"
    return "".join(json.loads(event)["choices"][0]["text"] for event in events[:-1]) if whole else None


def behave(address, rng, counts, known):
    question, answer = rng.choice(known)
    body = {**question, "stream": rng.random() < 0.5}
    connection, response = post(address, body)
    text = response.read()
    if response.status == 200:
        counts["answered" if said(text, body["stream"]) == answer else "BROKEN: another answer"] += 1
    else:
        clean = response.status == 429 and response.getheader("Retry-After")
        counts["refused" if clean else f"BROKEN: status {response.status}"] += 1
        time.sleep(0.2)
    connection.close()


def vanish(address, rng, counts):
    body = {"prompt": "The sea", "max_tokens": 400, "stream": True, "ignore_eos": True}
    connection, response = post(address, body)
    response.read(rng.randrange(1, 600))
    response.close()
    connection.close()
    counts["vanished"] += 1


def stall(address, rng, counts):
    with socket.create_connection(address, timeout=60) as stream:
        if rng.random() < 0.5:
            stream.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{\"pro")
        else:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            body = json.dumps({"prompt": "The sea", "max_tokens": 200, "stream": True, "logprobs": 20, "ignore_eos": True})
            stream.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        time.sleep(rng.uniform(1, 8))
    counts["stalled"] += 1


def garbage(address, rng, counts):
    with socket.create_connection(address, timeout=60) as stream:
        try:
            stream.sendall(rng.randbytes(rng.randrange(1, 5000)))
            stream.shutdown(socket.SHUT_WR)
            said = stream.recv(1000)
            if said and not said.startswith(b"HTTP/1.1 4"):
                counts["BROKEN: garbage was answered"] += 1
        except OSError:
            pass
    bad = [[], {"prompt": {}}, {"prompt": "x", "temperature": "x"}, {"prompt": [-1]}, {"prompt": "x", "n": 1e9}, {"prompt": "sea " * 90_000}]
    connection, response = post(address, rng.choice(bad))
    error = json.loads(response.read())["error"]
    counts["garbage refused" if response.status == 400 and error["message"] else "BROKEN: bad request"] += 1
    connection.close()


def oversize(address, rng, counts):
    try:
        connection, response = post(address, {"prompt": "x" * (6 << 20)})
        counts["oversize refused" if response.status == 413 else "BROKEN: oversize"] += 1
        connection.close()
    except OSError:
        # the server need not read what it does not take
        counts["oversize refused"] += 1


def abuse(process, address, streams, seconds):
    known = []
    for question in questions():
        connection, response = post(address, question)
        known.append((question, said(response.read(), False)))
        connection.close()
    counts, until = collections.Counter(), time.monotonic() + seconds
    kinds = [lambda *arguments: behave(*arguments, known)] * 5 + [vanish, stall, garbage, oversize]

    def client(seed):
        rng = random.Random(seed)
        while time.monotonic() < until:
            kind = kinds[seed % len(kinds)]
            try:
                kind(address, rng, counts)
            except Exception as error:  # whatever it is, it is counted and shown
                counts[f"ERROR {kind.__name__}: {error!r}"] += 1
                time.sleep(0.2)

    threads = [threading.Thread(target=client, args=(i,)) for i in range(streams)]
    [thread.start() for thread in threads]
    memory = []
    while any(thread.is_alive() for thread in threads):
        memory.append(resident(process))
        time.sleep(0.5)
    quarters = [max(memory[i * len(memory) // 4 : (i + 1) * len(memory) // 4]) / 2**20 for i in range(4)]
    print("replies", dict(counts))
    print("memory without the model, at most in each quarter of the time:", ", ".join(f"{most:.0f} MiB" for most in quarters))
    settled = time.monotonic() + 60
    while (figures := metrics(address))["retort_requests_running"] + figures["retort_requests_waiting"] > 0:
        assert time.monotonic() < settled, "requests are left over"
        time.sleep(0.2)
    print({name.removeprefix("retort_"): int(value) for name, value in figures.items() if name.endswith("_total")})
    assert figures["retort_pages_reserved"] == 0, "pages are left over"
    assert counts["answered"] > 0 and not any(name.startswith(("ERROR", "BROKEN")) for name in counts)
    assert max(quarters[2:]) < quarters[1] * 1.05 + 8, "the memory grows"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--threads", default=None)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    more = ["--threads", arguments.threads] if arguments.threads else []
    process, address = start(arguments.program, arguments.model, *more)
    try:
        throughput(address, 1, 16)
        found = {streams: [] for streams in (1, 2, 4, 8, 16)}
        for _ in range(arguments.rounds):
            for streams in found:
                found[streams].append(throughput(address, streams, 128))
        one = statistics.median(found.pop(1))
        for streams, rates in found.items():
            together = statistics.median(rates)
            print(f"{streams} streams {together:.1f} tokens/s, one {one:.1f}: {together / one:.2f} times", flush=True)
        abuse(process, address, arguments.streams, arguments.seconds)
    finally:
        process.terminate()
    assert process.wait(30) == 0
    print("ended well")


if __name__ == "__main__":
    main()
