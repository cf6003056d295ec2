"""The parameters' starting values, the same for every backend; views of them, of states and of
inputs; and gates side by side, or apart.
"""

from typing import Any

import numpy as np

from .contract import OPTIMIZERS, Arrays, Model, Options, Params, State, Tensor
from .randomness import generator


def initial(options: Options, sigma: float, seed: int, optimizer: str = "sgd") -> Arrays:
    """Draw starting values: weights W normal with deviation sigma, the rest zero; all in float64.

    They are rounded to float32. In its bits the last one of a logarithm is lost, in which C
    libraries differ, so that all machines start exact mode from the same numbers.
    """
    rng = generator(seed, "initial")
    return {
        name: rng.normal(0, sigma, shape).astype(np.float32).astype(np.float64)
        if name.startswith("W")
        else np.zeros(shape)
        for name, shape in shapes(options, optimizer).items()
    }


def shapes(options: Options, optimizer: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all that training changes: parameters and the optimizer's state."""
    parameters, slots = options.shapes(), OPTIMIZERS[optimizer].slots
    states = {f"{slot}.{name}": parameters[name] for slot in slots for name in parameters}
    return parameters | states


def trained_arrays(model: Model) -> Arrays:
    """Return all that training changes, by the names of `shapes`."""
    params = model.to_arrays(model.params)
    arrays = dict(params)
    for slot, tensors in model.slots.items():
        state = model.to_arrays(tensors)
        for name in params:  # in their order, whatever that of the tensors is
            array = state[name]
            # A mean of gradients that are zero shrinks until it is subnormal. Some frameworks flush
            # subnormals to zero, and others do not: here all of them do.
            array[np.abs(array) < np.finfo(array.dtype).tiny] = 0
            arrays[f"{slot}.{name}"] = array
    return arrays


def of_layer(params: Params, layer: int) -> Params:
    """Return the parameters of one layer, from 0, by their names in the first layer."""
    if layer == 0:
        return params
    end = _end(layer)
    return {name.removesuffix(end): p for name, p in params.items() if name.endswith(end)}


def to_layer(params: Params, layer: int) -> Params:
    """Return parameters by their names in this layer: the inverse of `of_layer`."""
    return {name + _end(layer): parameter for name, parameter in params.items()}


def by_layer(state: State, options: Options) -> list[State]:
    """Return the state's tensors layer by layer."""
    size = len(state) // options.num_layers
    return [state[first : first + size] for first in range(0, len(state), size)]


def tokens_and_masks(inputs: Any) -> tuple[Tensor, Tensor | None]:
    """Return what the `inputs` of a minibatch are made of: its tokens, and its masks or None."""
    return inputs if isinstance(inputs, tuple) else (inputs, None)


def join_gates(arrays: Arrays, options: Options) -> Arrays:
    """Return arrays with all gates side by side: W_x (V, G*H), W_h (H, G*H), b (G*H,) for G gates.

    Those of further layers have a number, as in the contract.
    """
    joined = {
        joined_name: np.concatenate([arrays[name] for name in names], -1)
        for joined_name, names in _gate_names(options).items()
    }
    first = {"W_e": arrays["W_e"]} if "W_e" in arrays else {}
    return {**first, **joined, "W_hq": arrays["W_hq"], "b_q": arrays["b_q"]}


def split_gates(joined: Arrays, options: Options) -> Arrays:
    """Return what `join_gates` joined, in the order of ``options.shapes()``."""
    arrays = dict(joined)
    for name, names in _gate_names(options).items():
        arrays |= zip(names, np.split(joined[name], len(names), -1))
    return {name: np.ascontiguousarray(arrays[name]) for name in options.shapes()}


def _gate_names(options: Options) -> dict[str, list[str]]:
    names = {}
    for layer in range(options.num_layers):
        for name, prefix in {"W_x": "W_x", "W_h": "W_h", "b": "b_"}.items():
            gates = [prefix + gate for gate in options.gates]
            names[name + _end(layer)] = [gate + _end(layer) for gate in gates]
    return names


def _end(layer: int) -> str:
    return f"_{layer + 1}" if layer else ""  # of the names of a layer's parameters
