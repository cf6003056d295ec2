"""The memory lab's networks and scripts, compared with the NumPy backend."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from helpers import CLONE
from make import lab, play

from rnn_scratch import registry
from rnn_scratch.contract import Batch, ModelConfig
from rnn_scratch.play import page

NETWORKS = play.read(CLONE / lab.SCRIPT)
TRAINED = [name for name, network in NETWORKS.items() if "num_fillers" in network]
# Load the page's scripts into one scope, as a browser does, and print what `trace` returns.
RUN = """
const { readFileSync } = require("node:fs");
const { runInThisContext } = require("node:vm");
const [names, ...files] = process.argv.slice(1);
const scripts = files.map((file) => readFileSync(file, "utf8")).join("\\n");
const results = runInThisContext(`${scripts}
(names) => names.map((name) => {
  const network = load(NETWORKS[name]);
  const result = trace(draw_tokens(network.num_fillers, 1), network);
  const lists = (state) => state.map(({ values }) => [...values]);
  const gates = result.gates.map((all) => by_name(all, ({ values }) => [...values]));
  const [states, d_states] = [result.states, result.d_states].map((all) => all.map(lists));
  return { ...result, gates, states, d_states, logits: [...result.logits] };
})`)(JSON.parse(names));
console.log(JSON.stringify(results));
"""


def configure(name):
    return lab.configure(name.split()[0])._replace(dtype="float64")


def read(tokens, params, options):
    """Return NumPy's states for one sequence."""
    state = lab.scratch.init_state(1, options)
    return lab.read(np.array([tokens]), state, params, options)


@pytest.fixture(scope="module")
def traces():
    """Return what the script computes for each network."""
    if not shutil.which("node"):
        pytest.skip("Node is not installed")
    scripts = [page.FOLDER / name for name in page.SCRIPTS[:-1]]
    scripts += [(CLONE / lab.SCRIPT).with_name(name) for name in ("networks.js", "trace.js")]
    command = ["node", "-e", RUN, json.dumps(TRAINED), *map(str, scripts)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return dict(zip(TRAINED, json.loads(result.stdout)))


@pytest.mark.parametrize("name", TRAINED)
def test_script_computes_the_gates_and_gradients_of_numpy(traces, name):
    options, params, shown = configure(name), lab.arrays(NETWORKS[name]), traces[name]
    tokens = shown["tokens"]
    states = read(tokens, params, options)
    batch = Batch(np.array([tokens]), np.array([tokens[:1]]))
    d_states, _ = lab.backpropagate(batch, states, params, options)
    assert len(shown["d_states"]) == len(tokens) + 1
    for ours, theirs in (("states", states), ("d_states", d_states)):
        theirs = np.array(theirs)[:, :, 0]  # (T + 1, tensors, H)
        # Gradients differ in size by many orders of magnitude, so compare each step by itself.
        scales = np.abs(theirs).max((1, 2), keepdims=True) + 1e-300
        np.testing.assert_allclose(np.array(shown[ours]) / scales, theirs / scales, atol=1e-9)
    np.testing.assert_allclose(shown["logits"], lab.answer(states, params)[0], atol=1e-9)
    numpy = registry.load("numpy")
    for t, x in enumerate(numpy.scratch.encode(np.array([tokens]).T, params)):
        for gate, values in shown["gates"][t].items():
            if gate == "slope":
                expected = 1 - states[t + 1][0] ** 2
            else:
                expected = numpy.cells.gate(x, states[t][0], gate, params)
            np.testing.assert_allclose(values, expected[0], atol=1e-12)
    if "attention" in name:
        hiddens = np.stack([h for h, *_ in states[1:]])
        np.testing.assert_allclose(shown["weights"], lab.attend(hiddens, params)[1][:, 0])


@pytest.mark.parametrize("name", [f"{cell} 5{end}" for cell in ("rnn 0", "gru 0", "lstm 1")
                                  for end in ("", " attention")])  # fmt: skip
def test_gradients_are_derivatives_of_the_loss(name):
    options, params = configure(name), lab.arrays(NETWORKS[name])
    (batch,) = lab.questions(5, 1, seed=7, batch_size=3)
    states = lab.read(batch.X, lab.scratch.init_state(3, options), params, options)
    d_states, grads = lab.backpropagate(batch, states, params, options)
    rng = np.random.RandomState(0)

    def loss(step, change, params=params):
        """Return the loss after the step's state, all tensors of which are changed."""
        state = tuple(s + d for s, d in zip(states[step], change))
        rest = lab.read(batch.X[:, step:], state, params, options)
        return lab.scratch.loss(lab.answer([*states[:step], *rest], params), batch.Y)

    for step in range(len(states)):
        direction = [rng.normal(0, 1, s.shape) for s in states[step]]
        ends = [loss(step, [sign * 1e-5 * d for d in direction]) for sign in (1, -1)]
        expected = sum((d * grad).sum() for d, grad in zip(direction, d_states[step]))
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(expected, rel=1e-5, abs=1e-10)
    zeros = [np.zeros_like(s) for s in states[0]]
    for param, grad in grads.items():
        direction = rng.normal(0, 1, grad.shape)
        ends = [
            loss(0, zeros, params | {param: params[param] + sign * 1e-5 * direction})
            for sign in (1, -1)
        ]
        expected = (direction * grad).sum()
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(expected, rel=1e-5, abs=1e-10)


@pytest.mark.parametrize("name", [name for name in TRAINED if " 100" not in name])
def test_recorded_accuracies_are_those_of_the_stored_weights(name):
    network = NETWORKS[name]
    right = lab.accuracy(lab.arrays(network), configure(name), network["num_fillers"])
    # NumPy's products differ in the last bits between processors.
    assert network["accuracy"][0] == pytest.approx(right, abs=0.003)


def test_training_reaches_the_recorded_accuracy():
    name = "lstm 3 5"
    params, num_updates = lab.train(lab.configure("lstm"), 3, 5, attention=False, seed=0)
    assert num_updates == NETWORKS[name]["updates"][0]
    assert lab.accuracy(params, lab.configure("lstm"), 5) >= lab.ENOUGH


def test_initial_network_has_the_weights_before_training():
    for cell in ("rnn", "gru", "lstm"):
        options = ModelConfig(
            **{k: v for k, v in NETWORKS[cell]["options"].items() if k != "num_states"}
        )
        drawn, stored = lab.start(options, seed=0), lab.arrays(NETWORKS[cell])
        assert {*drawn} == {*stored}
        for param, values in drawn.items():
            np.testing.assert_allclose(
                stored[param], values, atol=0.51 * np.abs(values).max() / 127
            )


def test_networks_are_small():
    assert (CLONE / lab.SCRIPT).stat().st_size < 400_000
