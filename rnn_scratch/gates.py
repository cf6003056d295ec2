"""The parameters of a cell's gates side by side, as layers keep them, and apart, by name."""

from collections.abc import Sequence

import numpy as np

from .contract import Arrays


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
