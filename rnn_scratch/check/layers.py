"""Turn layers of PyTorch, Keras and Flax into functions of inputs, a state and parameters.

The parameters of a layer are replaced by tensors computed from the contract's parameters, so that
gradients reach them.
"""

import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from ..contract import CELLS, Backend
from . import forms, naming
from .case import Case, make_case
from .forms import Form
from .layer_weights import map_parameters
from .naming import normalize
from .network_forms import list_network_forms

BASES = {  # names of layers, by the module and name of their base class
    "torch.nn.modules.module.Module": "torch.nn.Module",
    "keras.src.layers.layer.Layer": "keras.Layer",
    "flax.linen.module.Module": "flax.linen.Module",
    "flax.nnx.module.Module": "flax.nnx.Module",
}
SIZES = {  # words that name an argument of a constructor
    "V": "vocabsize inputsize numinputs inputdim numtokens outputsize numoutputs outputdim "
    "infeatures",
    "H": "hiddensize numhiddens hiddendim numhidden nhid units hidden nhidden features "
    "hiddenfeatures",
    "1": "numlayers nlayers layers",
}
KINDS = {word: kind for kind, words in SIZES.items() for word in words.split()}
FLAGS = {"return_sequences": True, "return_state": True, "return_carry": True}  # of Keras and Flax
FLAGS |= {"training": False, "train": False, "deterministic": True}

# The shapes of a layer's parameters, and a function of parameters, args and kwargs that calls it.
Opened = tuple[dict[str, tuple[int, ...]], Callable[[Any, Any, Any], Any]]


def find_base(value: Any) -> str:
    """Return the name of the framework's base class if a value is a layer or a class, or ""."""
    classes = (value if isinstance(value, type) else type(value)).__mro__
    found = (BASES.get(f"{c.__module__}.{c.__qualname__}", "") for c in classes)
    return next(filter(None, found), "")


def list_forms(backend: Backend, value: Any, dtype: str) -> Iterator[tuple[Case, Form]]:
    """Yield the forms of a layer, with the small case; errors say that it cannot be built."""
    base, overrides = find_base(value), _find_sizes(value)
    make = functools.partial(_make, value)
    cell = _find_cell(make(7, 5), value)
    case = forms.make_small_case(backend, cell, dtype)
    options = case.options._replace(**overrides)
    case = make_case(backend, "scratch", case.draw._replace(options=options))
    for role in ("step", cell.replace("-", "_"), "forward"):
        for form in list_network_forms(role, _wrap(make, base, case), case):
            # Its code need not work in both dtypes.
            yield case, form._replace(overrides=overrides | {"dtype": dtype})


def _find_sizes(value: Any) -> dict[str, Any]:
    """Return the sizes of an existing layer, as values of `ModelConfig`."""
    sizes: dict[str, Any] = {}
    names = {"V": "vocab_size", "H": "num_hiddens", "": ""}
    for owner in () if isinstance(value, type) else (value, getattr(value, "cell", None)):
        for name in dir(owner):
            kind = names.get(KINDS.get(normalize(name), ""), "")
            is_size = kind and not name.startswith("output")  # Keras: the number of units
            if is_size and type(size := getattr(owner, name, None)) is int:
                sizes[kind] = size
    if not isinstance(value, type) and hasattr(value, "named_parameters"):  # PyTorch
        for name, param in value.named_parameters():
            if "weight_hh" in name or normalize(name).endswith("whh"):
                sizes["num_hiddens"] = param.shape[-1]
            if "weight_ih" in name:
                sizes["vocab_size"] = param.shape[-1]
    if sizes.get("num_hiddens") == 7:  # the small case's V
        sizes = {"vocab_size": 11} | sizes
    return sizes


def _make(value: Any, V: int, H: int) -> Any:
    """Return a layer with the sizes, or an existing layer, which in Keras is not built yet."""
    if not isinstance(value, type):
        if find_base(value) != "keras.Layer":
            return value
        config = value.get_config()
        config.pop("dtype", None)
        return type(value).from_config(config | {n: v for n, v in FLAGS.items() if n in config})
    arguments: dict[str, Any] = {}
    is_nnx = find_base(value) == "flax.nnx.Module"  # whose metaclass hides the signature
    signature = inspect.signature(vars(value)["__init__"] if is_nnx else value)
    for name, parameter in signature.parameters.items():
        if normalize(name) in KINDS:
            arguments[name] = {"V": V, "H": H, "1": 1}[KINDS[normalize(name)]]
        elif name in FLAGS:
            arguments[name] = FLAGS[name]
        elif name == "rngs":
            arguments[name] = sys.modules["flax.nnx"].Rngs(0)
        elif name == "rnn":  # the book's RNNLMScratch
            others = vars(value)["__init__"].__globals__.values()
            inner = next(c for c in others if isinstance(c, type) and find_base(c) and c != value)
            arguments[name] = _make(inner, V, H)
        elif parameter.default is parameter.empty and parameter.kind in (1, 3) and name != "self":
            raise TypeError(f"the argument `{name}` of {value.__name__} is not known")
    return value(**arguments)


def _find_cell(layer: Any, value: Any) -> str:
    """Return the cell that a layer computes, by its parameters or the names of its classes."""
    owner = value if isinstance(value, type) else type(value)
    parts = [getattr(layer, "cell", None), layer, *getattr(layer, "modules", list)()]
    classes = [c for part in parts for c in type(part).__mro__]
    own = [c.__name__.lower() for c in classes if c.__module__ not in ("user_file", "builtins")]
    words = naming.list_words(owner) if owner.__module__ == "user_file" else []
    found = re.search("lstm|gru|rnn|simplecell", " ".join(own))
    cell = naming.guess_cell(owner) if words else "rnn"
    if found or cell == "rnn":
        text = found[0] if found else " ".join(words).lower()
        cell = "lstm" if "lstm" in text else "gru-after" if "gru" in text else "rnn"
    has_reset_before = not all(getattr(part, "reset_after", True) for part in parts)
    if cell == "gru-after" and (has_reset_before or "reset_after" in words):
        cell = "gru"
    functions = [getattr(p, n, "") for p in parts for n in ("nonlinearity", "activation")]
    names = [getattr(function, "__name__", function) for function in functions]
    return "rnn-relu" if cell == "rnn" and "relu" in names else cell


def _wrap(make: Callable[[int, int], Any], base: str, case: Case) -> Callable[..., Any]:
    """Return a function of inputs, a state (or two tensors) and named parameters."""
    opened: dict[Any, Opened] = {}
    mapping: dict[str, Callable[[Any], Any]] = {}
    options = case.options
    small = make(options.vocab_size, options.num_hiddens)
    method = {"torch.nn.Module": "forward", "keras.Layer": "call"}.get(base, "__call__")
    names, flags = _bind(getattr(small, method), CELLS[options.cell].num_states)

    def call(*arguments: Any) -> Any:
        *given, params = arguments
        values = dict(zip(kinds, given))
        kwargs = {name: values[kind] for name, kind in names.items()} | flags
        args = (kwargs.pop(next(iter(names))),)
        W_x = params[f"W_x{CELLS[options.cell].gates[0]}"]
        (V, H), key = W_x.shape, (*W_x.shape, str(W_x.dtype))
        if key not in opened:
            if "keras" in base:
                dtype = "float64" if "float64" in key[2] else "float32"
                sys.modules["keras"].config.set_dtype_policy(dtype)
            opened[key] = OPEN[base](lambda: make(V, H), args, kwargs)
        shapes, run = opened[key]
        # The small case's sizes differ, so that the shapes say which parameter is which.
        if not mapping:
            mapping.update(map_parameters(shapes, case))
        return run({path: compute(params) for path, compute in mapping.items()}, args, kwargs)

    kinds = [kind for kind in ("x", "state", "c") if kind in names.values()]
    order = [
        inspect.Parameter(kind, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        for kind in (*kinds, "params")
    ]
    call.__signature__ = inspect.Signature(order)  # type: ignore[attr-defined]
    call.layer = f"{base} ({options.cell})"  # type: ignore[attr-defined]
    return call


def _bind(method: Any, num_states: int) -> tuple[dict[str, str], dict[str, bool]]:
    """Return the kind of each argument of a layer's call, by name, and the flags to pass."""
    remaining = ["x", "state", "c"][: 1 + num_states]
    words = {w: kind for kind in reversed(remaining) for w in naming.WORDS[kind].split()}
    bound, flags = dict[str, str](), dict[str, bool]()
    for name, parameter in inspect.signature(method).parameters.items():
        kind = words.get(normalize(name), "")
        is_required = parameter.default is parameter.empty and parameter.kind in (0, 1)
        if name in FLAGS:
            flags[name] = FLAGS[name]
        elif kind not in remaining and is_required and remaining:
            kind = remaining[0]
        if kind in remaining:
            bound[name] = kind
            remaining.remove(kind)
    if not {"x", "state"} <= {*bound.values()}:
        raise TypeError("its call has no argument for the state")
    return bound, flags


def _open_torch(make: Callable[[], Any], _args: Any, _kwargs: Any) -> Opened:
    module = make().eval()
    call = functools.partial(sys.modules["torch"].func.functional_call, module)
    return {name: tuple(param.shape) for name, param in module.named_parameters()}, call


def _open_keras(make: Callable[[], Any], args: Any, kwargs: Any) -> Opened:
    layer = make()
    layer(*args, **kwargs)
    variables = layer.trainable_variables

    def call(params: Any, args: Any, kwargs: Any) -> Any:
        others = [variable.value for variable in layer.non_trainable_variables]
        # Each layer's names have other numbers, but the order is the same.
        return layer.stateless_call([*params.values()], others, *args, **kwargs)[0]

    return {variable.path: tuple(variable.shape) for variable in variables}, call


def _open_linen(make: Callable[[], Any], args: Any, kwargs: Any) -> Opened:
    tools, module = sys.modules["flax.traverse_util"], make()
    tree = module.init(sys.modules["jax"].random.key(0), *args, **kwargs)["params"]

    def call(params: Any, args: Any, kwargs: Any) -> Any:
        return module.apply({"params": tools.unflatten_dict(params, sep="/")}, *args, **kwargs)

    return {path: array.shape for path, array in tools.flatten_dict(tree, sep="/").items()}, call


def _open_nnx(make: Callable[[], Any], _args: Any, _kwargs: Any) -> Opened:
    nnx = sys.modules["flax.nnx"]
    graph, state, others = nnx.split(make(), nnx.Param, ...)
    flat = {"/".join(map(str, path)): (path, leaf) for path, leaf in nnx.to_flat_state(state)}

    def call(params: Any, args: Any, kwargs: Any) -> Any:
        leaves = [(flat[name][0], nnx.Param(tensor)) for name, tensor in params.items()]
        return nnx.merge(graph, nnx.from_flat_state(leaves), others)(*args, **kwargs)

    return {name: leaf.value.shape for name, (_, leaf) in flat.items()}, call


OPEN = {
    "torch.nn.Module": _open_torch,
    "keras.Layer": _open_keras,
    "flax.linen.Module": _open_linen,
    "flax.nnx.Module": _open_nnx,
}
