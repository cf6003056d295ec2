"""Names, shapes and starting values of the parameters, the same for every backend."""

from collections.abc import Sequence

import numpy as np

from .chance import generator
from .contract import CELLS, Arrays


def shapes(
    vocab_size: int, num_hiddens: int, embedding: int = 0, cell: str = "rnn"
) -> dict[str, tuple[int, ...]]:
    """Shapes by name, in the order in which the parameters are drawn.

    `embedding` is the size of a learnable embedding, W_e; with 0, inputs are one-hot vectors.
    """
    result: dict[str, tuple[int, ...]] = {"W_e": (vocab_size, embedding)} if embedding else {}
    for gate in CELLS[cell].gates:
        result[f"W_x{gate}"] = (embedding or vocab_size, num_hiddens)
        result[f"W_h{gate}"] = (num_hiddens, num_hiddens)
        result[f"b_{gate}"] = (num_hiddens,)
    return result | {"W_hq": (num_hiddens, vocab_size), "b_q": (vocab_size,)}


def initial(
    vocab_size: int,
    num_hiddens: int,
    sigma: float,
    seed: int,
    embedding: int = 0,
    cell: str = "rnn",
) -> Arrays:
    """Starting values in float64: weights normal with standard deviation sigma, biases zero."""
    chance = generator(seed, "initial")
    return {
        name: chance.normal(0, sigma, shape) if name.startswith("W") else np.zeros(shape)
        for name, shape in shapes(vocab_size, num_hiddens, embedding, cell).items()
    }


def join_gates(arrays: Arrays, gates: Sequence[str]) -> Arrays:
    """The same with all gates side by side: W_x (V, G*H), W_h (H, G*H), b (G*H,) for G gates."""
    joined = {
        name: np.concatenate([arrays[each] for each in names], -1)
        for name, names in _gate_names(gates).items()
    }
    first = {"W_e": arrays["W_e"]} if "W_e" in arrays else {}
    return {**first, **joined, "W_hq": arrays["W_hq"], "b_q": arrays["b_q"]}


def split_gates(joined: Arrays, gates: Sequence[str]) -> Arrays:
    """What `join_gates` joins, in the order of `shapes`."""
    parts = {
        each: np.ascontiguousarray(part)
        for name, names in _gate_names(gates).items()
        for each, part in zip(names, np.split(joined[name], len(gates), -1))
    }
    names = [name for group in zip(*_gate_names(gates).values()) for name in group]
    first = {"W_e": joined["W_e"]} if "W_e" in joined else {}
    by_gate = {name: parts[name] for name in names}
    return {**first, **by_gate, "W_hq": joined["W_hq"], "b_q": joined["b_q"]}


def _gate_names(gates: Sequence[str]) -> dict[str, list[str]]:
    prefixes = {"W_x": "W_x", "W_h": "W_h", "b": "b_"}
    return {name: [prefix + gate for gate in gates] for name, prefix in prefixes.items()}
