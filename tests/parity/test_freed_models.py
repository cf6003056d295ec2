"""Freeing a model releases its memory and graphs, so a process can train any number of models."""

import pytest
from helpers import run_subprocess

# Program that trains 15 small models; the first three are a warm-up that fills caches.
PROGRAM = """
import gc, resource, sys
from pathlib import Path
import numpy as np
from rnn_scratch import parameters, registry
from rnn_scratch.contract import Batch, Options, Update

def resident():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20

backend, _ = registry.start(sys.argv[1], 1)
tokens = np.arange(4 * 36).reshape(4, 36) % 28
batches = [Batch(tokens[:, :-1].copy(), tokens[:, 1:].copy())]
for seed in range(15):
    if seed == 3:
        start = resident()
    options = Options(28, 32)
    model = backend.scratch.build(parameters.initial(options, 0.1, seed), options)
    backend.scratch.train_epoch(model, batches, [Update()], True)
    del model
print("MiB", resident() - start)
"""


@pytest.mark.frameworks(by_default=("numpy", "jax"))
def test_freed_models_leave_little_memory(builtin_name):
    result = run_subprocess(builtin_name, program=("-c", PROGRAM)).assert_exit()
    (growth,) = (float(line.split()[1]) for line in result.out.splitlines() if line[:3] == "MiB")
    assert growth < 12  # MiB; even after a hundred models, the growth is below 100 MiB
