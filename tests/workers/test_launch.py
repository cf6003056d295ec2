"""Workers launched with the `--workers` option, with `mpiexec` or with `srun`."""

import os
import re
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest
from helpers import CLONE, finish, python_path, require_engine, start

from rnn_scratch.cli.train import train
from rnn_scratch.workers import groups, launch, mpi

PATH = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
MPIEXEC = (shutil.which("mpiexec", path=PATH) or "mpiexec", "-n")
# Program that prints with a single call, so that several processes' output is not interleaved.
DETECT = """
import os
from rnn_scratch.workers import launch, mpi
os.write(1, ("%d %d\\n" % launch.detect(None)).encode())
mpi.finalize()
"""
TORCH_AND_BATCH = {"RANK": "3", "WORLD_SIZE": "4", "SLURM_NTASKS": "3", "SLURM_PROCID": "0"}


@pytest.fixture
def environment(monkeypatch):
    """Remove launcher variables from the environment; return a function that sets variables."""
    for name in list(os.environ):
        if name.startswith((*mpi.VARIABLES, "SLURM_")):
            monkeypatch.delenv(name)

    def set_all(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


@pytest.mark.parametrize(
    "variables",
    [{}, {"PMI_SIZE": "1", "PMI_RANK": "0"}, {"SLURM_STEP_NUM_TASKS": "1"}, TORCH_AND_BATCH],
)
def test_process_without_launcher_starts_all_workers(environment, variables):
    environment(**variables)
    assert launch.detect(None) == (1, None)
    assert launch.detect(3) == (3, None)


def test_children_do_not_inherit_the_launcher(environment):
    environment(PMI_SIZE="1", PMI_RANK="0", PMI_FD="7", PMIX_RANK="0", OMPI_COMM_WORLD_SIZE="1")
    assert len(groups.addresses(2)) == 2
    assert not [name for name in os.environ if name.startswith(mpi.VARIABLES)]


def test_mpiexec_determines_size_and_rank():
    require_engine("numpy")
    result = finish(start(prefix=(*MPIEXEC, "3"), program=("-c", DETECT)))
    assert (result.code, sorted(result.out.split("\n"))) == (0, ["", "3 0", "3 1", "3 2"])


COMMAND = ("train", "--backend", "numpy", "--corpus", "tide-clock", "--epochs", "1")


@pytest.mark.parametrize(
    ("prefix", "variables", "options", "messages"),
    [
        ((), {"SLURM_STEP_NUM_TASKS": "2"}, (), ("srun --mpi=pmi2", "srun --mpi=pmix")),
        ((), {"OMPI_COMM_WORLD_SIZE": "4"}, (), ("started 4 workers, of which MPI connects 1",)),
        ((*MPIEXEC, "2"), {}, ("--workers", "4"), ("of which MPI connects 2, but `workers` is 4",)),
    ],
    ids=["srun without PMI", "mpiexec of another MPI", "another number of workers"],
)
def test_contradicting_launcher_is_refused(prefix, variables, options, messages):
    require_engine("numpy")
    result = finish(start(*COMMAND, *options, prefix=prefix, env=variables))
    assert result.code == 2
    assert all(message in result.err for message in messages)
    assert "Traceback" not in result.err
    assert not Path("runs").exists()


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["mpiexec", "one machine"])
def test_missing_mpi4py_is_named(tmp_path, options):
    if options:
        require_engine("numpy")  # otherwise, the error names `mpiexec`
    (tmp_path / "mpi4py.py").write_text("raise ImportError('No module named mpi4py')\n")
    variables = python_path(tmp_path) if options else {**python_path(tmp_path), "PMI_SIZE": "2"}
    result = finish(start(*COMMAND, *options, env=variables))
    assert result.code == 2
    assert "need mpi4py and MPICH: No module named mpi4py." in result.err
    assert "pip install" in result.err
    assert "Traceback" not in result.err


PAGE = (CLONE / "notebooks/site/workers.md").read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="SLURM does not run on Windows")
def test_slurm_script_has_valid_options(monkeypatch):
    """Check the threads per worker, and that workers on 2 or 8 nodes can share each minibatch."""
    (script,) = re.findall(r"```bash\n(#!/bin/bash.*?)```", PAGE, re.DOTALL)
    requested = dict(re.findall(r"#SBATCH --([\w-]+)=(\S+)", script))
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", requested["cpus-per-task"])
    (command,) = re.findall(
        r"rnn-scratch train (.*?--run \S+)", script.replace("\\\n", ""), re.DOTALL
    )
    options = train.make_context("train", shlex.split(os.path.expandvars(command))).params
    assert options["threads"] == int(requested["cpus-per-task"])
    for nodes in (2, 8):
        launch.require_shares(options["batch_size"], nodes * int(requested["ntasks-per-node"]))
