"""Turn layers of PyTorch, Keras and Flax into functions of inputs, a state and parameters.

The parameters of a layer are replaced by tensors computed from the contract's parameters, so that
gradients reach them. A class of no framework is a layer, too, if its attributes are parameters, and
so is what a function with a name such as `build_model` returns.
"""

import copy
import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from ..contract import CELLS, Backend
from . import forms, naming
from .case import Case
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
OBJECT = "class"  # the base of a class of no framework
METHODS = {  # names of the method that computes the outputs
    "torch.nn.Module": ("forward",),
    "keras.Layer": ("call",),
    OBJECT: ("forward", "__call__", "step"),
}
SIZES = {  # words that name an argument of a constructor
    "vocab_size": "vocabsize vocab nvocab nchars ntoken ntokens inputsize numinputs inputdim "
    "numtokens outputsize numoutputs outputdim infeatures",
    "embedding": "embeddingdim embeddingsize embdim embsize embeddim embedsize embed embedding emb "
    "nemb nembd ninp",
    "num_hiddens": "hiddensize numhiddens hiddendim numhidden nhid hid units rnnunits rnnsize "
    "hidden nhidden features hiddenfeatures hiddenunits",
    "num_layers": "numlayers nlayers layers",
}
KINDS = {word: kind for kind, words in SIZES.items() for word in words.split()}
FLAGS = {"return_sequences": True, "return_state": True, "return_carry": True}  # of Keras and Flax
FLAGS |= {"training": False, "train": False, "deterministic": True}
OTHER_ARGUMENTS = ("mask", "masks", "targets", "labels", "y")  # optional, and not the state

# The shapes of a layer's parameters, and a function of parameters, args and kwargs that calls it.
Opened = tuple[dict[str, tuple[int, ...]], Callable[[Any, Any, Any], Any]]


def find_base(value: Any) -> str:
    """Return the name of the framework's base class if a value is a layer or a class, or ""."""
    classes = (value if isinstance(value, type) else type(value)).__mro__
    found = (BASES.get(f"{c.__module__}.{c.__qualname__}", "") for c in classes)
    return next(filter(None, found), "")


def may_be_layer(name: str, value: Any) -> bool:
    """Return whether a class of no framework may be a layer, or a function may return one."""
    if isinstance(value, type):
        return bool({*METHODS[OBJECT]} & {*vars(value)})
    words, models = (
        {*name.lower().split("_")},
        {"model", "net", "network", "lm", "rnn", "lstm", "gru"},
    )
    return bool({"build", "make", "create", "get"} & words and models & words)


def list_forms(backend: Backend, value: Any, dtype: str) -> Iterator[tuple[Case, Form]]:
    """Yield the forms of a layer, with the small case; errors say that it cannot be built."""
    make = functools.partial(_make, value)
    layer = make(7, 5)
    sizes = _find_sizes(layer, is_fixed=not _is_maker(value))
    for cell in _list_cells(layer, value):
        case = forms.make_small_case(backend, cell, dtype, **sizes)
        function = _wrap(make, find_base(layer) or OBJECT, case)
        for role in ("step", cell.replace("-", "_"), "forward"):
            for form in list_network_forms(role, function, case):
                # Its code need not work in both dtypes.
                overrides = sizes | {"dtype": dtype}
                yield (
                    case.from_zeros() if form.from_zeros else case,
                    form._replace(overrides=overrides),
                )


def _is_maker(value: Any) -> bool:
    """Return whether a value is a class, or a function that returns a layer."""
    return isinstance(value, type) or inspect.isfunction(value)


def _list_parts(layer: Any) -> list[Any]:
    """Return a layer and all layers inside it."""
    parts, remaining = list[Any](), [layer]
    while remaining:
        part = remaining.pop(0)
        parts.append(part)
        for value in getattr(part, "__dict__", {}).values():
            inner = value.values() if isinstance(value, dict) else value
            inner = inner if isinstance(value, dict | list | tuple) else [value]
            is_new = lambda v: find_base(v) and not isinstance(v, type)  # noqa: E731
            known = {*map(id, parts), *map(id, remaining)}
            remaining += [v for v in inner if is_new(v) and id(v) not in known]
    return parts


def _find_sizes(layer: Any, is_fixed: bool) -> dict[str, Any]:
    """Return the sizes of a layer that it determines itself, as values of `ModelConfig`."""
    sizes, parts, depth = dict[str, Any](), _list_parts(layer), 0
    for owner in (layer, getattr(layer, "cell", None)):
        for name in dir(owner):
            kind = KINDS.get(normalize(name), "")
            is_size = kind and not name.startswith("output")  # Keras: the number of units
            if is_size and type(size := getattr(owner, name, None)) is int:
                sizes[kind] = size
    if hasattr(layer, "named_parameters"):  # PyTorch
        for name, param in layer.named_parameters():
            if "weight_hh" in name or normalize(name).endswith("whh"):
                sizes["num_hiddens"] = param.shape[-1]
            if "weight_ih" in name:
                sizes["vocab_size"] = param.shape[-1]
    for part in parts:
        names = {c.__name__ for c in type(part).__mro__}
        is_keras = find_base(part) == "keras.Layer"
        if names & {"RNNBase", "RNNCellBase"} or ("RNN" in names and is_keras):
            depth += getattr(part, "num_layers", 1)
            sizes["num_hiddens"] = getattr(part, "units", sizes.get("num_hiddens", 0))
        if names & {"Embedding", "Embed"}:
            found = [getattr(part, n, 0) for n in ("embedding_dim", "output_dim", "features")]
            sizes["embedding"] = max(found)
            found = [getattr(part, n, 0) for n in ("num_embeddings", "input_dim")]
            sizes["vocab_size"] = max(found)
    deep = {"embedding": sizes.pop("embedding", 0)}
    deep["num_layers"] = max(depth, sizes.pop("num_layers", 1))
    if not is_fixed:
        # If the embedding has the size of the hidden state, it has no size of its own.
        sizes = {"num_hiddens": 5} if deep["embedding"] == 5 else {}
    if sizes.get("num_hiddens") == 7:  # the small case's V
        sizes = {"vocab_size": 11} | sizes
    sizes = {kind: size for kind, size in sizes.items() if size}
    return sizes | (deep | {"dropout": 0.0} if deep != {"embedding": 0, "num_layers": 1} else {})


def _make(value: Any, V: int, H: int) -> Any:
    """Return a layer with the sizes, or an existing layer, which in Keras is not built yet."""
    if not _is_maker(value):
        if find_base(value) != "keras.Layer":
            return value
        config = value.get_config()
        config.pop("dtype", None)
        return type(value).from_config(config | {n: v for n, v in FLAGS.items() if n in config})
    arguments: dict[str, Any] = {}
    sizes = {"vocab_size": V, "embedding": 6, "num_hiddens": H, "num_layers": 2}
    is_nnx = find_base(value) == "flax.nnx.Module"  # whose metaclass hides the signature
    signature = inspect.signature(vars(value)["__init__"] if is_nnx else value)
    for name, parameter in signature.parameters.items():
        if normalize(name) in KINDS:
            arguments[name] = sizes[KINDS[normalize(name)]]
        elif name in FLAGS:
            arguments[name] = FLAGS[name]
        elif name == "rngs":
            arguments[name] = sys.modules["flax.nnx"].Rngs(0)
        elif name in ("rnn", "rnn_layer"):  # the book's RNNLMScratch and RNNModel
            others = vars(value)["__init__"].__globals__.values()
            known = [c for c in others if isinstance(c, type) and find_base(c) and c != value]
            inner = next((c for c in known if c.__module__ == "user_file"), None)
            torch = sys.modules.get("torch")  # the book's RNNModel has a layer of the framework
            arguments[name] = _make(inner, V, H) if inner else torch.nn.RNN(V, H)  # type: ignore
        elif parameter.default is parameter.empty and parameter.kind in (1, 3) and name != "self":
            raise TypeError(f"the argument `{name}` of {value.__name__} is not known")
    return value(**arguments)


def _list_cells(layer: Any, value: Any) -> list[str]:
    """Return the cells that a layer may compute, by the names of its classes and parameters."""
    parts = _list_parts(layer)
    classes = [c for part in parts for c in type(part).__mro__]
    own = [c for c in (*classes, value) if getattr(c, "__module__", "") == "user_file"]
    names = " ".join(c.__name__.lower() for c in classes if c.__module__ != "user_file")
    words = " ".join(word for c in own for word in (c.__name__, *naming.list_words(c))).lower()
    found = re.search("lstm|gru|simplernn|simplecell|rnnbase", names)
    guessed = (
        [found[0]] if found else [*map(naming.guess_cell, own), *re.findall("lstm|gru", words)]
    )
    cell = next((c for c in guessed if c in CELLS and c != "rnn"), "rnn")
    if cell[:3] == "gru":
        has_reset_before = not all(getattr(part, "reset_after", True) for part in parts)
        if has_reset_before or "reset_after" in words:
            return ["gru"]
        return ["gru-after"] if found else ["gru-after", "gru"]
    functions = [getattr(p, n, "") for p in parts for n in ("nonlinearity", "activation")]
    activations = [getattr(function, "__name__", function) for function in functions]
    return ["rnn-relu" if cell == "rnn" and "relu" in activations else cell]


def _wrap(make: Callable[[int, int], Any], base: str, case: Case) -> Callable[..., Any]:
    """Return a function of inputs, a state (or two tensors) and named parameters."""
    opened: dict[Any, Opened] = {}
    mapping: dict[str, Callable[[Any], Any]] = {}
    options = case.options
    small = make(options.vocab_size, options.num_hiddens)
    own = [t for t in dict.fromkeys(map(type, _list_parts(small))) if t.__module__ == "user_file"]
    method = next(name for name in METHODS.get(base, ["__call__"]) if hasattr(small, name))
    names, flags = _bind(getattr(small, method), CELLS[options.cell].num_states)

    def call(*arguments: Any) -> Any:
        *given, params = arguments
        values = dict(zip(kinds, given))
        kwargs = {name: values[kind] for name, kind in names.items()} | flags
        args = (kwargs.pop(next(iter(names))),)
        (H, V), dtype = params["W_hq"].shape, str(params["W_hq"].dtype)
        if (V, H, dtype) not in opened:
            if "keras" in base:
                policy = "float64" if "float64" in dtype else "float32"
                sys.modules["keras"].config.set_dtype_policy(policy)
            opened[V, H, dtype] = OPEN[base](lambda: make(V, H), args, kwargs)
        shapes, run = opened[V, H, dtype]
        # The small case's sizes differ, so that the shapes say which parameter is which.
        if not mapping:
            try:
                mapping.update(map_parameters(shapes, case, own))
            except TypeError as error:
                missing = "" if "state" in kinds else "its call has no argument for the state, and "
                raise TypeError(f"{missing}{error}") from error
        return run({path: compute(params) for path, compute in mapping.items()}, args, kwargs)

    kinds = [kind for kind in ("x", "state", "c") if kind in names.values()]
    parameters = [
        inspect.Parameter(kind, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        for kind in (*kinds, "params")
    ]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.layer = f"{base} ({options.cell})"  # type: ignore[attr-defined]
    # Layers of Keras have one layout.
    call.is_batch_major = base == "keras.Layer" and not own  # type: ignore[attr-defined]
    return call


def _bind(method: Any, num_states: int) -> tuple[dict[str, str], dict[str, bool]]:
    """Return the kind of each argument of a layer's call, by name, and the flags to pass."""
    remaining = ["x", "state", "c"][: 1 + num_states]
    words = {w: kind for kind in reversed(remaining) for w in naming.WORDS[kind].split()}
    bound, flags = dict[str, str](), dict[str, bool]()
    for name, parameter in inspect.signature(method).parameters.items():
        kind = words.get(normalize(name), "")
        is_positional = parameter.kind in (0, 1)
        is_required = parameter.default is parameter.empty and is_positional
        may_be_state = parameter.default is None and name not in OTHER_ARGUMENTS
        if name in FLAGS:
            flags[name] = FLAGS[name]
        elif kind not in remaining and remaining and (is_required or (bound and may_be_state)):
            kind = remaining[0]
        if kind in remaining:
            bound[name] = kind
            remaining.remove(kind)
    if "x" not in bound.values():
        raise TypeError("its call has no argument for the inputs")
    return bound, flags


def _open_torch(make: Callable[[], Any], _args: Any, _kwargs: Any) -> Opened:
    torch, module = sys.modules["torch"], make().eval()
    tables = [n for n, m in module.named_modules() if isinstance(m, torch.nn.Embedding)]
    names = {name: name for name, _ in module.named_parameters()}
    names |= {f"{name}.weight": f"{name}.embedding" for name in tables}
    shapes = {names[name]: tuple(param.shape) for name, param in module.named_parameters()}

    def call(params: Any, args: Any, kwargs: Any) -> Any:
        values = {name: params[path] for name, path in names.items()}
        return torch.func.functional_call(module, values, args, kwargs)

    return shapes, call


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


def _open_object(make: Callable[[], Any], _args: Any, _kwargs: Any) -> Opened:
    layer, shapes = make(), dict[str, tuple[int, ...]]()
    method = next(name for name in METHODS[OBJECT] if hasattr(layer, name))
    for name, value in vars(layer).items():
        values = {f"{name}/{key}": v for key, v in value.items()} if isinstance(value, dict) else {}
        for path, array in (values or {name: value}).items():
            if name[0] != "_" and hasattr(array, "shape") and hasattr(array, "dtype"):
                shapes[path] = tuple(array.shape)

    def call(params: Any, args: Any, kwargs: Any) -> Any:
        changed = copy.copy(layer)
        for path, tensor in params.items():
            name, _, key = path.partition("/")
            vars(changed)[name] = {**vars(changed)[name], key: tensor} if key else tensor
        return getattr(changed, method)(*args, **kwargs)

    return shapes, call


OPEN = {
    OBJECT: _open_object,
    "torch.nn.Module": _open_torch,
    "keras.Layer": _open_keras,
    "flax.linen.Module": _open_linen,
    "flax.nnx.Module": _open_nnx,
}
