"""How workers are launched: by options, or by variables of the environment."""

import os
import re
import shlex

import pytest
from helpers import CLONE, error_of

from rnn_scratch.cli.train import train
from rnn_scratch.workers import groups, launch
from rnn_scratch.workers.launch import Launch

LAUNCHERS = ("PMI", "OMPI_", "SLURM_")


@pytest.fixture
def environment(monkeypatch):
    """Set variables of the environment, without those of a launcher that runs these tests."""
    for name in list(os.environ):
        if name.startswith(LAUNCHERS) or name in launch.TORCHRUN:
            monkeypatch.delenv(name)

    def set_all(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


TORCHRUN = {"WORLD_SIZE": "4", "RANK": "2", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29400"}
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_RANK": "2"}
BATCH = {"SLURM_NTASKS": "3", "SLURM_PROCID": "0", "SLURM_JOB_ID": "12042"}
SRUN = {**BATCH, "SLURM_PROCID": "1", "SLURM_STEP_NODELIST": "node[07-09,12],other"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        (TORCHRUN, Launch(4, 2, "10.0.0.1:29401")),
        ({"PMI_SIZE": "2", "PMI_RANK": "0"}, Launch(2, 0)),
        (OPEN_MPI, Launch(3, 2)),
        ({"PMIX_SIZE": "2", "PMIX_RANK": "1"}, Launch(2, 1)),
        (SRUN, Launch(3, 1, "node07:29542")),
        ({**SRUN, "PMIX_RANK": "1"}, Launch(3, 1, "node07:29542")),
        ({**SRUN, "SLURM_STEP_NODELIST": "n1,n2"}, Launch(3, 1, "n1:29542")),
        ({**SRUN, "SLURM_STEP_NODELIST": "gpu-3"}, Launch(3, 1, "gpu-3:29542")),
        (BATCH, None),  # a batch script, which no srun starts
        ({**SRUN, "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, None),
        # MPI's mpiexec starts one process on each node by srun, and the workers itself.
        ({**SRUN, "PMI_SIZE": "8", "PMI_RANK": "7"}, Launch(8, 7, "node07:29542")),
        ({"RANK": "3"}, None),
    ],
)
def test_a_launcher_says_it_in_the_environment(environment, variables, expected):
    environment(**variables)
    assert launch.chosen(None, None, None) == expected


def test_options_override_the_environment(environment):
    environment(**TORCHRUN)
    assert launch.chosen(2, None, None) == Launch(2)
    assert launch.chosen(2, 1, "h:5", 90.0) == Launch(2, 1, "h:5", 90.0)
    assert launch.chosen(None, None, "h:5", 90.0) == Launch(4, 2, "h:5", 90.0)


@pytest.mark.parametrize("begin", [lambda: launch.chosen(4, 3, "h:5"), lambda: groups.addresses(2)])
def test_the_engine_does_not_take_another_launcher_for_its_own(environment, begin):
    environment(PMI_SIZE="2", PMI_RANK="1", PMI_FD="7", PMIX_RANK="1", OMPI_COMM_WORLD_NODE="a")
    begin()
    assert not [name for name in os.environ if name.startswith(("PMI", "OMPI_"))]


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({**TORCHRUN, "RANK": "4"}, "WORLD_SIZE is 4, RANK is 4,"),
        ({**TORCHRUN, "RANK": "9" * 5000}, f"RANK is {'9' * 20},"),
        ({**TORCHRUN, "WORLD_SIZE": "many"}, "WORLD_SIZE is many, RANK is 2,"),
        ({**TORCHRUN, "WORLD_SIZE": "300"}, "which is at most 256."),
        ({**TORCHRUN, "MASTER_PORT": ""}, "MASTER_PORT is ."),
        ({"PMI_SIZE": "2", "PMI_RANK": "-1"}, "PMI_SIZE is 2, PMI_RANK is -1."),
        ({**SRUN, "SLURM_PROCID": "3"}, "SLURM_NTASKS is 3, SLURM_PROCID is 3,"),
        ({"PMIX_RANK": "1"}, "PMIX_SIZE is , PMIX_RANK is 1."),  # as prterun sets it
    ],
)
def test_an_environment_that_says_no_worker(environment, variables, words):
    environment(**variables)
    assert words in error_of(launch.chosen, None, None, None)


# The job scripts of the page about several workers, as their launchers would run them.

PAGE = (CLONE / "notebooks/site/workers.md").read_text(encoding="utf-8")
(BATCH_SCRIPT,) = re.findall(r"```bash\n(#!/bin/bash.*?)```", PAGE, re.DOTALL)
(MANIFEST,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def launched(script):
    """How the script's command launches its worker, whose rows must be as many as the others'."""
    (command,) = re.findall(
        r"rnn-scratch train (.*?--run \S+)", script.replace("\\\n", ""), re.DOTALL
    )
    options = train.make_context("train", shlex.split(os.path.expandvars(command))).params
    found = launch.chosen(*(options[name] for name in ("workers", "rank", "coordinator", "wait")))
    launch.require_shares(options["batch_size"], found.workers)
    assert options["threads"] == 8
    return found


@pytest.mark.parametrize("nodes", [2, 8])
def test_the_job_script_for_slurm(environment, nodes):
    asked = dict(re.findall(r"#SBATCH --([\w-]+)=(\S+)", BATCH_SCRIPT))
    workers = nodes * int(asked["ntasks-per-node"])
    step = {"SLURM_NTASKS": str(workers), "SLURM_STEP_NODELIST": f"node[1-{nodes}]"}
    step |= {"SLURM_CPUS_PER_TASK": asked["cpus-per-task"]}
    for rank in range(workers):
        environment(SLURM_PROCID=str(rank), **step)
        assert launched(BATCH_SCRIPT) == Launch(workers, rank, "node1:29500", 300.0)


@pytest.mark.parametrize("nodes", [2, 8])
def test_the_job_for_kubernetes(environment, nodes):
    numbers = r"(completions: |parallelism: |--workers )2\b"
    manifest, replaced = re.subn(numbers, rf"\g<1>{nodes}", MANIFEST)
    assert replaced == 3
    service, job = re.findall(r"{name: (\w+)}\nspec", manifest)
    assert re.findall(r"subdomain: (\w+)", manifest) == [service]
    assert re.findall(r"job-name: (\w+)", manifest) == [job, job]
    assert f"until getent hosts {job}-0.{service};" in manifest
    for rank in range(nodes):
        environment(JOB_COMPLETION_INDEX=str(rank))
        assert launched(manifest) == Launch(nodes, rank, f"{job}-0.{service}:29500", 300.0)
