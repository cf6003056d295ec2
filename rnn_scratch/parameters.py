"""Initial parameters, equal in all backends; parameters and states by layer; concatenated gates."""

import numpy as np

from .contract import OPTIMIZERS, Arrays, Model, Options, Params, State
from .randomness import generator


def initial(options: Options, sigma: float, seed: int, optimizer: str = "sgd") -> Arrays:
    """Draw initial values in float64: weights W normal with deviation sigma, other arrays zero.

    They are rounded to float32, because C libraries differ in the last bit of a logarithm: so all
    machines start exact mode with the same numbers.
    """
    rng = generator(seed, "initial")
    return {
        name: rng.normal(0, sigma, shape).astype(np.float32).astype(np.float64)
        if name.startswith("W")
        else np.zeros(shape)
        for name, shape in shapes(options, optimizer).items()
    }


def shapes(options: Options, optimizer: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all trained arrays: parameters and the optimizer's slots."""
    params, slots = options.shapes(), OPTIMIZERS[optimizer].slots
    return params | {f"{slot}.{name}": params[name] for slot in slots for name in params}


def trained_arrays(model: Model) -> Arrays:
    """Copy all trained arrays, with the names of `shapes`."""
    params = model.to_arrays(model.params)
    arrays = {name: array + 0.0 for name, array in params.items()}  # no negative zeros
    for slot, tensors in model.slots.items():
        slot_arrays = model.to_arrays(tensors)
        for name in params:  # parameter order, for slots too
            array = slot_arrays[name]
            # A moving average of zero gradients shrinks until it is subnormal. Only some frameworks
            # flush subnormals to zero.
            array[np.abs(array) < np.finfo(array.dtype).tiny] = 0
            arrays[f"{slot}.{name}"] = array
    return arrays


def select_layer(params: Params, layer: int) -> Params:
    """Return the parameters of a layer (index from 0), with their names in the first layer."""
    if layer == 0:
        return params
    suffix = _suffix(layer)
    return {name.removesuffix(suffix): p for name, p in params.items() if name.endswith(suffix)}


def add_layer_suffix(params: Params, layer: int) -> Params:
    """Return parameters with their names in this layer: the inverse of `select_layer`."""
    return {name + _suffix(layer): param for name, param in params.items()}


def split_by_layer(state: State, options: Options) -> list[State]:
    """Split the tensors of a state by layer."""
    size = len(state) // options.num_layers
    return [state[first : first + size] for first in range(0, len(state), size)]


def join_gates(arrays: Arrays, options: Options) -> Arrays:
    """Concatenate the arrays of all G gates: W_x (V, G*H), W_h (H, G*H), b (G*H,).

    The names of further layers have a number, as in the contract.
    """
    joined = {
        joined_name: np.concatenate([arrays[name] for name in names], -1)
        for joined_name, names in _gate_names(options).items()
    }
    first = {"W_e": arrays["W_e"]} if "W_e" in arrays else {}
    return {**first, **joined, "W_hq": arrays["W_hq"], "b_q": arrays["b_q"]}


def split_gates(joined: Arrays, options: Options) -> Arrays:
    """Split concatenated gates, the inverse of `join_gates`; return the contract's arrays."""
    arrays = dict(joined)
    for name, names in _gate_names(options).items():
        arrays |= zip(names, np.split(joined[name], len(names), -1))
    return {name: np.ascontiguousarray(arrays[name]) for name in options.shapes()}


def _gate_names(options: Options) -> dict[str, list[str]]:
    names = {}
    for layer in range(options.num_layers):
        for name, prefix in {"W_x": "W_x", "W_h": "W_h", "b": "b_"}.items():
            gates = [prefix + gate for gate in options.gates]
            names[name + _suffix(layer)] = [gate + _suffix(layer) for gate in gates]
    return names


def _suffix(layer: int) -> str:
    return f"_{layer + 1}" if layer else ""
