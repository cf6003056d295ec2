"""How workers are launched: by options, or by variables of the environment."""

import json
import os

import pytest
from helpers import error_of

from rnn_scratch.workers import launch as launching
from rnn_scratch.workers.launch import Launch


@pytest.fixture
def environment(monkeypatch):
    """Set variables of the environment, without those of a launcher that runs these tests."""
    for name in (*launching.TORCHRUN, *sum(launching.MPI, ()), "TF_CONFIG"):
        monkeypatch.delenv(name, raising=False)

    def set_all(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


TORCHRUN = {"WORLD_SIZE": "4", "RANK": "2", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29400"}
CLUSTER = {"cluster": {"worker": ["10.0.0.1:1", "10.0.0.2:2"]}}
TF_CONFIG = {**CLUSTER, "task": {"type": "worker", "index": 1}}


@pytest.mark.parametrize(
    ("variables", "launch"),
    [
        ({}, None),
        (TORCHRUN, Launch(4, 2, "10.0.0.1:29401")),
        ({**TORCHRUN, "WORLD_SIZE": "1", "RANK": "0"}, None),
        ({"PMI_SIZE": "2", "PMI_RANK": "0"}, Launch(2, 0)),
        ({"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_RANK": "2"}, Launch(3, 2)),
        ({"TF_CONFIG": json.dumps(TF_CONFIG)}, Launch(2, 1, "10.0.0.1:1")),
        ({"RANK": "3"}, None),
    ],
)
def test_a_launcher_says_it_in_the_environment(environment, variables, launch):
    environment(**variables)
    assert launching.chosen(None, None, None) == launch


def test_options_override_the_environment(environment):
    environment(**TORCHRUN)
    assert launching.chosen(2, None, None) == Launch(2)
    assert launching.chosen(2, 1, "h:5") == Launch(2, 1, "h:5")
    assert launching.chosen(None, None, "h:5") == Launch(4, 2, "h:5")


def test_the_variables_do_not_reach_the_workers(environment, monkeypatch):
    environment(PMI_SIZE="2", PMI_RANK="1", PMI_FD="7", PMIX_RANK="1", OMPI_COMM_WORLD_NODE="a")
    launching.chosen(None, None, None)
    assert not [name for name in os.environ if name.startswith(("PMI", "OMPI_"))]


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({**TORCHRUN, "RANK": "4"}, "In the environment of torchrun, worker 4 of 4"),
        ({**TORCHRUN, "RANK": "-1"}, "worker -1 of 4 does not exist"),
        ({**TORCHRUN, "RANK": "9" * 5000}, f"worker {'9' * 20} of 4 does not exist"),
        ({**TORCHRUN, "WORLD_SIZE": "many"}, "worker 2 of many does not exist"),
        ({"PMI_SIZE": "2", "PMI_RANK": "2"}, "(PMI_SIZE, PMI_RANK), worker 2 of 2"),
        *(
            ({"TF_CONFIG": json.dumps(config)}, "TF_CONFIG in the environment is ")
            for config in (
                {},
                {**TF_CONFIG, "cluster": {"worker": []}},
                {**TF_CONFIG, "cluster": {"worker": "10.0.0.1:1"}},
                {**TF_CONFIG, "task": {"type": "ps", "index": 0}},
                {**TF_CONFIG, "cluster": {"chief": ["10.0.0.9:1"], **CLUSTER["cluster"]}},
            )
        ),
        *(
            ({"TF_CONFIG": text}, "TF_CONFIG in the environment is ")
            for text in ("not JSON", "[" * 100_000)
        ),
        ({**TORCHRUN, "WORLD_SIZE": "300"}, "worker 2 of 300 does not exist; there can be 256"),
        ({**TORCHRUN, "MASTER_PORT": ""}, "MASTER_PORT in the environment of torchrun is ''"),
        ({**TORCHRUN, "MASTER_PORT": "65535"}, "it must be a number from 1 to 65534"),
        ({**TORCHRUN, "MASTER_ADDR": ""}, "The address of worker 0 in the environment of torchrun"),
        (
            {"TF_CONFIG": json.dumps({**TF_CONFIG, "task": {"type": "worker", "index": 2}})},
            "In TF_CONFIG, worker 2 of 2 does not exist",
        ),
    ],
)
def test_a_damaged_environment(environment, variables, words):
    environment(**variables)
    assert words in error_of(launching.chosen, None, None, None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((2, 2, None), "--rank is 2, and --workers is 2"),
        ((None, 0, None), "--rank is 0, and --workers is missing"),
        ((2, None, "h:5"), "add --rank K"),
        ((2, 0, "h"), "it must be HOST:PORT"),
        ((2, 0, f"h:{'9' * 5000}"), "it must be HOST:PORT"),
    ],
)
def test_options_that_do_not_fit_together(environment, options, words):
    assert words in error_of(launching.chosen, *options)
