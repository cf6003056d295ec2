"""Say which of the contract's parameters each parameter of a layer holds.

The layouts of the recurrent and linear layers of PyTorch, Keras and Flax are known, and parameters
with the contract's names. Otherwise, the shapes decide.
"""

import functools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ..contract import CELLS
from ..parameters import select_layer
from . import forms, naming
from .case import Case
from .naming import normalize

# Orders of the gates in PyTorch and Flax, and in Keras.
GATES = {"rnn": "h", "rnn-relu": "h", "gru": "rzh", "gru-after": "rzh", "lstm": "ifco"}
KERAS_GATES = GATES | {"gru": "zrh", "gru-after": "zrh"}
FLAX_LETTERS = {"": "h", "g": "c", "n": "h"}  # other gates have the contract's letters


def map_parameters(
    shapes: dict[str, Any], case: Case, classes: Sequence[type]
) -> dict[str, Callable[[Any], Any]]:
    """Return, for each of a layer's parameters, a function of the contract's parameters.

    The user's classes tell the order of gates, and of inputs and state, that share a matrix.
    """
    np, cell, counts = forms.find_array_module(case.backend), case.options.cell, Counter[Any]()
    found, layers = dict[str, tuple[str, Any, bool]](), dict[str, int]()
    orders = (naming.find_gate_order(c, cell) for c in classes)
    gate_order = next(filter(None, orders), [])
    order = "hx" if any(map(naming.has_state_first, classes)) else "xh"
    for path in shapes:
        found[path] = _classify(path, shapes, case, gate_order)
        layers[path] = counts[found[path][:2]]  # each layer has one parameter of a kind
        counts[found[path][:2]] += 1
    is_column = any(t for path, (_, _, t) in found.items() if len({*shapes[path]}) > 1)
    for path, (kind, gates, _) in found.items():  # a layout with columns transposes all matrices
        is_square = len({*shapes[path]}) == 1 < len(shapes[path])
        if is_column and is_square and not path.endswith(("weight", "kernel", "_l0", "_l1")):
            found[path] = kind, gates, True
    kinds = {kind for kind, _, _ in found.values()}
    if not {"h", "xh"} & kinds:
        raise TypeError("it has no recurrent weights")
    if max(layers.values()) >= case.options.num_layers:
        raise TypeError("its parameters are not those of one layer after another")
    if cell == "gru-after" and not {"bh", "bxh"} & kinds:
        raise TypeError("it has no bias inside the reset gate")

    def bias(p: Any, kind: str, gates: str) -> Any:
        """Return the biases of the input or of the state; their sums are the contract's."""
        if kind == "bx" or not {"bx", "bxh"} & kinds:
            return np.concatenate([p[f"b_{g}"] for g in gates])
        zeros = [0 * p[f"b_{g}"] for g in gates]
        return np.concatenate([p.get(f"b_h{g}", zero) for g, zero in zip(gates, zeros)])

    def compute(params: Any, path: str) -> Any:
        kind, gates, is_transposed = found[path]
        p = select_layer(params, layers[path])
        if not gates:
            tensor = params[kind]
        elif kind == "bxh":
            tensor = np.stack([bias(p, "bx", gates), bias(p, "bh", gates)])
        elif kind[0] == "b":
            tensor = bias(p, kind, gates)
        else:  # W_x, W_h or both
            letters = order if kind == "xh" else kind
            columns = [np.concatenate([p[f"W_{letter}{g}"] for letter in letters]) for g in gates]
            tensor = np.concatenate(columns, 1)
        if len(shapes[path]) == 2 and len(tensor.shape) == 1:
            return tensor[:, None]  # a column
        return np.swapaxes(tensor, 0, 1) if is_transposed else tensor

    return {path: functools.partial(compute, path=path) for path in shapes}


def _classify(
    path: str, shapes: dict[str, Any], case: Case, gate_order: list[str]
) -> tuple[str, Any, bool]:
    """Return a parameter's kind and gates, and whether it is transposed.

    The kinds: x, h or xh for matrices, bx, bh or bxh for biases, or W_e, W_hq or b_q without gates.
    """
    cell, shape = case.options.cell, shapes[path]
    prefix, last = re.fullmatch(r"(.*[./])?(.*?)", path).groups("")  # type: ignore[union-attr]
    owner, is_weight = re.split(r"[./]", f"/{prefix}")[-2], last.startswith("weight")
    if last in ("embedding", "embeddings"):
        return "W_e", "", False
    if found := re.fullmatch(r"(weight|bias)_([ih]).*", last):
        kind, gates = found[2], "".join(gate_order) or GATES[cell]
    elif f"{prefix}recurrent_kernel" in shapes:
        kind, gates = {"recurrent_kernel": "h"}.get(last, "i"), KERAS_GATES[cell]
        if len(shape) == 2 and last == "bias":
            return "bxh", gates, False
    elif found := re.fullmatch(r"(?:dense_)?([ih])([ifgorzn]?)_?", owner):
        gates = GATES[cell] if "dense" in owner else FLAX_LETTERS.get(found[2], found[2])
        kind = found[1]
    else:
        return _classify_by_name(path, owner, last, shapes, case, gate_order)
    kind = kind.replace("i", "x")
    return ("b" + kind, gates, False) if "bias" in last else (kind, gates, is_weight)


def _classify_by_name(
    path: str,
    owner: str,
    last: str,
    shapes: dict[str, Any],
    case: Case,
    gate_order: list[str],
) -> tuple[str, Any, bool]:
    """Return what `_classify` returns, for a layer that is not one of the frameworks'."""
    shape, (V, H), cell = shapes[path], case.options[:2], case.options.cell
    is_linear, is_weight = last in ("weight", "bias", "kernel"), last == "weight"
    words = naming.parameter_words(cell, [*case.arrays])
    name = words.get(normalize(owner if is_linear else last), "")
    shape = shape[:1] if shape[1:] == (1,) else shape  # a column
    size, N = shape[::-1] if is_weight else shape, case.options.embedding or V
    matrices = [shapes.get(path.removesuffix(last) + n, ()) for n in ("weight", "kernel")]
    gate = naming.find_gate(owner, cell)
    if gate and is_linear and {(H, N + H), (N + H, H)} & {*matrices}:
        return ("bx", gate, False) if len(shape) == 1 else ("xh", gate, is_weight)
    G = len(CELLS[cell].gates)
    gates = "".join(gate_order) or GATES[cell]
    if G > 1 and shape == (G * H,):
        first = next(p for p in shapes if shapes[p] == shapes[path])
        return "bx" if path == first else "bh", gates, False
    for kind, rows in (("x", N), ("h", H), ("xh", N + H)):
        if G > 1 and {*shape} == {rows, G * H}:
            return kind, gates, shape[0] != rows

    def expect(name: str) -> Any:
        """Return the shape in the contract."""
        return case.arrays[name].shape if name in case.arrays else shape

    if not name or (len(shape) == 2 and {*expect(name)} != {*shape}):
        sizes = {(H, V): "W_hq", (V,): "b_q"} | ({(V, N): "W_e"} if N != V else {})
        if CELLS[cell].gates == ("h",):
            first = next(p for p in shapes if shapes[p] == shapes[path])
            sizes |= {(N, H): "W_xh", (H, H): "W_hh", (N + H, H): "xh"}
            sizes |= {(H,): "b_h" if path == first else "b_hh"}
        name = sizes.get(size, "") or sizes.get(size[::-1], "")
    if not name:
        raise TypeError(f"the parameter `{path}` {shape} is not known")
    if name == "xh":
        return name, "h", shape != (N + H, H)
    if len(shape) == 1:
        if name in ("b_q", "W_hq"):  # the latter is the name of a linear layer with this bias
            return "b_q", "", False
        is_state = name[:3] == "W_h" or name == "b_hh"
        return "bh" if is_state else "bx", name[-1], False
    expected = expect(name)
    is_transposed = is_weight if expected == expected[::-1] else shape != expected
    is_single = name in ("W_hq", "W_e")
    return (name, "", is_transposed) if is_single else (name[2], name[3], is_transposed)
