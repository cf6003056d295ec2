"""Recognize what other names mean: of functions, of their arguments, and of parameters."""

import ast
import contextlib
import inspect
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from ..contract import CELLS, OPTIMIZERS

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
    "adam": "adam_update adam_step adam_w adamw",
    "init_params": "get_params init_params",
    "predict": "predict_ch8 generate",
    "train_epoch": "train_epoch_ch8",
    "forward": "rnn_forward forward_pass lstm_forward gru_forward run_rnn",
}
# Words in the names of functions that use a cell but do not compute its step.
OTHER_TASKS = {"train", "init", "make", "build", "plot", "test", "sample", "predict"}
OTHER_TASKS |= {"evaluate", "backward"}
# Words that together name a contract function.
WORD_PAIRS = {
    "clip": ("clip clipping", "grad grads gradient gradients norm global"),
    "loss": ("cross xent nll softmax", "entropy xent nll loss"),
}
# Words that name an argument, without capitals and underscores.
WORDS = {
    "x": "x xt xs input inputs token tokens ids idx indices seq sequence embs emb",
    "state": "state states hidden hiddens carry hx h h0 ht hprev prevh hiddenstate initstate "
    "prevstate hstate initialstate initialcarry carry hc",
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
    "betas": "betas",
    "epsilon": "eps epsilon",
    "weight_decay": "weightdecay wd decay",
    "t": "t timestep i iteration numupdates",
    "vocab_size": "vocabsize vocab numclasses depth size numtokens v",
    "num_hiddens": "numhiddens hiddensize hidden h numhidden",
    "device": "device ctx",
    "prefix": "prefix prompt",
    "num_preds": "numpreds length numtokens n",
    "model": "model net",
    "vocab": "vocab",
    "choose_token": "choosetoken choose",
}
# Words that name a gate.
GATE_WORDS = {"input": "i", "forget": "f", "output": "o", "update": "z", "reset": "r", "new": "n"}
GATE_WORDS |= {"cell": "c", "memory": "c"}
PACKED = {  # words for parameters that contain all gates
    "W_x": "wx wih wxh wi kernel",
    "W_h": "wh whh u recurrentkernel",
    "b": "b bias bx bh",
    "W_hq": "wo wy why whq wout",
    "b_q": "bo by bq bout",
}


def normalize(name: str) -> str:
    """Return a name without capitals and underscores."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def list_roles(name: str, known: Callable[[str], Any]) -> list[tuple[str, str]]:
    """Return the contract functions that a name could mean, each with its cell or "".

    `known` returns a value for the name of a contract function.
    """
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    snake = re.sub(r"(?<![a-z])(lstm|gru|rnn)(?=(cell|model|net|lm)(?![a-z]))", r"\1_", snake)
    words = [word for word in snake.split("_") if word]
    extra = {"cell", "scratch", "my", "layer", "model", "net", "lm", "ch8", "simple", "vanilla"}
    extra |= {"optimizer", "optim", "opt"}
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
    if not named:
        named = [other for other, names in OTHER_NAMES.items() if base in names.split()]
    if not named:
        pairs = ((role, map(str.split, pair)) for role, pair in WORD_PAIRS.items())
        named = [role for role, pair in pairs if all({*words} & {*group} for group in pair)]
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


def find_packed(function: Any, cell: str) -> dict[str, str]:
    """Return words for parameters that contain all gates (W_x, W_h, b), or {} if there are none."""
    words = {*map(normalize, list_words(function, with_callees=True))}
    if len(CELLS[cell].gates) == 1 or any(f"wx{gate}" in words for gate in CELLS[cell].gates):
        return {}
    found = {word: name for name, known in PACKED.items() for word in known.split()}
    found = {word: name for word, name in found.items() if word in words}
    return found if {"W_x", "W_h"} <= {*found.values()} else {}


def find_gate_order(function: Any, cell: str) -> list[str]:
    """Return a cell's gates in the order in which a function assigns to their names, or []."""
    singles, orders = list[str](), list[list[str]]()
    with contextlib.suppress(SyntaxError):
        for node in ast.walk(ast.parse(get_source(function, with_callees=True))):
            if isinstance(node, ast.Assign):
                targets = getattr(node.targets[0], "elts", node.targets)
                found = [find_gate(getattr(target, "id", ""), cell) for target in targets]
                if len(found) > 1:
                    orders.append(found)
                singles += found[:1] if len(found) == 1 and found[0] else []
    orders = [*orders, [*dict.fromkeys(singles)]]
    return next((found for found in orders if sorted(found) == sorted(CELLS[cell].gates)), [])


def has_state_first(function: Any) -> bool:
    """Return whether a function concatenates the state and the inputs in this order."""
    found = re.search(
        r"(?:cat|concat|concatenate|hstack)\(\s*[\[(]\s*([\w.]+)", get_source(function)
    )
    return bool(found and normalize(found[1].split(".")[-1]) in WORDS["state"].split())


def find_gate(name: str, cell: str) -> str:
    """Return the gate that a name means (i, i_t, it, input_gate, W_i, ...), or ""."""
    letters = {gate: gate for gate in CELLS[cell].gates}
    letters["candidate"] = CELLS[cell].gates[-1]
    letters |= {"g": "c"} if cell == "lstm" else {"u": "z", "n": "h"} if "z" in letters else {}
    for word in reversed(re.split("[^a-z]+", name.lower())):
        word = GATE_WORDS.get(word.removesuffix("gate"), word)
        if letter := letters.get(word.removesuffix("t")):
            return letter
    return ""


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
    words |= dict.fromkeys(("e", "emb", "embed", "embedding", "we", "wte"), "W_e")
    words |= {"why": "W_hq", "wq": "W_hq", "wy": "W_hq", "by": "b_q", "bq": "b_q", "whq": "W_hq"}
    if CELLS[cell].gates == ("h",):
        words |= {"wax": "W_xh", "waa": "W_hh", "ba": "b_h", "wya": "W_hq", "who": "W_hq"}
        words |= {"bo": "b_q", "u": "W_xh", "w": "W_hh", "v": "W_hq", "b": "b_h", "c": "b_q"}
        words |= {"wih": "W_xh", "wxh": "W_xh", "whh": "W_hh"}
    words |= {normalize(name): name for name in names}
    return {word: name for word, name in words.items() if name in names}


def guess_cell(function: Any) -> str:
    """Return the cell whose parameters a function or what it calls mentions; by default, rnn."""
    words = {*map(normalize, list_words(function, with_callees=True))}
    for cell, word in (("lstm", "wxf"), ("gru-after", "bhh"), ("gru", "wxz")):
        if word in words:
            return cell
    names = [function.__name__, *re.findall(r"def (\w+)", get_source(function, with_callees=True))]
    found = re.search("lstm|gru", " ".join(names).lower())
    return found[0] if found else "rnn"


def bind_arguments(function: Any, kinds: Sequence[str], words: dict[str, str]) -> list[str] | None:
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


def find_order(function: Any, words: dict[str, str]) -> list[str]:
    """Return the parameters' names in the order in which the function unpacks a list of them."""
    with contextlib.suppress(SyntaxError):
        for node in ast.walk(ast.parse(get_source(function))):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple | ast.List):
                names = [getattr(target, "id", "") for target in node.targets[0].elts]
                found = [words.get(normalize(name), "") for name in names]
                if len(found) > 2 and all(found) and len({*found}) == len(found):
                    return found
    return []


def find_keys(function: Any, words: dict[str, str]) -> dict[str, str]:
    """Return the strings in a function that mean parameters, with the contract's names."""
    source = get_source(function, with_callees=True)
    strings = re.findall(r"[\"']([A-Za-z_]\w*)[\"']", source)
    return {s: words[normalize(s)] for s in strings if normalize(s) in words}


def list_words(function: Any, with_callees: bool = False) -> list[str]:
    """Return the words in the source of a function or class."""
    return re.findall(r"\w+", get_source(function, with_callees))


def get_source(function: Any, with_callees: bool = False) -> str:
    """Return the source of a function or class without indentation, or "".

    With callees, the sources of the functions follow that it calls in the same file.
    """
    if isinstance(function, type):  # of which `inspect` finds no source, unlike of its methods
        methods = filter(inspect.isfunction, vars(function).values())
        return "".join(get_source(method, with_callees) for method in methods)
    function = inspect.unwrap(function)
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        return ""
    for name in dict.fromkeys(re.findall(r"\w+", source)) if with_callees else ():
        value: Any = getattr(function, "__globals__", {}).get(name)
        callee = inspect.unwrap(value)
        if inspect.isfunction(callee) and callee.__module__ == "user_file":
            source += get_source(callee) if callee is not function else ""
    return source
