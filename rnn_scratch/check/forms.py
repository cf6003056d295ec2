"""Adapt functions to the contract: other names, orders of arguments, containers and layouts.

`find_form` calls a function on a small drawn case, in the contract's form first and then in each
other form that its parameters allow. The first form whose results have the right shapes is taken;
the sizes of the small case are all different, so that a wrong layout has a wrong shape.
"""

import ast
import contextlib
import functools
import importlib
import inspect
import itertools
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from ..contract import CELLS, OPTIMIZERS, Backend, ModelConfig, UpdateRule
from . import runner
from .case import Case, make_case
from .draws import CaseSpec
from .results import describe_error

NETWORK = ("step", "forward")  # in addition to cells
# Other names of contract functions, in snake case.
OTHER_NAMES = {
    "clip": "grad_clipping clip_gradients clip_grads clip_grad clip_gradient clip_grad_norm "
    "clip_grad_norm_ clip_by_global_norm gradient_clipping",
    "encode": "one_hot one_hot_encode onehot",
    "init_state": "init_rnn_state begin_state init_hidden init_gru_state init_lstm_state",
    "loss": "cross_entropy cross_entropy_loss softmax_cross_entropy loss_fn compute_loss",
    "momentum": "sgd_momentum momentum_sgd",
    "sgd": "sgd_update sgd_step update_params gradient_descent",
    "adam": "adam_update adam_step",
    "predict": "predict_ch8 generate",
    "forward": "rnn_forward forward_pass lstm_forward gru_forward run_rnn",
}
# Words in the names of functions that use a cell but do not compute its step.
OTHER_TASKS = {"train", "init", "make", "build", "plot", "test", "sample", "predict"}
OTHER_TASKS |= {"evaluate", "backward"}
# Words that name an argument, without capitals and underscores.
WORDS = {
    "x": "x xt xs input inputs token tokens ids idx indices seq sequence embs emb",
    "state": "state states hidden hiddens carry hx h h0 ht hprev prevh hiddenstate initstate "
    "prevstate hstate initialstate",
    "c": "c c0 ct cprev prevc cell cellstate memory",
    "params": "params parameters weights param p w net model theta",
    "options": "options config cfg",
    "logits": "logits yhat pred preds predictions outputs output scores ypred out",
    "targets": "targets target labels label y ytrue t",
    "grads": "grads gradients grad gradient g dparams dw",
    "theta": "theta maxnorm threshold gradclipval limit clip maxgradnorm maxgrad value clipnorm",
    "lr": "lr learningrate eta alpha stepsize rate",
    "batch_size": "batchsize batch n bs num",
    "slots": "slots",
    "update": "update rule",
    "m": "m velocity velocities vel moment firstmoment ms",
    "v": "v secondmoment s vs squares",
    "beta1": "beta1 momentum mu b1 gamma beta rho",
    "beta2": "beta2 b2",
    "epsilon": "eps epsilon",
    "weight_decay": "weightdecay wd decay",
    "t": "t timestep i iteration numupdates",
    "vocab_size": "vocabsize numclasses depth size numtokens v",
    "num_hiddens": "numhiddens hiddensize hidden h numhidden",
    "device": "device ctx",
    "prefix": "prefix prompt",
    "num_preds": "numpreds length numtokens n",
    "model": "model net",
    "vocab": "vocab",
    "choose_token": "choosetoken choose",
}
PROBE_THETA = 0.5  # smaller than the norm of the small case's gradients
ARRAY_MODULES = {
    "jax": "jax.numpy",
    "mxnet": "mxnet.np",
    "tensorflow": "tensorflow.experimental.numpy",
}


class Form(NamedTuple):
    """A user's function, adapted to the contract's signature."""

    role: str  #: name of the contract function that it implements
    function: Callable[..., Any]
    description: str = ""  #: how it differs from the contract's form; empty if it does not
    cell: str = ""  #: the cell that it computes, if only one
    overrides: dict[str, Any] = {}  #: values of `ModelConfig` that it requires
    is_plain: bool = True  #: whether it needs one layer without embedding and dropout


def normalize(name: str) -> str:
    """Return a name without capitals and underscores."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def list_roles(name: str, known: Callable[[str], Any]) -> list[tuple[str, str]]:
    """Return the contract functions that a name could mean, each with its cell or "".

    `known` returns a value for the name of a contract function.
    """
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    snake = re.sub(r"(?<![a-z])(lstm|gru|rnn)(?=(cell|model|net)\b)", r"\1_", snake)
    words = [word for word in snake.split("_") if word]
    extra = {"cell", "scratch", "my", "layer", "model", "net", "lm", "ch8", "simple", "vanilla"}
    base = "_".join(word for word in words if word not in extra)
    named = [role for role, names in OTHER_NAMES.items() if snake.strip("_") in names.split()]
    cells = [cell for cell in CELLS if cell in (base, base.replace("_", "-"))]
    cells = cells or [cell for cell in ("lstm", "gru", "rnn") if cell in words]
    if known(name):
        named = [name]
    if not named and OTHER_TASKS & {*words}:
        return []
    if cells and not (named and named[0] != cells[0].replace("-", "_")):
        roles = [(cell.replace("-", "_"), cell) for cell in cells]
        return [*roles, *((role, cells[0]) for role in NETWORK)]
    if not named and known(base):
        named = [base]
    if not named and len(name) > 3 and len(words) == 1:
        candidates = [*OPTIMIZERS, *NETWORK, *OTHER_NAMES, "encode", "loss"]
        named = [other for other in candidates if _is_one_edit_away(snake, other)]
    return [(role, cells[0] if cells else "") for role in named[:1]]


def _is_one_edit_away(name: str, other: str) -> bool:
    """Return whether one insertion, deletion, replacement or exchange of letters is between two."""
    if abs(len(name) - len(other)) > 1:
        return False
    pairs = [(name[:i], name[i:]) for i in range(len(name) + 1)]
    letters = "abcdefghijklmnopqrstuvwxyz_"
    edits = {a + b[1:] for a, b in pairs if b}
    edits |= {a + b[1] + b[0] + b[2:] for a, b in pairs if b[1:]}
    edits |= {a + letter + b[1:] for a, b in pairs for letter in letters if b}
    edits |= {a + letter + b for a, b in pairs for letter in letters}
    return other in edits


def parameter_words(cell: str, names: Sequence[str]) -> dict[str, str]:
    """Return other words for a cell's parameters, without capitals, and the contract's names."""
    words: dict[str, str] = {}
    letters = {"lstm": {"c": "cg"}, "gru": {"h": "hn"}, "gru-after": {"h": "hn"}}.get(cell, {})
    for gate in CELLS[cell].gates:
        for letter in letters.get(gate, gate):
            words |= {f"wx{letter}": f"W_x{gate}", f"wh{letter}": f"W_h{gate}"}
            words |= {f"wi{letter}": f"W_x{gate}", f"u{letter}": f"W_h{gate}"}
            words |= {f"w{letter}": f"W_x{gate}", f"b{letter}": f"b_{gate}"}
            words |= {f"w{letter}x": f"W_x{gate}", f"w{letter}h": f"W_h{gate}"}
    words |= {"why": "W_hq", "wq": "W_hq", "wy": "W_hq", "by": "b_q", "bq": "b_q", "whq": "W_hq"}
    if CELLS[cell].gates == ("h",):
        words |= {"wax": "W_xh", "waa": "W_hh", "ba": "b_h", "wya": "W_hq", "who": "W_hq"}
        words |= {"bo": "b_q", "u": "W_xh", "w": "W_hh", "v": "W_hq", "b": "b_h", "c": "b_q"}
        words |= {"wih": "W_xh", "wxh": "W_xh", "whh": "W_hh"}
    words |= {normalize(name): name for name in names}
    return {word: name for word, name in words.items() if name in names}


def find_form(backend: Backend, original: Callable[[str], Any], name: str, value: Any) -> Any:
    """Return the Form of a user's function, or a sentence that says why it has none.

    `original` returns the backend's function of a name. The sentence is empty if the name does not
    mean a contract function.
    """
    problem, function = "", original(name)
    has_signature = function and not runner.find_signature_problem(function, value)
    roles = list_roles(name, original)
    for role, cell in roles:
        make = _FORMS.get("cell" if role.replace("_", "-") in CELLS else role)
        if make is None:
            continue
        for dtype in ("float64", "float32"):
            case = make_small_case(backend, cell or guess_cell(value), dtype)
            expected = find_shapes(case.to_arrays(original(role)(*make_arguments(role, case))))
            if role == name and has_signature:
                with contextlib.suppress(Exception, SystemExit):
                    result = value(*make_arguments(role, case))
                    is_list = isinstance(result, list) and role != "predict"
                    if find_shapes(case.to_arrays(result)) == expected and not is_list:
                        return Form(role, value)
            for form in make(role, value, case):
                try:
                    result = case.to_arrays(form.function(*make_arguments(role, case)))
                except (Exception, SystemExit) as error:
                    problem = problem or f"It raises {describe_error(error)}"  # type: ignore[arg-type]
                    continue
                if find_shapes(result) != expected:
                    problem = problem or f"Its results have the shapes {find_shapes(result)}"
                    continue
                if dtype == "float32":
                    form = form._replace(
                        overrides={"dtype": dtype}, description=f"{form.description}, float32"
                    )
                return form
    if has_signature or (roles and not _FORMS.keys() & {role for role, _ in roles}):
        return Form(name, value) if has_signature or function else ""
    if not function or not roles:
        return ""
    parameters = ", ".join(inspect.signature(function).parameters)
    try:
        found = ", ".join(inspect.signature(value).parameters)
    except (TypeError, ValueError):
        return f"It is not a function with a Python signature, like {name}({parameters})."
    ending = f" {problem}, in the most likely form." if problem else ""
    return f"It has parameters ({found}) instead of ({parameters}).{ending}"


def make_small_case(backend: Backend, cell: str = "rnn", dtype: str = "float64") -> Case:
    """Return a case whose sizes are all different: B = 3, T = 4, H = 5 and V = 7."""
    options = ModelConfig(7, 5, cell, dtype=dtype)
    return make_case(backend, "scratch", CaseSpec(options, 3, 4, 0, seed=0))


def make_arguments(role: str, case: Case) -> tuple[Any, ...]:
    """Return new arguments for a contract function."""
    batch, state = case.minibatch()
    params, reference = case.params(), case.reference
    grads = {n: case.tensor((a * 3 + 0.1).astype(a.dtype)) for n, a in case.arrays.items()}
    if role == "loss":
        logits, _ = reference.forward(reference.model(), case.batch, case.states)
        return case.tensor(logits), batch.Y
    if role == "clip":
        return grads, PROBE_THETA
    if role in OPTIMIZERS:
        model = case.model(optimizer=role)
        return model.params, grads, model.slots, UpdateRule(0.1, optimizer=role, c_m=0.1, c_v=0.001)
    if role == "encode":
        return batch.X, params
    if role == "init_state":
        return case.draw.batch_size, case.options
    if role == "predict":
        return case.model(), [1, 2, 3], 2, lambda logits: int(logits.argmax())
    if role == "forward":
        return batch.X, state, params, case.options
    x = case.tensor(case.first_inputs)
    return (x, state, params, case.options) if role == "step" else (x, state, params)


def find_shapes(value: Any) -> Any:
    """Return the shapes of the arrays in a dict, list or tuple, with their names."""
    if isinstance(value, dict):
        return {name: find_shapes(array) for name, array in sorted(value.items())}
    if isinstance(value, tuple | list):
        return type(value)(map(find_shapes, value))
    return np.shape(value)


def guess_cell(function: Any) -> str:
    """Return the cell whose parameters a function's source mentions; by default, rnn."""
    words = {normalize(word) for word in re.findall(r"\w+", _get_source(function))}
    for cell, word in (("lstm", "wxf"), ("gru-after", "bhh"), ("gru", "wxz")):
        if word in words:
            return cell
    return "rnn"


def _get_source(function: Any) -> str:
    try:
        return textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    except (OSError, TypeError):
        return ""


def _bind(function: Any, kinds: Sequence[str], words: dict[str, str]) -> list[str] | None:
    """Return the kind of each argument to pass, by the parameters' names or, if not, by position.

    Parameters with default values are passed if their names are known.
    """
    allowed = {word: kind for kind in reversed(kinds) for word in WORDS.get(kind, kind).split()}
    known = words | allowed
    bound, parameters = list[str](), inspect.signature(inspect.unwrap(function)).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    for parameter in positional:
        kind = known.get(normalize(parameter.name))
        if kind is None or kind in bound:
            break
        bound.append(kind)
    required = sum(p.default is p.empty for p in positional)
    if len(bound) >= required:
        return bound
    return [*kinds[:required]] if required <= len(kinds) else None


def find_array_module(backend: Backend) -> Any:
    """Return the framework's module of functions like NumPy's."""
    first, *rest = ARRAY_MODULES.get(backend.name, backend.name).split(".")
    return functools.reduce(getattr, rest, importlib.import_module(first))


class Converter:
    """Convert outputs and states to the contract's layout, which the first call determines."""

    def __init__(self, case: Case, role: str, is_transposed: bool = False) -> None:
        """Store what the layout depends on."""
        self.np = find_array_module(case.backend)
        self.role, self.count = role, CELLS[case.options.cell].num_states
        self.is_transposed, self.layout = is_transposed, ""
        self.part: Any = None  # which part of the result is the state

    def __call__(self, result: Any, state: Any, params: Any, num_steps: int) -> Any:
        """Return the next state or, for `step` and `forward`, the logits and the next state."""
        shape = tuple(state[0].shape)
        if self.role not in NETWORK:
            return self.find_state(result, shape, [None, -1, slice(0, self.count), 0])
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
                if part != -1 and any(_shape(v) == shape for v in value[self.count :]):
                    continue
                if part == -1 and [_shape(v) for v in others] != [shape]:
                    continue  # only (h, state)
            tensors = tensors if isinstance(tensors, tuple | list) else (tensors,)
            tensors = tuple(t.T if self.is_transposed and hasattr(t, "T") else t for t in tensors)
            tensors = tuple(t[0] if _shape(t) == (1, *shape) else t for t in tensors)
            if len(tensors) == self.count and all(_shape(t) == shape for t in tensors):
                return tensors
        raise _WrongShapeError(f"the state has the shape {_shapes_of(value)} instead of {shape}")

    def find_logits(self, value: Any, shape: tuple[int, ...], params: Any, num_steps: int) -> Any:
        """Return logits (B, V) of a step, or time-major logits (T*B, V)."""
        B, H = shape
        V, T = params["b_q"].shape[0], num_steps
        if isinstance(value, tuple | list):
            value = self.np.stack([v.T if self.is_transposed else v for v in value])
        found = _shape(value)
        if self.is_transposed and len(found) == 2:
            value = value.T
            found = _shape(value)
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


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(getattr(value, "shape", (-1,)))


def _shapes_of(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_shapes_of, value))})"
    return str(_shape(value))


def _network_forms(role: str, function: Any, case: Case) -> Iterator[Form]:
    """Yield the forms of a cell, `step` or `forward`."""
    cell = case.options.cell
    words = parameter_words(cell, [*case.arrays])
    names = [*case.arrays] if role in NETWORK else [*case.arrays][:-2]
    kinds = ["x", "state", "params", "options"]
    parameters = inspect.signature(inspect.unwrap(function)).parameters
    if CELLS[cell].num_states == 2 and {normalize(n) for n in parameters} & {*WORDS["c"].split()}:
        kinds.insert(2, "c")
    bound = _bind(function, kinds, {w: n for w, n in words.items() if w not in ("c", "h")})
    if bound is None or len(bound) < 2:
        bound = ["x", "state", *names] if len(parameters) == 2 + len(names) else None
    if bound is None:
        return
    if not {"params", *names} & {*bound}:
        return  # without parameters, it is another function
    order = _find_order(function, words) or names
    keys = _find_keys(function, words)
    containers = {
        "a list of parameters": lambda p: [p[name] for name in order],
        "a dict of parameters": lambda p: p | {key: p[name] for key, name in keys.items()},
        "a list of the cell's parameters": lambda p: [p[n] for n in names if n[-1] != "q"],
    }
    if not _find_order(function, words):
        containers = dict(sorted(containers.items(), key=lambda item: item[0]))
    if "params" not in bound:
        containers = {"separate parameters": lambda p: p}
    states: dict[str, Callable] = {"a tuple": tuple, "a list": list}
    if "c" in bound:
        states = {"two tensors": lambda state: state[0]}
    elif CELLS[cell].num_states == 1:
        states["a tensor"] = lambda state: state[0]
    module = find_array_module(case.backend)
    sequence = {"tokens (B, T)": "BT", "one-hot inputs (T, B, V)": "TBV"}
    sequence |= {"one-hot inputs (B, T, V)": "BTV", "tokens (T, B)": "TB"}
    inputs = sequence if role == "forward" else {"one-hot inputs": "x", "tokens": "ids"}
    conventions = {"": False, "column vectors": True}
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
            is_transposed: bool = is_transposed,
            convert: Converter = convert,
        ) -> Any:
            given, shown = (x, state, params, options or case.options), params
            if is_transposed:
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
            if role in NETWORK and converted[1] is None:  # the function returns only outputs
                return converted[0], getattr(case.scratch, role)(*given)[1]
            return converted

        order_text = f" ({', '.join(order)})" if container == "a list of parameters" else ""
        what = f"{read}, the state as {kind}, {container}{order_text}"
        what += f", {convention}" if convention else ""
        adapted.__name__ = role
        yield Form(
            role,
            adapted,
            f"`{role}` with {what}",
            cell,
            is_plain=role in NETWORK or inputs[read] == "ids",
        )


def _find_order(function: Any, words: dict[str, str]) -> list[str]:
    """Return the parameters' names in the order in which the function unpacks a list of them."""
    with contextlib.suppress(SyntaxError):
        for node in ast.walk(ast.parse(_get_source(function))):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple | ast.List):
                names = [getattr(target, "id", "") for target in node.targets[0].elts]
                found = [words.get(normalize(name), "") for name in names]
                if len(found) > 2 and all(found) and len({*found}) == len(found):
                    return found
    return []


def _find_keys(function: Any, words: dict[str, str]) -> dict[str, str]:
    """Return the strings in a function that mean parameters, with the contract's names."""
    strings = re.findall(r"[\"']([A-Za-z_]\w*)[\"']", _get_source(function))
    return {s: words[normalize(s)] for s in strings if normalize(s) in words}


def _loss_forms(role: str, function: Any, case: Case) -> Iterator[Form]:
    """Yield the forms of `loss`."""
    bound = _bind(function, ["logits", "targets"], {})
    module = find_array_module(case.backend)
    layouts = {
        "targets (B, T)": lambda logits, targets: (logits, targets),
        "time-major targets (T*B,)": lambda logits, targets: (
            logits,
            module.reshape(module.swapaxes(targets, 0, 1), (-1,)),
        ),
        "logits (B, T, V)": lambda logits, targets: (
            module.swapaxes(module.reshape(logits, (*targets.shape[::-1], -1)), 0, 1),
            targets,
        ),
    }
    for what, prepare in layouts.items():

        def adapted(logits: Any, targets: Any, prepare: Callable = prepare) -> Any:
            values = dict(zip(("logits", "targets"), prepare(logits, targets)))
            result = function(*(values[kind] for kind in bound or ()))
            return module.mean(result) if _shape(result)[:1] == _shape(logits)[:1] else result

        adapted.__name__ = role
        yield Form(role, adapted, f"`loss` with {', '.join(bound or [])}: {what}")


def _clip_forms(role: str, function: Any, case: Case) -> Iterator[Form]:
    """Yield the forms of `clip`: gradients in a dict or list, or in `.grad` of parameters."""
    bound = _bind(function, ["grads", "theta", "params"], {})
    bound = ["grads" if kind == "params" else kind for kind in bound or []]
    containers = {"a dict of gradients": False, "a list of gradients": False}
    if case.backend.name in ("torch", "mxnet"):
        containers |= {"a list of parameters with `.grad`": True, "a model's `params`": True}
    for container, has_grad in containers.items():

        def adapted(
            grads: Any, theta: Any, container: str = container, has_grad: bool = has_grad
        ) -> Any:
            copies = {n: _copy(case, grad) for n, grad in grads.items()}
            holders = {n: _with_grad(case, g) for n, g in copies.items()} if has_grad else copies
            values = [*holders.values()]
            model = SimpleNamespace(params=values, parameters=lambda: iter(values))
            given: Any = holders if container[2:6] == "dict" else values
            arguments = {"grads": model if "model" in container else given, "theta": theta}
            result = function(*(arguments[kind] for kind in bound))
            norm = case.scratch.clip(grads, theta)[1]
            if isinstance(result, tuple) and len(result) == 2 and _shape(result[1]) == ():
                result, norm = result
            elif isinstance(result, tuple) and len(result) == 2 and _shape(result[0]) == ():
                norm, result = result
            elif result is not None and _shape(result) == ():
                norm, result = result, None
            unchanged = all(
                np.array_equal(case.to_arrays(copies[n]), case.to_arrays(g), equal_nan=True)
                for n, g in grads.items()
            )
            if result is None and not has_grad and unchanged and theta == PROBE_THETA:
                return None  # neither in place nor returned
            if result is None:  # in place
                result = [h.grad if has_grad else h for h in holders.values()]
            named = result if isinstance(result, dict) else dict(zip(grads, result))
            return named, norm

        adapted.__name__ = role
        yield Form(role, adapted, f"`clip` with {container}")


def _optimizer_forms(role: str, function: Any, case: Case) -> Iterator[Form]:
    """Yield the forms of an optimizer: separate hyperparameters, one array or all at a time."""
    kinds = ["params", "grads", "lr", "batch_size", "slots", "update", "m", "v", "beta1", "beta2"]
    kinds += ["epsilon", "weight_decay", "t"]
    bound = _bind(function, kinds, {})
    if not bound:
        return
    has_grad = "grads" not in bound
    if has_grad and case.backend.name not in ("torch", "mxnet"):
        return
    for container in ("list", "dict", "array"):

        def adapted(
            params: Any, grads: Any, slots: Any, update: Any, container: str = container
        ) -> Any:
            names = [*params]
            arrays = case.to_arrays(params)
            options = case.options._replace(dtype=str(arrays["b_q"].dtype))
            holders = case.scratch.init_params(arrays, options)
            if has_grad:
                holders = {n: _with_grad(case, grads[n], p) for n, p in holders.items()}
            count = np.log(max(1 - float(update.c_m), 1e-300)) / np.log(update.beta1)
            values = update._asdict() | {"batch_size": 1, "t": max(round(float(count)), 1)}
            values |= {"update": update, "slots": slots}
            copies = {s: {n: _copy(case, a) for n, a in d.items()} for s, d in slots.items()}
            tensors = {"params": holders, "grads": grads, **copies}
            new: dict[str, Any] = {}
            new_slots: dict[str, dict[str, Any]] = {slot: {} for slot in slots}
            groups = [[name] for name in names] if container == "array" else [names]
            for group in groups:
                given = {
                    kind: tensor[group[0]]
                    if container == "array"
                    else tensor
                    if container == "dict"
                    else [tensor[n] for n in group]
                    for kind, tensor in tensors.items()
                }
                result = function(*(given[k] if k in given else values[k] for k in bound))
                parts = result if isinstance(result, tuple) and len(result) in (2, 3) else None
                is_many = container != "array" and parts and _shape(parts[0]) != (-1,)
                first = result if parts is None or is_many else parts[0]
                first = given["params"] if first is None else first
                first = [first] if container == "array" else first
                new |= first if isinstance(first, dict) else dict(zip(group, first))
                returned = [] if parts is None or is_many else parts[1:]
                for index, slot in enumerate(k for k in bound if k in slots):
                    part = returned[index] if index < len(returned) else given[slot]
                    part = [part] if container == "array" else part
                    named = part if isinstance(part, dict) else dict(zip(group, part))
                    new_slots[slot] |= named
            decay = 0.0
            if not {"weight_decay", "update"} & {*bound}:
                decay = update.lr * update.weight_decay
            new = {n: new[n] - decay * params[n] if decay else new[n] for n in names}
            # Slots that are not the function's arguments are the project's.
            own = case.scratch.init_params(arrays, options)
            _, slots = case.scratch.OPTIMIZERS[role](own, grads, slots, update)
            return new, slots | {slot: named for slot, named in new_slots.items() if named}

        what = {"list": "lists", "dict": "dicts", "array": "one array at a time"}[container]
        adapted.__name__ = role
        yield Form(role, adapted, f"`{role}` with {', '.join(bound)}: {what}")


def _copy(case: Case, tensor: Any) -> Any:
    return case.tensor(np.array(case.to_arrays(tensor)))


def _with_grad(case: Case, grad: Any, param: Any = None) -> Any:
    """Return a parameter whose `.grad` is set."""
    param = _copy(case, grad) if param is None else param
    if hasattr(param, "attach_grad"):  # MXNet
        param.attach_grad()
        param.grad[:] = grad
    else:
        param = param.detach().requires_grad_()
        param.grad = _copy(case, grad)
    return param


def _encode_forms(role: str, function: Any, case: Case) -> Iterator[Form]:
    """Yield the form of `encode` with the number of tokens instead of the parameters."""
    bound = _bind(function, ["x", "vocab_size"], {})

    def adapted(tokens: Any, params: Any) -> Any:
        values = {"x": tokens, "vocab_size": params["b_q"].shape[0]}
        vectors = case.to_arrays(function(*(values[kind] for kind in bound or ())))
        return case.tensor(vectors.astype(case.to_arrays(params["b_q"]).dtype))

    adapted.__name__ = role
    yield Form(role, adapted, "`encode` with tokens and the number of tokens")


def _state_forms(role: str, function: Any, case: Case) -> Iterator[Form]:
    """Yield the form of `init_state` with sizes instead of options."""
    bound = _bind(function, ["batch_size", "num_hiddens", "device"], {})

    def adapted(batch_size: int, options: ModelConfig) -> Any:
        values = {"batch_size": batch_size, "num_hiddens": options.num_hiddens, "device": "cpu"}
        state = function(*(values[kind] for kind in bound or ()))
        state = state if isinstance(state, tuple | list) else (state,)
        return tuple(case.tensor(case.to_arrays(s).astype(options.dtype)) for s in state)

    cell = case.options.cell
    adapted.__name__ = role
    yield Form(role, adapted, "`init_state` with the numbers of rows and hidden units", cell)


_FORMS: dict[str, Callable[[str, Any, Case], Iterator[Form]]] = {
    "cell": _network_forms,
    "step": _network_forms,
    "forward": _network_forms,
    "loss": _loss_forms,
    "clip": _clip_forms,
    "encode": _encode_forms,
    "init_state": _state_forms,
    **dict.fromkeys(OPTIMIZERS, _optimizer_forms),
}
