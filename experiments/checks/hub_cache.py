#!/usr/bin/env python3
"""One cache for retort and Python's huggingface_hub: what either downloaded, the other reads
without a network, and each waits for the other's lock.

    cargo test --release -p retort-data --test it --no-run    # prints the path of the binary
    python3 experiments/checks/hub_cache.py target/release/deps/it-…

Needs huggingface_hub (and filelock, which it brings). Serves a dataset on the loopback interface;
exits 1 where the two disagree.
"""
import hashlib
import http.server
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import threading
import time

BINARY = sys.argv[1]
COMMIT = "c" * 40
CONVERSION = "refs/convert/parquet"
FILES = {f"en/train/{i:04}.parquet": random.Random(i).randbytes(200_000) for i in range(3)}
FIRST = next(iter(FILES))


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Hub(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = self.path.split("?")[0]
        name = "/".join(path.split("/")[6:])
        if path.startswith("/api/datasets/owner/name"):
            siblings = [
                {"rfilename": n, "size": len(d), "blobId": "1" * 40, "lfs": {"sha256": sha256(d), "size": len(d)}}
                for n, d in FILES.items()
            ]
            self.reply(200, {}, json.dumps({"id": "owner/name", "sha": COMMIT, "siblings": siblings}).encode())
        elif path.startswith("/datasets/owner/name/resolve/") and name in FILES:
            data = FILES[name]
            etag = f'"{sha256(data)}"'
            self.reply(200, {"X-Repo-Commit": COMMIT, "ETag": etag, "X-Linked-Etag": etag, "X-Linked-Size": len(data)}, data)
        else:
            self.reply(404, {"X-Error-Code": "EntryNotFound"}, b"")

    do_HEAD = do_GET

    def reply(self, status, headers, body):
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header, str(value))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
ENDPOINT = f"http://127.0.0.1:{server.server_port}"


def environment(home, offline):
    return {**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": ENDPOINT, "HF_HUB_OFFLINE": "1" if offline else "0"}


def retort(home, offline=False):
    """Opens the first shard of hf://owner/name/en."""
    command = [BINARY, "--exact", "hub::process::child", "--ignored"]
    return subprocess.Popen(command, env=environment(home, offline), stdout=subprocess.DEVNULL)


PYTHON = f"""
import hashlib, huggingface_hub as h
path = h.hf_hub_download("owner/name", "{FIRST}", repo_type="dataset", revision="{CONVERSION}")
cache = h.scan_cache_dir()
assert not cache.warnings, cache.warnings
[revision] = next(iter(cache.repos)).revisions
assert revision.commit_hash == "{COMMIT}" and revision.refs == {{"{CONVERSION}"}}, revision
assert hashlib.sha256(open(path, "rb").read()).hexdigest() == "{sha256(FILES[FIRST])}"
"""


def python(home, offline=False):
    return subprocess.Popen([sys.executable, "-c", PYTHON], env=environment(home, offline))


def succeeds(process, what):
    if process.wait(60) != 0:
        sys.exit(f"failed: {what}")
    print(f"ok: {what}")


with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
    succeeds(retort(one), "retort downloads")
    succeeds(python(one, offline=True), "Python reads that offline")
    succeeds(python(other), "Python downloads")
    succeeds(retort(other, offline=True), "retort reads that offline")

    import filelock

    digest = sha256(FILES[FIRST])
    hub = pathlib.Path(one) / "hub"
    (hub / "datasets--owner--name" / "blobs" / digest).unlink()
    with filelock.FileLock(hub / ".locks" / "datasets--owner--name" / f"{digest}.lock"):
        waiting = retort(one)
        time.sleep(2)
        if waiting.poll() is not None:
            sys.exit("failed: retort did not wait for Python's lock")
    succeeds(waiting, "retort waits for Python's lock")
