"""Train the networks of the memory lab: `python -m make.lab`, or `nox -s play`.

Run it from the repository root; it takes about 15 minutes. NumPy trains, because it computes such
small networks fastest. The networks read a symbol, fillers and a query, as in the lesson *Gates*,
and learn to answer the query with the symbol. The script that this module writes has the weights.
"""

import base64
import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from rnn_scratch import registry
from rnn_scratch.contract import Arrays, Batch, Gradients, Model, ModelConfig, State
from rnn_scratch.parameters import draw_parameters
from rnn_scratch.play import page
from rnn_scratch.settings import Settings
from rnn_scratch.support.experiments import recall_minibatches
from rnn_scratch.training import schedule

from .lessons import NOTEBOOKS
from .play import Networks
from .play import read as read_networks
from .prose import Cells

SCRIPT = NOTEBOOKS / "site" / "lab" / "networks.js"
CELLS = (("rnn", 0), ("gru", 0), *(("lstm", bias) for bias in (0, 1, 3, 5)))  # forget biases
DISTANCES = (5, 10, 30, 100)  # numbers of fillers
VOCAB_SIZE, NUM_HIDDENS = 13, 24
SEEDS = range(3)  # the page has the networks of the first seed, and the results of all
MAX_UPDATES, INTERVAL = 2000, 100  # number of updates in total, and between tests
ENOUGH = 0.995  # fraction of correct answers at which training ends
SETTINGS = Settings(optimizer="adam", lr=0.005)
scratch = registry.load("numpy").scratch


def questions(num_fillers: int, count: int, seed: int, batch_size: int) -> Iterator[Batch]:
    """Yield minibatches with a single query, whose answer is the only target."""
    for X, Y, *_ in recall_minibatches(num_fillers, count, seed, batch_size):
        yield Batch(X[:, :-9], Y[:, -1:])


def attend(hiddens: np.ndarray, params: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Return the context (B, H) of the last output, and the weights (T - 1, B)."""
    h, earlier = hiddens[-1], hiddens[:-1]  # (B, H), (T - 1, B, H)
    scores = np.sum(earlier * (h @ params["W_a"]), -1) / h.shape[1] ** 0.5
    powers = np.exp(scores - scores.max(0))
    weights = powers / powers.sum(0)
    return np.sum(weights[..., None] * earlier, 0), weights


def attend_backward(
    d_context: np.ndarray, hiddens: np.ndarray, params: Arrays
) -> tuple[np.ndarray, np.ndarray]:
    """Backpropagate through `attend`; return gradients w.r.t. `hiddens` and W_a."""
    h, earlier, (_, weights) = hiddens[-1], hiddens[:-1], attend(hiddens, params)
    d_weights = np.sum(earlier * d_context, -1)
    d_scores = weights * (d_weights - np.sum(weights * d_weights, 0)) / h.shape[1] ** 0.5
    d_query = np.sum(d_scores[..., None] * earlier, 0)  # the gradient w.r.t. h @ W_a
    d_earlier = weights[..., None] * d_context + d_scores[..., None] * (h @ params["W_a"])
    return np.stack([*d_earlier, d_query @ params["W_a"].T]), h.T @ d_query


def read(tokens: np.ndarray, state: State, params: Arrays, options: ModelConfig) -> list[State]:
    """Return the state before the first token, and the state after each token."""
    states = [state]
    for x in scratch.encode(tokens.T, params):
        states.append(scratch.CELLS[options.cell](x, states[-1], params))
    return states


def answer(states: list[State], params: Arrays) -> np.ndarray:
    """Return the logits (B, V) of the last step, with attention if `params` has a W_a."""
    hiddens = np.stack([h for h, *_ in states[1:]])
    logits = hiddens[-1] @ params["W_hq"] + params["b_q"]
    return logits + attend(hiddens, params)[0] @ params["W_uq"] if "W_a" in params else logits


def forward(
    tokens: np.ndarray, state: State, params: Arrays, options: ModelConfig
) -> tuple[np.ndarray, State]:
    """Return the logits (B, V) of the answer, and the last state."""
    states = read(tokens, state, params, options)
    return answer(states, params), states[-1]


def backpropagate(
    batch: Batch, states: list[State], params: Arrays, options: ModelConfig
) -> tuple[list[State], Arrays]:
    """Return the gradients of the answer's loss w.r.t. each of the states, and w.r.t. `params`."""
    hiddens = np.stack([h for h, *_ in states[1:]])
    d_logits = scratch.loss_backward(answer(states, params), batch.Y)
    grads = {name: np.zeros_like(param) for name, param in params.items()}
    grads |= {"W_hq": hiddens[-1].T @ d_logits, "b_q": d_logits.sum(0)}
    d_hiddens = np.zeros_like(hiddens)
    if "W_a" in params:
        d_hiddens, grads["W_a"] = attend_backward(d_logits @ params["W_uq"].T, hiddens, params)
        grads["W_uq"] = attend(hiddens, params)[0].T @ d_logits
    d_hiddens[-1] += d_logits @ params["W_hq"].T
    d_state, d_states = tuple(np.zeros_like(s) for s in states[0]), []
    for t, x in reversed([*enumerate(scratch.encode(batch.X.T, params))]):
        d_state = (d_state[0] + d_hiddens[t], *d_state[1:])
        d_states.append(d_state)
        tensors = d_state, states[t + 1], x, states[t], params
        _, d_state, step_grads = scratch.CELL_BACKWARD[options.cell](*tensors)
        for name, grad in step_grads.items():
            grads[name] += grad
    return [d_state, *reversed(d_states)], grads


def gradients(params: Arrays, batch: Batch, state: State, options: ModelConfig) -> Gradients:
    """Return the loss, the gradients w.r.t. the parameters, and the last state."""
    states = read(batch.X, state, params, options)
    _, grads = backpropagate(batch, states, params, options)
    return scratch.loss(answer(states, params), batch.Y), grads, states[-1]


def accuracy(params: Arrays, options: ModelConfig, num_fillers: int) -> float:
    """Return the fraction of correct answers in 1,000 sequences that training does not use."""
    (test,) = questions(num_fillers, 1, seed=1000, batch_size=1000)
    logits, _ = forward(test.X, scratch.init_state(1000, options), params, options)
    return float((logits.argmax(1) == test.Y[:, 0]).mean())


def configure(cell: str) -> ModelConfig:
    """Return the configuration of the page's networks with this cell."""
    return ModelConfig(VOCAB_SIZE, NUM_HIDDENS, cell)


def start(options: ModelConfig, seed: int) -> Arrays:
    """Return the initial values, for a network with attention."""
    sigma, shapes = options.num_hiddens**-0.5, options.shapes()
    attention = {"W_a": shapes["W_hq"][:1] * 2, "W_uq": shapes["W_hq"]}
    rng = np.random.RandomState(seed)
    drawn = {name: rng.normal(0, sigma, shape) for name, shape in attention.items()}
    return draw_parameters(options, sigma, seed) | drawn


def train(
    options: ModelConfig, forget_bias: int, num_fillers: int, attention: bool, seed: int
) -> tuple[Arrays, int]:
    """Return trained parameters, and the number of updates."""
    names = [*options.shapes(), *(("W_a", "W_uq") if attention else ())]
    initial = start(options, seed)
    params = {name: initial[name].astype(options.dtype) for name in names}
    if options.cell == "lstm":
        params["b_f"] += forget_bias
    slots = {slot: {name: np.zeros_like(p) for name, p in params.items()} for slot in "mv"}
    model = Model(params, options, forward, gradients, dict, scratch.train_minibatch, slots)
    batches = questions(num_fillers, MAX_UPDATES, seed, batch_size=32)
    rules = schedule.each_update(SETTINGS, 0, MAX_UPDATES)
    num_updates, is_trained = 0, False
    while num_updates < MAX_UPDATES and not is_trained:
        scratch.train_epoch(model, itertools.islice(batches, INTERVAL), rules, carry=False)
        num_updates += INTERVAL
        is_trained = accuracy(model.params, options, num_fillers) >= ENOUGH
    return model.params, num_updates


def encode(array: np.ndarray) -> dict[str, Any]:
    """Return an array's shape, and its values as base64-encoded bytes, multiples of a scale."""
    scale = float(np.abs(array).max()) / 127 or 1.0
    return {**page.encode(np.round(array / scale).astype(np.int8)), "scale": scale}


def arrays(saved: dict[str, Any]) -> Arrays:
    """Return a saved network's parameters, decoded to float64 arrays."""
    return {
        name: param["scale"]
        * np.frombuffer(base64.b64decode(param["data"]), np.int8).reshape(param["shape"])
        for name, param in saved["params"].items()
    }


def describe(params: Arrays, options: ModelConfig, **values: Any) -> dict[str, Any]:
    """Return the data that the page needs for a network."""
    described = {**options._asdict(), "num_states": options.num_states}
    return {"options": described, "params": {n: encode(a) for n, a in params.items()}, **values}


def results() -> Cells:
    """Return a table of updates, or of the accuracies of networks that did not learn."""
    networks, rows = read_networks(SCRIPT), []
    for cell, bias in CELLS:
        label = f"LSTM, forget bias {bias}" if cell == "lstm" else cell.upper()
        rows.append([label])
        for num_fillers in DISTANCES:
            network = networks[f"{cell} {bias} {num_fillers}"]
            pairs = zip(network["updates"], network["accuracy"])
            cells = (f"{n:,}" if n < MAX_UPDATES else f"{right:.0%}" for n, right in pairs)
            rows[-1].append(", ".join(cells))
    return [["", *(f"{n} fillers" for n in DISTANCES)], *rows]


def most_updates() -> int:
    """Return the largest number of updates of a network with attention."""
    networks = read_networks(SCRIPT).values()
    return max(max(each["updates"]) for each in networks if each.get("attention"))


def main() -> None:
    """Train the networks and write the script."""
    networks: Networks = {}
    for cell, _ in CELLS:
        networks[cell] = describe(start(configure(cell), SEEDS[0]), configure(cell))
    for (cell, bias), num_fillers, attention in itertools.product(CELLS, DISTANCES, (False, True)):
        options = configure(cell)
        runs = [train(options, bias, num_fillers, attention, seed) for seed in SEEDS]
        values = {"forget_bias": bias, "num_fillers": num_fillers, "attention": attention}
        network = describe(runs[0][0], options, **values)
        # Measure the network that the page shows with its rounded weights.
        shown = [arrays(network), *(params for params, _ in runs[1:])]
        correct = map(partial(accuracy, options=options, num_fillers=num_fillers), shown)
        network |= {"updates": [n for _, n in runs], "accuracy": [round(a, 3) for a in correct]}
        name = f"{cell} {bias} {num_fillers}{' attention' if attention else ''}"
        networks[name] = network
        print(name, network["updates"], network["accuracy"], flush=True)
    SCRIPT.write_text(page.script(networks), encoding="utf-8")
    print(f"made {SCRIPT}")


if __name__ == "__main__":
    main()
