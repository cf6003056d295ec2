"""The parameters' starting values, the same for every backend; and gates side by side, or apart."""

import numpy as np

from .contract import Arrays, Options
from .system.randomness import generator


def initial(options: Options, sigma: float, seed: int) -> Arrays:
    """Starting values in float64: weights normal with standard deviation sigma, biases zero."""
    chance = generator(seed, "initial")
    return {
        name: chance.normal(0, sigma, shape) if name.startswith("W") else np.zeros(shape)
        for name, shape in options.shapes().items()
    }


def join_gates(arrays: Arrays, options: Options) -> Arrays:
    """The same with all gates side by side: W_x (V, G*H), W_h (H, G*H), b (G*H,) for G gates."""
    joined = {
        name: np.concatenate([arrays[each] for each in names], -1)
        for name, names in _gate_names(options).items()
    }
    first = {"W_e": arrays["W_e"]} if "W_e" in arrays else {}
    return {**first, **joined, "W_hq": arrays["W_hq"], "b_q": arrays["b_q"]}


def split_gates(joined: Arrays, options: Options) -> Arrays:
    """What `join_gates` joins, in the order of ``options.shapes()``."""
    arrays = dict(joined)
    for name, names in _gate_names(options).items():
        arrays |= zip(names, np.split(joined[name], len(names), -1))
    return {name: np.ascontiguousarray(arrays[name]) for name in options.shapes()}


def _gate_names(options: Options) -> dict[str, list[str]]:
    prefixes = {"W_x": "W_x", "W_h": "W_h", "b": "b_"}
    return {name: [prefix + gate for gate in options.gates] for name, prefix in prefixes.items()}
