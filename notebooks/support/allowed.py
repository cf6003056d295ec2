"""The names that a graded function may use.

A framework's modules give access to files, to the project's functions and to the code that grades,
so a function may use only these imports, project functions, built-ins and attributes.
"""

import ast
import symtable

STANDARD_LIBRARY = "functools itertools math time typing"
IMPORTS = {
    "numpy": "numpy",
    "torch": "torch torch.nn torch.nn.functional numpy",
    "tensorflow": "tensorflow numpy",
    "mxnet": "mxnet numpy",
    "jax": "jax jax.lax jax.nn jax.numpy jax.scipy.special jax.tree_util numpy",
}
# Project functions that are not the solution of an exercise, and those for one exercise.
HELPERS = "array context detach gate get_device init_state log_softmax run_on_model_device tensor"
CALLED = {
    "step": "CELLS rnn",
    "bptt": "encode loss loss_backward",
    "predict": "encode",
}
BUILTINS = """
    AssertionError Exception False IndexError KeyError None NotImplementedError RuntimeError True
    TypeError ValueError ZeroDivisionError abs all any bool dict divmod enumerate filter float
    frozenset int isinstance iter len list map max min next pow print range reversed round set slice
    sorted str sum tuple zip
"""
# Names that may follow a dot or `from MODULE import`, for every module and object. None of them
# reads or writes files, runs code from strings, or leads to a module with such a function.
ATTRIBUTES = """
    autograd functional lax linalg math nd nn np npx numpy random scipy special tree tree_util

    T X Y all any argmax argmin argsort as_in_ctx as_list asnumpy astype attach_grad bool clone
    contiguous copyto cpu ctx cumsum data detach device dim double dtype expand expand_as flatten
    float gather get_shape grad int item long mT map max mean min ndim numel permute prod ravel
    read_value repeat requires_grad reshape round scatter scatter_ shape size sort split squeeze std
    sum swapaxes t take to tolist transpose type unbind unsqueeze value view

    abs absolute accumulate activation add add_ add_n addcdiv_ addcmul_ addmm amax arange array
    array_split as_tensor asarray assign assign_add assign_sub at atleast_2d batch_dot bias_add bmm
    broadcast_to cast cat ceil chain chunk clamp clamp_ clip clip_by_value column_stack concat
    concatenate cond constant convert_to_tensor copy_ copysign cross_entropy cumprod cycle diag
    diagonal div div_ divide divide_no_nan dot einsum empty empty_like equal erf exp exp_
    expand_dims expm1 eye fill_ finfo flip floor fori_loop from_numpy fsum full full_like
    fully_connected gather_nd global_norm greater greater_equal hstack hypot identity index_add_
    index_select inner isclose isfinite isinf islice isnan l2_loss leaves less less_equal log log1p
    log2 log_softmax logaddexp logical_and logical_not logical_or logsumexp map_fn masked_fill
    matmul maximum meshgrid minimum mm moveaxis mul mul_ multiply nan nan_to_num neg negative
    newaxis nll_loss nonzero norm not_equal one_hot ones ones_like outer pad pairwise partial pick
    pow power product put_along_axis range reciprocal reduce reduce_logsumexp reduce_max reduce_mean
    reduce_min reduce_sum relu reverse roll rsqrt scan scatter_nd searchsorted select set sigmoid
    sign softmax softmax_cross_entropy_with_logits sparse_softmax_cross_entropy_with_logits sqrt
    sqrt_ square squared_difference stack stop_gradient sub sub_ subtract take_along_axis tanh
    tensor tensor_scatter_nd_update tensordot tile topk tree_leaves tree_map tri tril triu
    true_divide unstack vdot vector_norm vstack where while_loop zero_ zeros zeros_like zip_longest

    bool_ e float16 float32 float64 inf int32 int64 newaxis pi uint8
    choice multinomial normal rand uniform
    enable_grad errstate function inference_mode jit no_grad pause record value_and_grad vmap

    Any Callable Dict List Optional Tuple Union
    append clear copy count extend fromkeys get index insert items join keys pop remove setdefault
    startswith update values

    beta1 beta2 c_m c_v cell dropout embedding epsilon forward loss lr num_hiddens num_layers
    num_states optimizer options params slots theta to_arrays valid_loss vocab_size weight_decay

    monotonic perf_counter perf_counter_ns process_time time
"""
# Attributes that may be assigned. In NumPy, `data` is the address of an array's elements.
ASSIGNED = {"grad"}
ASSIGNED_IN_TORCH = {"data", "grad"}
ANNOTATED = ("annotation", "returns")  # fields with annotations
# Expressions that only name a type. As annotations, they have no effect.
TYPE = ast.Attribute | ast.BinOp | ast.BitOr | ast.Constant | ast.List | ast.Name | ast.Subscript
TYPE |= ast.Tuple | ast.expr_context
ADVICE = (
    "Use its arguments, your own functions, and the usual functions of Python and the framework."
)


def list_free(name: str) -> set[str]:
    """Return the names that the function `name` may use without defining them."""
    return {*BUILTINS.split(), *HELPERS.split(), *CALLED.get(name, "").split()}


def find_refused(source: str, backend: str, name: str) -> str:
    """Return a name that the source of the function `name` may not use, or ""."""
    used = _list_used(ast.parse(source), backend)
    used += _list_names(symtable.symtable(source, "", "exec"), name)
    return next((word for word, allowed in used if word not in allowed or "__" in word), "")


def _list_used(tree: ast.Module, backend: str) -> list[tuple[str, set[str]]]:
    """Return imported modules and names after dots, each with the names allowed in its place."""
    modules = {*STANDARD_LIBRARY.split(), *IMPORTS[backend].split()}
    attributes = {*ATTRIBUTES.split()}
    assigned = ASSIGNED_IN_TORCH if backend == "torch" else ASSIGNED
    fields = [getattr(node, field, None) for node in ast.walk(tree) for field in ANNOTATED]
    parts = [[*ast.walk(annotation)] for annotation in fields if annotation]
    types = {node for nodes in parts if all(isinstance(n, TYPE) for n in nodes) for node in nodes}
    used = list[tuple[str, set[str]]]()
    for node in ast.walk(tree):
        names = [alias.name for alias in getattr(node, "names", []) if not isinstance(alias, str)]
        if isinstance(node, ast.Import):
            used += [(module, modules) for module in names]
        elif isinstance(node, ast.ImportFrom):
            used += [(f"{'.' * node.level}{node.module}", modules)]
            used += [(word, attributes) for word in names]
        elif isinstance(node, ast.Attribute) and node not in types:
            used += [(node.attr, attributes if isinstance(node.ctx, ast.Load) else assigned)]
        elif isinstance(node, ast.MatchClass):  # a pattern that reads attributes
            used += [(word, attributes) for word in node.kwd_attrs]
    return used


def _list_names(table: symtable.SymbolTable, name: str) -> list[tuple[str, set[str]]]:
    """Return the names in all scopes, each with the names allowed in its place."""
    defined = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}
    free = (list_free(name) | defined) - {name}
    used, tables = list[tuple[str, set[str]]](), [table]
    for scope in tables:  # the list grows as scopes contain other scopes
        tables += scope.get_children()
        for symbol in scope.get_symbols():
            word = symbol.get_name()
            is_free = symbol.is_referenced() and (scope is table or symbol.is_global())
            used.append((word, free if is_free else {word}))
    return used
