#!/usr/bin/env python3
"""TensorBoard reads a run's event files: every scalar equals metrics.jsonl.

    pip install tensorboard
    python3 experiments/checks/tensorboard_events.py RUN

RUN is a run directory, resumed ones included: TensorBoard must show each step once. Event files
hold 32-bit floats. Exits 1 if a step is missing, doubled or different.
"""
import json
import math
import pathlib
import sys

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

run = pathlib.Path(sys.argv[1])
expected = {}
for line in (run / "metrics.jsonl").read_text().splitlines():
    record = json.loads(line)
    for key, tag in [
        ("loss", "train/loss"),
        ("lr", "train/lr"),
        ("grad_norm", "train/grad_norm"),
        ("tokens_per_second", "train/tokens_per_second"),
        ("skipped", "train/skipped"),
        ("validation_loss", "validation/loss"),
        ("validation_bits_per_byte", "validation/bits_per_byte"),
        ("ema_validation_loss", "validation/ema_loss"),
    ]:
        if key in record:
            value = record[key]
            expected.setdefault(tag, []).append((record["step"], math.nan if value is None else value))

accumulator = EventAccumulator(str(run), size_guidance={"scalars": 0})
accumulator.Reload()
tags = set(accumulator.Tags()["scalars"])
wrong = 0
for tag, values in expected.items():
    found = [(event.step, event.value) for event in accumulator.Scalars(tag)] if tag in tags else []
    equal = [step for step, _ in found] == [step for step, _ in values] and all(
        np.float32(a) == np.float32(b) or (math.isnan(a) and math.isnan(b)) for (_, a), (_, b) in zip(found, values)
    )
    wrong += not equal
    print(f"{tag}: {len(found)} of {len(values)} values, {'equal' if equal else 'DIFFERENT'}")
sys.exit(wrong > 0)
