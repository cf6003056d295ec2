"""Draw initial parameters, select layers, and concatenate gate parameters."""

from collections.abc import Sequence

import numpy as np

from .contract import CELLS, OPTIMIZERS, Arrays, Model, ModelConfig, Params, State
from .randomness import generator


def draw_parameters(
    options: ModelConfig, sigma: float, seed: int, optimizer: str = "sgd"
) -> Arrays:
    """Draw initial float64 values: weights from N(0, sigma^2), and the cell's initial biases.

    All other biases and the slots are zero. Values are rounded to float32 to hide last-bit
    differences between C libraries' logarithms.
    """
    rng, biases = generator(seed, "initial"), dict[str, float]()
    for layer in range(options.num_layers):
        layer_biases = {f"b_{gate}": b for gate, b in CELLS[options.cell].biases.items()}
        biases |= add_layer_suffix(layer_biases, layer)
    arrays = {
        name: rng.normal(0, sigma, shape)
        if name.startswith("W")
        else np.full(shape, biases.get(name, 0.0))
        for name, shape in shapes(options, optimizer).items()
    }
    return {name: a.astype(np.float32).astype(np.float64) for name, a in arrays.items()}


def shapes(options: ModelConfig, optimizer: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all trained arrays (parameters and optimizer slots) by name."""
    params, slots = options.shapes(), OPTIMIZERS[optimizer].slots
    return params | {f"{slot}.{name}": params[name] for slot in slots for name in params}


def trained_arrays(model: Model) -> Arrays:
    """Copy all trained arrays to NumPy, with the names from `shapes`."""
    params, names = model.to_arrays(model.params), model.options.shapes()  # JAX sorts names
    arrays = {name: params[name] + 0.0 for name in names}  # convert -0.0 to 0.0
    for slot, tensors in model.slots.items():
        slot_arrays = model.to_arrays(tensors)
        for name in names:
            array = slot_arrays[name]
            # Flush subnormals to zero; only some frameworks do so. They occur when gradients stay
            # zero and their moving average decays.
            array[np.abs(array) < np.finfo(array.dtype).tiny] = 0
            arrays[f"{slot}.{name}"] = array
    return arrays


def select_layer(params: Params, layer: int) -> Params:
    """Return a layer's parameters under the first layer's names; for layer 0, return `params`."""
    if layer == 0:
        return params
    suffix = _get_suffix(layer)
    return {name.removesuffix(suffix): p for name, p in params.items() if name.endswith(suffix)}


def add_layer_suffix(params: Params, layer: int) -> Params:
    """Add a layer's suffix to parameter names; the inverse of `select_layer`."""
    return {name + _get_suffix(layer): param for name, param in params.items()}


def split_by_layer(state: State, options: ModelConfig) -> list[State]:
    """Return a list with the state of each layer."""
    size = len(state) // options.num_layers
    return [state[start : start + size] for start in range(0, len(state), size)]


def join_gates(arrays: Arrays, options: ModelConfig, gates: Sequence[str] = ()) -> Arrays:
    """Concatenate the parameters of all G gates: W_x (V, G*H), W_h (H, G*H), b (G*H,).

    Names in additional layers have a suffix. `gates` defaults to the contract's gate order. Other
    parameters, such as recurrent biases, keep their names and shapes.
    """
    joined = dict(arrays)
    for joined_name, names in _list_gate_names(options, gates).items():
        joined[joined_name] = np.concatenate([joined.pop(name) for name in names], -1)
    return joined


def split_gates(joined: Arrays, options: ModelConfig, gates: Sequence[str] = ()) -> Arrays:
    """Split concatenated gates into the contract's arrays; the inverse of `join_gates`."""
    arrays = dict(joined)
    for name, names in _list_gate_names(options, gates).items():
        arrays |= zip(names, np.split(joined[name], len(names), -1))
    return {name: np.ascontiguousarray(arrays[name]) for name in options.shapes()}


def _list_gate_names(options: ModelConfig, gates: Sequence[str]) -> dict[str, list[str]]:
    names = {}
    for layer in range(options.num_layers):
        suffix = _get_suffix(layer)
        for name, prefix in {"W_x": "W_x", "W_h": "W_h", "b": "b_"}.items():
            names[name + suffix] = [prefix + gate + suffix for gate in gates or options.gates]
    return names


def _get_suffix(layer: int) -> str:
    return f"_{layer + 1}" if layer else ""
