"""Adapt modules of PyTorch that map inputs and a state to outputs and a state.

The parameters of a module are replaced by tensors computed from the contract's parameters, so that
gradients reach them. The layouts of `torch.nn.RNN`, `GRU` and `LSTM`, of linear layers, and of
parameters with the contract's names are known.
"""

import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

from ..contract import CELLS, Backend
from . import forms, naming
from .case import Case, make_case
from .forms import Form
from .naming import normalize
from .network_forms import Converter

GATES = {1: ("rnn", "h"), 3: ("gru-after", "rzh"), 4: ("lstm", "ifco")}  # PyTorch's orders
SIZES = {  # words that name an argument of a constructor
    "V": "vocabsize inputsize numinputs inputdim numtokens outputsize numoutputs outputdim",
    "H": "hiddensize numhiddens hiddendim numhidden nhid units hidden nhidden",
    "1": "numlayers nlayers layers",
}


def is_module(value: Any) -> bool:
    """Return whether a value is a PyTorch module or a class of modules."""
    base = getattr(getattr(sys.modules.get("torch"), "nn", None), "Module", None)
    if base is None:
        return False
    return issubclass(value, base) if isinstance(value, type) else isinstance(value, base)


def is_layer(value: Any) -> bool:
    """Return whether a value is a layer of any framework, or a class of layers."""
    return is_module(value) or bool(name_other_framework(value))


def name_other_framework(value: Any) -> str:
    """Return "Keras" or "Flax" if a value is a layer of theirs, or a class of layers, or ""."""
    classes = (value if isinstance(value, type) else type(value)).__mro__
    bases = [c.__module__.partition(".")[0] for c in classes if c.__name__ in ("Layer", "Module")]
    return next((name for name in ("Keras", "Flax") if name.lower() in bases), "")


def list_forms(backend: Backend, value: Any, dtype: str) -> Iterator[tuple[Case, Form]]:
    """Yield the forms of a module, with the small case; errors say that it cannot be built."""
    make, overrides = _find_constructor(value)
    cell = _find_cell(make(7, 5) if not overrides else value, value)
    case = forms.make_small_case(backend, cell, dtype)
    options = case.options._replace(**overrides)
    case = make_case(backend, "scratch", case.draw._replace(options=options))
    for role in (cell.replace("-", "_"), "forward"):
        for form in _list_forms(role, make, case):
            yield case, form._replace(overrides=overrides)


def _find_constructor(value: Any) -> tuple[Callable[[int, int], Any], dict[str, Any]]:
    """Return a function of V and H that returns a module, and the sizes of an existing module."""
    if not isinstance(value, type):
        sizes: dict[str, int] = {}
        for name, param in value.named_parameters():
            if "weight_hh" in name or normalize(name).endswith("whh"):
                sizes["num_hiddens"] = param.shape[-1]
            if "weight_ih" in name:
                sizes["vocab_size"] = param.shape[-1]
        return (lambda _V, _H: value), sizes

    def make(V: int, H: int) -> Any:
        kinds = {word: kind for kind, words in SIZES.items() for word in words.split()}
        numbers = {"V": V, "H": H, "1": 1}
        arguments = {}
        for name, parameter in inspect.signature(value).parameters.items():
            if normalize(name) in kinds:
                arguments[name] = numbers[kinds[normalize(name)]]
            elif normalize(name) == "rnn":  # the book's RNNLMScratch
                others = vars(value)["__init__"].__globals__.values()
                inner = next(c for c in others if is_module(c) and c is not value)
                arguments[name] = _find_constructor(inner)[0](V, H)
            elif parameter.default is parameter.empty and parameter.kind == 1:
                raise TypeError(f"the argument `{name}` of {value.__name__} is not known")
        return value(**arguments)

    return make, {}


def _find_cell(module: Any, value: Any) -> str:
    """Return the cell that a module computes, by its parameters."""
    for name, param in module.named_parameters():
        if "weight_ih" in name:
            ratio = param.shape[0] // next(
                p.shape[-1] for n, p in module.named_parameters() if "weight_hh" in n
            )
            relu = any(getattr(m, "nonlinearity", "") == "relu" for m in module.modules())
            return "rnn-relu" if relu and ratio == 1 else GATES[ratio][0]
    names = " ".join(normalize(n.removesuffix(".weight")) for n, _ in module.named_parameters())
    for cell, word in (("lstm", "wxf"), ("gru", "wxz")):
        if word in names:
            return cell
    return naming.guess_cell(value if isinstance(value, type) else type(value))


def _map_parameters(module: Any, case: Case, names: list[str]) -> dict[str, Callable]:
    """Return, for each of a module's parameters, a function of the contract's parameters."""
    torch, cell = sys.modules["torch"], case.options.cell
    V, H = case.options.vocab_size, case.options.num_hiddens
    words, gates = naming.parameter_words(cell, names), GATES[len(CELLS[cell].gates)][1]
    mapping: dict[str, Callable] = {}
    first_bias = True

    def stack(prefix: str) -> Callable:
        return lambda p: torch.cat([p[prefix + g].T for g in gates])

    def recurrent_bias(p: Any) -> Any:
        zeros = [torch.zeros_like(p[f"b_{gates[0]}"])] * len(gates)
        return torch.cat([*zeros[:-1], p.get("b_hh", zeros[-1])])

    for name, param in module.named_parameters():
        owner, _, last = name.rpartition(".")
        word = normalize(owner.rpartition(".")[2] if last in ("weight", "bias") else last)
        known, shape = words.get(word, ""), tuple(param.shape)
        if last.startswith("weight_ih"):
            mapping[name] = stack("W_x")
        elif last.startswith("weight_hh"):
            mapping[name] = stack("W_h")
        elif last.startswith("bias_ih"):
            mapping[name] = stack("b_")
        elif last.startswith("bias_hh"):
            mapping[name] = recurrent_bias
        elif known and last == "bias":
            bias = "b_" + known[-1]
            is_input = known.startswith(("W_x", "W_hq"))
            mapping[name] = lambda p, b=bias, i=is_input: p[b] if i else torch.zeros_like(p[b])
        elif known:
            is_plain = last != "weight" and (shape != (H, V) or known[:3] != "W_x")
            mapping[name] = lambda p, n=known, plain=is_plain: p[n] if plain else p[n].T
        elif shape == (V, H):
            mapping[name] = lambda p: p["W_hq"].T
        elif shape == (V,):
            mapping[name] = lambda p: p["b_q"]
        elif shape == (H, V) and len(gates) == 1:
            mapping[name] = lambda p: p["W_xh"].T
        elif shape == (H, H) and len(gates) == 1:
            mapping[name] = lambda p: p["W_hh"].T
        elif shape == (H, V + H) and len(gates) == 1:
            mapping[name] = lambda p: torch.cat([p["W_xh"], p["W_hh"]]).T
        elif shape == (H,) and len(gates) == 1:
            is_bias, first_bias = first_bias, False
            mapping[name] = lambda p, b=is_bias: p["b_h"] if b else torch.zeros_like(p["b_h"])
        else:
            raise TypeError(f"the parameter `{name}` {shape} is not known")
    return mapping


def _list_forms(role: str, make: Callable, case: Case) -> Iterator[Form]:
    """Yield the forms of a module: kinds of inputs and of the state."""
    torch, count = sys.modules["torch"], CELLS[case.options.cell].num_states
    inputs: dict[str, Callable] = {"one-hot inputs (B, V)": lambda x, _: x}
    if role == "forward":
        one_hot = case.scratch.encode
        inputs = {
            "tokens (B, T)": lambda x, _: x,
            "one-hot inputs (T, B, V)": lambda x, p: one_hot(x, p).swapaxes(0, 1),
            "one-hot inputs (B, T, V)": one_hot,
            "tokens (T, B)": lambda x, _: x.T,
        }
    states: dict[str, Callable] = {"a tuple": tuple, "tensors (1, B, H)": _add_layer}
    if count == 1:
        states |= {"a tensor": lambda s: s[0], "a tensor (1, B, H)": lambda s: s[0][None]}
    states["separate tensors"] = lambda s: s
    modules: dict[Any, Any] = {}  # by V and H
    # The small case's sizes differ, so that the shapes say which parameter is which.
    module = make(case.options.vocab_size, case.options.num_hiddens)
    mapping = _map_parameters(module, case, [*case.arrays])
    for read in inputs:
        for kind in states:
            convert = Converter(case, role)

            def adapted(
                x: Any,
                state: Any,
                params: Any,
                options: Any = None,
                read: Callable = inputs[read],
                kind: str = kind,
                convert: Converter = convert,
            ) -> Any:
                sizes = params[f"W_x{CELLS[case.options.cell].gates[0]}"].shape
                if sizes not in modules:
                    modules[sizes] = make(*sizes).eval()
                module = modules[sizes]
                tensors = {name: compute(params) for name, compute in mapping.items()}
                given = states[kind](state)
                given = given if kind == "separate tensors" else (given,)
                result = torch.func.functional_call(module, tensors, (read(x, params), *given))
                converted = convert(result, state, params, x.shape[-1])
                if role == "forward" and converted[1] is None:
                    return converted[0], case.scratch.forward(x, state, params, options)[1]
                return converted

            adapted.__name__ = role
            what = f"`{role}` of a torch.nn.Module ({case.options.cell}): {read}, "
            what += f"the state as {kind}"
            yield Form(role, adapted, what, case.options.cell)


def _add_layer(state: Any) -> Any:
    return tuple(tensor[None] for tensor in state)
