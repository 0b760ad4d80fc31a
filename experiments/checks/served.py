"""A `retort-edge serve` for checks: started on a free port, ended with the with statement."""

import subprocess
import sys


class Served:
    """A server that runs inside a with statement; `address` is where it listens."""

    def __init__(self, program, model, *more):
        self.command = [program, "serve", model, "--port", "0", *more]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.address = self.process.stdout.readline().strip()
        assert self.address.startswith("http://"), self.address
        return self

    def __exit__(self, *_):
        self.process.terminate()
        assert self.process.wait(30) == 0


def check(what, fine):
    """Prints what was looked at, and ends the check if it is not as it should be."""
    print(("ok   " if fine else "FAIL ") + what, flush=True)
    if not fine:
        sys.exit(1)
