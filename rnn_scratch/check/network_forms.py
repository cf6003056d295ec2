"""The forms of a cell, `step` and `forward`: containers, layouts and kinds of states."""

import contextlib
import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..contract import CELLS
from . import naming
from .case import Case
from .forms import Form, find_array_module, get_shape
from .naming import NETWORK


def list_network_forms(role: str, function: Any, case: Case) -> Iterator[Form]:
    """Yield the forms of a cell, `step` or `forward`.

    In a case with an embedding or several layers, they are forms of `deep_step` or `deep_forward`.
    """
    cell, is_deep = case.options.cell, case.options.needs_deep
    if is_deep and role not in NETWORK:
        return
    original = f"deep_{role}" if is_deep else role
    module: Any = case.backend.deep if is_deep else case.scratch
    original_function: Any = getattr(module, original, None)
    words, names = naming.parameter_words(cell, [*case.arrays]), [*case.arrays]
    gates = naming.find_gate_order(function, cell) or CELLS[cell].gates
    if packed := naming.find_packed(function, cell):
        words = packed
        names = [*dict.fromkeys(packed.values())]
    names = names if role in NETWORK or packed else names[:-2]
    kinds = ["x", "state", "params", "options"]
    parameters = inspect.signature(inspect.unwrap(function)).parameters
    if CELLS[cell].num_states == 2 and {naming.normalize(n) for n in parameters} & {
        *naming.WORDS["c"].split()
    }:
        kinds.insert(2, "c")
    bound = naming.bind_arguments(
        function, kinds, {w: n for w, n in words.items() if w not in ("c", "h")}
    )
    layer = getattr(function, "layer", "")
    if bound is None or len(bound) < 2:
        bound = ["x", "state", *names] if len(parameters) == 2 + len(names) else None
    if bound is None:
        return
    has_state = "state" in bound
    if not has_state and (role != "forward" or not layer):
        return
    if not {"params", *names} & {*bound}:
        return  # without parameters, it is another function
    order = naming.find_order(function, words) or names
    keys = naming.find_keys(function, words)
    has_outputs = role in NETWORK or "W_hq" in {*naming.list_words(function), *keys.values()}
    containers = {
        "a list of parameters": lambda p: [p[name] for name in order],
        "a dict of parameters": lambda p: p | {key: p[name] for key, name in keys.items()},
        "a list of the cell's parameters": lambda p: [p[n] for n in names if n[-1] != "q"],
    }
    if not naming.find_order(function, words):
        containers = dict(sorted(containers.items(), key=lambda item: item[0]))
    if "params" not in bound:
        containers = {"separate parameters": lambda p: p}
    conventions = {"": False, "column vectors": True}
    if layer:
        containers = {"": lambda p: p}
    if layer and not layer.startswith("class"):
        conventions = {"": False}
    module, count = find_array_module(case.backend), CELLS[cell].num_states
    L = case.options.num_layers

    def stack(state: Any) -> list[Any]:
        """Return a tensor (L, B, H) for each kind of state."""
        return [module.stack([*state[kind::count]]) for kind in range(count)]

    states: dict[str, Callable] = {"a tuple": tuple, "a list": list}
    states[f"tensors ({L}, B, H)"] = lambda state: tuple(stack(state))
    if "c" in bound:
        states = {"two tensors": lambda state: state[0]}
    elif not has_state:
        states = {"": tuple}
    elif count == 1:
        states["a tensor"] = lambda state: state[0]
        states[f"a tensor ({L}, B, H)"] = lambda state: stack(state)[0]
    elif not layer:
        states["h, with c zero"] = lambda state: state[0]
    elif layer.startswith("flax"):
        states["a tuple (c, h)"] = lambda state: state[::-1]
    if L > 1 and count > 1:
        states["a tuple per layer"] = lambda state: [
            tuple(state[i : i + count]) for i in range(0, len(state), count)
        ]
    sequence = {"tokens (B, T)": "BT", "one-hot inputs (T, B, V)": "TBV"}
    sequence |= {"one-hot inputs (B, T, V)": "BTV", "tokens (T, B)": "TB"}
    if getattr(function, "is_batch_major", False):
        sequence = {name: layout for name, layout in sequence.items() if layout[0] == "B"}
    inputs = sequence if role == "forward" else {"one-hot inputs": "x", "tokens": "ids"}
    choices = itertools.product(conventions, inputs, containers, states)
    for convention, read, container, kind in choices:
        is_transposed = conventions[convention]
        convert = Converter(case, role, is_transposed)

        def adapted(
            x: Any,
            state: Any,
            params: Any,
            options: Any = None,
            masks: Any = None,
            read: str = inputs[read],
            container: Callable = containers[container],
            make_state: Callable = states[kind],
            step: int = -1 if "(c, h)" in kind else 1,
            is_transposed: bool = is_transposed,
            convert: Converter = convert,
        ) -> Any:
            given, shown = (x, state, params, options or case.options), params
            if packed:
                shown = dict(params)
                for name in ("W_x", "W_h", "b"):
                    joined = [params[f"{name}{'_' * (name == 'b')}{gate}"] for gate in gates]
                    shown[name] = module.concatenate(joined, -1)
            if is_transposed and not layer:
                shown = {n: p.T if n[0] == "W" else p[:, None] for n, p in params.items()}
            if read in ("TBV", "BTV"):
                x = case.scratch.encode(x, params)
            num_steps = x.shape[1] if role == "forward" else 1
            if read in ("TB", "TBV"):
                x = module.swapaxes(x, 0, 1)
            if read == "ids":
                x = x.argmax(-1) if hasattr(x, "argmax") else module.argmax(x, -1)
            columns = tuple(s.T for s in state) if is_transposed else state
            x = x.T if is_transposed and role != "forward" else x
            x = [v.T for v in x] if is_transposed and read == "TBV" else x
            values = {"x": x, "state": make_state(columns), "options": options}
            values |= {"c": columns[-1]} | shown
            if "params" in bound:
                values["params"] = container(shown)
            result = function(*(values[name] for name in bound))
            converted = convert(result, state, params, num_steps)
            if role not in NETWORK:
                return converted[::step]
            if converted[1] is None:  # the function returns only outputs
                return converted[0], original_function(*given)[1]
            return converted[0], converted[1][::step]

        order_text = f" ({', '.join(order)})" if container == "a list of parameters" else ""
        what = f"{read}, {f'the state as {kind}' if has_state else 'from a state of zeros'}"
        what += f", {container}{order_text}" if container else ""
        what += f", gates {', '.join(gates)}" if packed else ""
        what += f", {convention}" if convention else ""
        adapted.__name__ = original
        yield Form(
            original,
            adapted,
            f"`{role}` of a {layer}: {what}" if layer else f"`{role}` with {what}",
            cell,
            is_plain=(has_outputs or inputs[read] == "ids") and not is_deep,
            from_zeros=not has_state or kind == "h, with c zero",
        )


class Converter:
    """Convert outputs and states to the contract's layout, which the first call determines."""

    def __init__(self, case: Case, role: str, is_transposed: bool = False) -> None:
        """Store what the layout depends on."""
        self.np = find_array_module(case.backend)
        self.role, self.count = role, CELLS[case.options.cell].num_states
        self.num_layers = case.options.num_layers
        self.is_transposed, self.layout = is_transposed, ""
        self.part: Any = None  # which parts of a network's result are the logits and the state
        self.parts = [None, -1, slice(0, self.count), 0]  # which of a cell's may be the state

    def __call__(self, result: Any, state: Any, params: Any, num_steps: int) -> Any:
        """Return the next state or, for `step` and `forward`, the logits and the next state."""
        shape = tuple(state[0].shape)
        if self.role not in NETWORK:
            return self.find_state(result, shape, self.parts)
        if isinstance(result, tuple | list) and self.part != "none":
            parts: list[tuple[Any, Any]] = [
                (0, 1),
                (0, slice(1, None)),
                (1, 0),
                (slice(0, self.count), self.count),
            ]
            for outputs, last in [self.part] if self.part else parts:
                with contextlib.suppress(_WrongShapeError, IndexError):
                    next_state = self.find_state(result[last], shape, [None])
                    logits = self.find_logits(result[outputs], shape, params, num_steps)
                    self.part = outputs, last
                    return logits, next_state
        logits = self.find_logits(result, shape, params, num_steps)
        self.part = "none"
        return logits, None

    def find_state(self, value: Any, shape: tuple[int, ...], parts: Sequence[Any]) -> Any:
        """Return the first of the parts of a value that is a state."""
        for part in parts:
            tensors = value
            if part is not None:
                if not isinstance(value, tuple | list):
                    continue
                others = value[:-1]
                tensors = value[part]
                leaves = [v[0] if isinstance(v, tuple | list) else v for v in value[self.count :]]
                if part == -1:
                    is_possible = [get_shape(v) for v in others] == [shape]  # only (h, state)
                else:
                    is_possible = all(get_shape(leaf)[-2:] != shape for leaf in leaves)
                if len(parts) > 1 and not is_possible:  # if V = H, shapes do not decide
                    continue
            tensors = tensors if isinstance(tensors, tuple | list) else (tensors,)
            tensors = tuple(t.T if self.is_transposed and hasattr(t, "T") else t for t in tensors)
            if self.num_layers > 1 and any(isinstance(t, tuple | list) for t in tensors):
                tensors = tuple(itertools.chain(*tensors))  # a tuple per layer
            layers = range(self.num_layers)
            if all(get_shape(t) == (self.num_layers, *shape) for t in tensors):
                tensors = tuple(t[layer] for layer in layers for t in tensors)
            count = self.count * self.num_layers
            if len(tensors) == count and all(get_shape(t) == shape for t in tensors):
                if parts is self.parts:
                    self.parts = [part]
                return tensors
        raise _WrongShapeError(f"the state has the shape {_shapes_of(value)} instead of {shape}")

    def find_logits(self, value: Any, shape: tuple[int, ...], params: Any, num_steps: int) -> Any:
        """Return logits (B, V) of a step, or time-major logits (T*B, V)."""
        B, H = shape
        V, T = params["b_q"].shape[0], num_steps
        if isinstance(value, tuple | list):
            value = self.np.stack([v.T if self.is_transposed else v for v in value])
        found = get_shape(value)
        if self.is_transposed and len(found) == 2:
            value = value.T
            found = get_shape(value)
        layouts: dict[str, tuple[int, ...]] = {"step": (B,)} if self.role == "step" else {}
        if self.role == "forward":
            layouts = {"flat": (T * B,), "time-major": (T, B), "batch-major": (B, T)}
        for (layout, sizes), (size, is_hidden) in itertools.product(
            layouts.items(), ((V, False), (H, True))[: 1 + (self.role == "forward")]
        ):
            name = f"{layout} {'hidden states' if is_hidden else 'logits'}"
            if found == (*sizes, size) and self.layout in ("", name):
                self.layout = self.layout or name
                if layout == "batch-major":
                    value = self.np.swapaxes(value, 0, 1)
                if self.role == "forward":
                    value = self.np.reshape(value, (T * B, size))
                return value @ params["W_hq"] + params["b_q"] if is_hidden else value
        raise _WrongShapeError(f"the outputs have the shape {found}")


class _WrongShapeError(Exception):
    pass


def _shapes_of(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_shapes_of, value))})"
    return str(get_shape(value))
