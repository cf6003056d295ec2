"""The forms of losses, clipping, optimizers, one-hot encoding and initial states."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..contract import OPTIMIZERS, ModelConfig, UpdateRule
from ..training import schedule
from . import naming
from .case import Case
from .forms import PROBE_THETA, Form, find_array_module, find_device, get_shape
from .results import Result


def list_loss_forms(role: str, function: Any, case: Case) -> Iterator[Form]:
    """Yield the forms of `loss`."""
    bound = naming.bind_arguments(function, ["logits", "targets"], {})
    if not bound or len(bound) < 2:
        return
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
            result = function(*(values[kind] for kind in bound))
            if isinstance(result, tuple) and get_shape(result[0]) in ((), (-1,)):
                result = result[0]  # the loss and the gradient
            return module.mean(result) if get_shape(result)[:1] == get_shape(logits)[:1] else result

        adapted.__name__ = role
        yield Form(role, adapted, f"`loss` with {', '.join(bound)}: {what}")


def list_clip_forms(role: str, function: Any, case: Case) -> Iterator[Form]:
    """Yield the forms of `clip`: gradients in a dict or list, or in `.grad` of parameters."""
    bound = naming.bind_arguments(function, ["grads", "theta", "params"], {})
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
            if isinstance(result, tuple) and len(result) == 2 and get_shape(result[1]) == ():
                result, norm = result
            elif isinstance(result, tuple) and len(result) == 2 and get_shape(result[0]) == ():
                norm, result = result
            elif result is not None and get_shape(result) == ():
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
        # Many add a tiny number to the norm, which PyTorch's 1e-6 is not.
        yield Form(role, adapted, f"`clip` with {container}", tolerance=1e-9)


def list_optimizer_forms(role: str, function: Any, case: Case) -> Iterator[Form]:
    """Yield the forms of an optimizer: separate hyperparameters, one array or all at a time."""
    kinds = ["params", "grads", "lr", "batch_size", "slots", "update", "m", "v", "beta1", "beta2"]
    kinds += ["epsilon", "weight_decay", "t"]
    bound = naming.bind_arguments(function, kinds, {})
    if not bound:
        return
    has_grad = "grads" not in bound
    if has_grad and case.backend.name not in ("torch", "mxnet"):
        return
    worked = list[str]()
    for container in ("list", "dict", "array"):
        if worked:
            return  # code that reads several arrays may also read the rows of one

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
                is_many = container != "array" and parts and get_shape(parts[0]) != (-1,)
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
            worked.append(container)
            return new, slots | {slot: named for slot, named in new_slots.items() if named}

        what = {"list": "lists", "dict": "dicts", "array": "one array at a time"}[container]
        adapted.__name__ = role
        yield Form(role, adapted, f"`{role}` with {', '.join(bound)}: {what}")


def list_optimizer_class_forms(role: str, cls: type, case: Case) -> Iterator[Form]:
    """Yield the forms of an optimizer that is a class, whose objects keep the slots."""
    names = OPTIMIZERS[role].hyperparameters
    kinds = ["params", "lr", *names, *["betas"] * ("beta2" in names)]
    made_from = naming.bind_arguments(cls, kinds, {})
    name = next(
        (m for m in ("step", "update", "apply_gradients", "__call__") if hasattr(cls, m)), ""
    )
    if made_from is None or not name:
        return
    bound = naming.bind_arguments(
        getattr(cls, name), ["self", "params", "grads"], {"gradsandvars": "pairs"}
    )
    bound = bound[1:] if bound else []
    has_grad = not {"grads", "pairs"} & {*bound}
    if has_grad and case.backend.name not in ("torch", "mxnet"):
        return
    for container in ("list", "dict"):
        updating: dict[str, Any] = {}  # the object, and the parameters that it updates

        def adapted(
            params: Any,
            grads: Any,
            slots: Any,
            update: Any,
            pack: Callable = dict if container == "dict" else lambda tensors: [*tensors.values()],
            updating: dict[str, Any] = updating,
        ) -> Any:
            if np.isclose(update.c_m, 1 - update.beta1):  # the first update
                values = update._asdict() | {"betas": (update.beta1, update.beta2)}
                updating["params"] = params
                given = {**values, "params": pack(params)}
                updating["object"] = cls(*(given[kind] for kind in made_from))
            params = updating["params"]
            for parameter in params if has_grad else ():
                params[parameter].grad = _copy(case, grads[parameter])
            pairs = [*zip(grads.values(), params.values())]
            given = {"params": pack(params), "grads": pack(grads), "pairs": pairs}
            result = getattr(updating["object"], name)(*(given[kind] for kind in bound))
            result = given["params"] if result is None else result
            updating["params"] = result if isinstance(result, dict) else dict(zip(params, result))
            return updating["params"], slots

        def check(case: Case) -> Iterator[Result]:
            """Compare the parameters after each of several updates by one object."""
            _, grads, _ = case.reference.gradients()
            scale = 4 / max(np.abs(grad).max() for grad in grads.values())
            model, rule = case.model(optimizer=role), UpdateRule(0.1, optimizer=role)
            for t, factor in enumerate((3.0, 0.01, 2.0), 1):
                tensors = {
                    n: case.tensor((g * scale * factor).astype(g.dtype)) for n, g in grads.items()
                }
                model.params, model.slots = case.scratch.OPTIMIZERS[role](
                    model.params, tensors, model.slots, schedule.correct_bias(rule, t)
                )
                yield Result(f"parameters after update {t}", model.to_arrays(model.params))

        adapted.__name__ = check.__name__ = role
        yield Form(role, adapted, f"`{role}` as a class: `{name}`, a {container}", check=check)


def list_encode_forms(role: str, function: Any, case: Case) -> Iterator[Form]:
    """Yield the form of `encode` with the number of tokens instead of the parameters."""
    bound = naming.bind_arguments(function, ["x", "vocab_size"], {})

    def adapted(tokens: Any, params: Any) -> Any:
        values = {"x": tokens, "vocab_size": params["b_q"].shape[0]}
        vectors = case.to_arrays(function(*(values[kind] for kind in bound or ())))
        return case.tensor(vectors.astype(case.to_arrays(params["b_q"]).dtype))

    adapted.__name__ = role
    yield Form(role, adapted, "`encode` with tokens and the number of tokens")


def list_state_forms(role: str, function: Any, case: Case) -> Iterator[Form]:
    """Yield the form of `init_state` with sizes instead of options."""
    bound = naming.bind_arguments(function, ["batch_size", "num_hiddens", "device"], {})

    def adapted(batch_size: int, options: ModelConfig) -> Any:
        values = {"batch_size": batch_size, "num_hiddens": options.num_hiddens}
        values["device"] = find_device(case)
        state = function(*(values[kind] for kind in bound or ()))
        state = state if isinstance(state, tuple | list) else (state,)
        return tuple(case.tensor(case.to_arrays(s).astype(options.dtype)) for s in state)

    cell = case.options.cell
    adapted.__name__ = role
    yield Form(role, adapted, "`init_state` with the numbers of rows and hidden units", cell)


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
