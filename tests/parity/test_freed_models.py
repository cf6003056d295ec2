"""Freeing a model releases its memory and graphs, so a process can train any number of models."""

import re

import pytest
from helpers import linux, run_subprocess

# Program that trains 24 small models, the first 12 only to fill caches. It prints how much
# memory the remaining models leak (mostly graphs) and how many models are still alive.
PROGRAM = """
import gc, resource, sys, weakref
from pathlib import Path
import numpy as np
from rnn_scratch import parameters, registry
from rnn_scratch.contract import Batch, ModelConfig, UpdateRule

def resident():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20

name, variant, growth = sys.argv[1:]
backend, _ = registry.start(name, 1)
tokens = np.arange(4 * 36).reshape(4, 36) % 28
references = []
batches = [Batch(tokens[:, :-1].copy(), tokens[:, 1:].copy())]
for seed in range(24):
    if seed == 12:
        start = resident()
    options = ModelConfig(28, 32 + seed * int(growth))
    model = getattr(backend, variant).build(parameters.draw_parameters(options, 0.1, seed), options)
    backend.scratch.train_epoch(model, batches, [UpdateRule()], True)
    references.append(weakref.ref(model))
    del model
print("MiB", resident() - start, sum(reference() is not None for reference in references))
"""


@linux
@pytest.mark.frameworks(by_default=("numpy", "mxnet", "jax"))
@pytest.mark.parametrize(("variant", "growth"), [("scratch", 0), ("fast", 1)])
def test_freed_models_leave_little_memory(builtin_name, variant, growth):
    if growth and builtin_name in ("tensorflow", "jax"):
        pytest.skip("the framework caches compiled operations for each size")
    result = run_subprocess(builtin_name, variant, growth, program=("-c", PROGRAM)).assert_exit()
    ((memory, number),) = re.findall(r"^MiB (\S+) (\d+)$", result.out, re.MULTILINE)
    assert number == "0"
    assert float(memory) < 12  # MiB for 12 models
