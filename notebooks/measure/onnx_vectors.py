"""Find the mistakes in a recurrent operator that ONNX's own test vectors do not detect."""

import itertools

import numpy as np


def list_mistakes(inputs, gates):
    """Return the changed inputs of an operator with these gates, for each mistake by name."""
    W, R, B = (inputs[name] for name in "WRB")
    G, H = len(gates), R.shape[2]
    mistakes = {}
    for i, j in itertools.combinations(range(G), 2):
        order = [*range(G)]
        order[i], order[j] = j, i
        rows = np.arange(G * H).reshape(G, H)[order].ravel()
        swapped = {"W": W[:, rows], "R": R[:, rows], "B": B[:, np.append(rows, rows + G * H)]}
        mistakes[f"gates {gates[i]} and {gates[j]} swapped"] = swapped
    transposed = R.reshape(-1, G, H, H).swapaxes(2, 3).reshape(R.shape)
    starts = {name: array * 0 for name, array in inputs.items() if name.startswith("initial")}
    mistakes |= {"R transposed": {"R": transposed}, "R left out": {"R": R * 0}}
    mistakes |= {"the biases left out": {"B": B * 0}, "the initial state left out": starts}
    if "f" in gates:
        first = gates.index("f") * H
        is_forget = (np.arange(B.shape[1]) >= first) & (np.arange(B.shape[1]) < first + H)
        mistakes["a forget bias of +1"] = {"B": B + is_forget.astype(B.dtype)}
    return {name: inputs | changed for name, changed in mistakes.items()}


def list_undetected(cases, gates):
    """Return the mistakes that no case (model, inputs, outputs) detects."""
    from onnx.reference import ReferenceEvaluator

    def is_right(model, inputs, expected):
        results = ReferenceEvaluator(model).run(None, inputs)
        return all(np.allclose(a, b, 1e-5, 1e-7) for a, b in zip(results, expected))

    assert cases
    assert all(is_right(*case) for case in cases)
    undetected = [*list_mistakes(cases[0][1], gates)]
    for model, inputs, expected in cases:
        mistakes = list_mistakes(inputs, gates)
        undetected = [name for name in undetected if is_right(model, mistakes[name], expected)]
    return undetected


def collect(operator):
    """Return ONNX's cases for an operator; a process can call this only once.

    Models without a bias get an input B of zeros, so that mistakes can change it.
    """
    from onnx import helper
    from onnx.backend.test.case.node import collect_testcases

    cases = []
    for case in collect_testcases(operator):
        graph, (given, outputs) = case.model.graph, case.data_sets[0]
        if graph.node[0].op_type != operator:
            continue  # the operator's definition by other operators
        inputs = dict(zip((info.name for info in graph.input), given))
        if "B" not in inputs:
            D, rows, _ = inputs["R"].shape
            inputs["B"] = np.zeros((D, 2 * rows), inputs["R"].dtype)
            kind = helper.np_dtype_to_tensor_dtype(inputs["B"].dtype)
            graph.input.append(helper.make_tensor_value_info("B", kind, inputs["B"].shape))
            names = [*graph.node[0].input]
            del graph.node[0].input[:]
            graph.node[0].input.extend([*names[:3], "B", *names[4:]])
        cases.append((case.model, inputs, outputs))
    return cases
