"""What each optimization of `fast` gains: `python tests/tools/optimizations.py FILE [BACKEND ...]`.

Each is undone by itself, in a copy of the backend. The copy and the original take turns in one
process; the gain is the median, over the turns, of the time without the optimization relative to
the time with it. One thread, float32, the chapter's sizes, unless a Case says otherwise. The gains
go into the record FILE and into the comments of the backends.
"""

import importlib
import json
import re
import statistics
import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rnn_scratch import initial, registry
from rnn_scratch.contract import Options, Update
from rnn_scratch.runs import decoding
from rnn_scratch.system import host, processes

B, T, V = 32, 35, 28
SIZES = (64, 512)  # hidden units
SECONDS, TURNS = 12.0, 7  # for each measurement: at least
LARGE = 5000  # a vocabulary of Chinese, say
COUNTER = count()


class Case(NamedTuple):
    """An optimization: what undoes it, and what it makes faster."""

    name: str  # as in the comment in the backend's code
    changes: tuple[tuple[str, str, str], ...]  # file, text, the text in its place
    what: str = "training"  # or "generation"
    threads: int = 1
    vocabulary: int = V


NUMPY = (
    Case("Rows instead of products", (
        ("fast.py",
         'return ((params["W_e"] @ W_xh if "W_e" in params else W_xh) + b_h)[tokens]',
         'return np.eye(len(params["b_q"]), dtype=b_h.dtype)[tokens] @ (W_xh + b_h)'),
    )),
    Case("Bias in the table", (
        ("fast.py",
         'return ((params["W_e"] @ W_xh if "W_e" in params else W_xh) + b_h)[tokens]',
         "return W_xh[tokens] + b_h"),
    )),
    Case("One output layer", (
        ("fast.py", 'logits = after @ params["W_hq"] + params["b_q"]  # (T*B, V)',
         'logits = np.concatenate([h @ params["W_hq"] + params["b_q"] for h in hiddens[1:]])'),
        ("fast.py", '(d_logits @ params["W_hq"].T).reshape(T, B, H)',
         '[d @ params["W_hq"].T for d in d_logits.reshape(T, B, -1)]'),
    )),
    Case("In place", (
        ("fast.py", "dz[-1] *= d_after[-1]",
         "slopes, dz = dz, np.empty_like(dz)\n    dz[-1] = slopes[-1] * d_after[-1]"),
        ("fast.py", 'dz[t] *= d_after[t] + dz[t + 1] @ params["W_hh"].T',
         'dz[t] = slopes[t] * (d_after[t] + dz[t + 1] @ params["W_hh"].T)'),
        ("fast.py", "np.tanh(z, out=z)", "np.tanh(z)"),
    )),
    Case("One product per gradient", (
        ("fast.py", '"W_hh": before.T @ dz,',
         '"W_hh": sum(a.T @ b for a, b in zip(hiddens[:-1], dz.reshape(T, B, H))),'),
        ("fast.py", '"W_hq": after.T @ d_logits,',
         '"W_hq": sum(a.T @ b for a, b in zip(hiddens[1:], d_logits.reshape(T, B, -1))),'),
    )),
    Case("Sums of sorted rows", (("fast.py", "if size <= 100:", "if True:"),), vocabulary=LARGE),
)  # fmt: skip
PLAIN_LOOP = (
    (
        "fast.py",
        'Recurrence.apply(rows(tokens.T, params), H, params["W_hh"], options)',
        'plain(rows(tokens.T, params), H, params["W_hh"], options)',
    ),
    (
        "fast.py",
        "class Recurrence(",
        "def plain(inputs, H, W_hh, options):\n"
        "    hiddens = []\n"
        "    for x in inputs:\n"
        "        H = torch.tanh(torch.addmm(x, H, W_hh))\n"
        "        hiddens.append(H)\n"
        "    return torch.stack(hiddens)\n\n\n"
        "class Recurrence(",
    ),
)
TORCH = (
    Case("Weights by columns", (
        ("fast.py", 'tensors["W_hq"].T.contiguous().T.requires_grad_()',
         'tensors["W_hq"].clone().requires_grad_()'),
        ("fast.py", "W_hh.T.contiguous().T if len(inputs) > 1 else W_hh", "W_hh"),
    )),
    Case("One output layer", (
        ("fast.py", 'torch.addmm(params["b_q"], outputs, params["W_hq"]), (hiddens[-1],)',
         'torch.cat([torch.addmm(params["b_q"], h, params["W_hq"]) for h in hiddens]), '
         "(hiddens[-1],)"),
    )),
    Case("Rows instead of products", (
        ("fast.py",
         'F.embedding(tokens, (params["W_e"] @ W_xh if "W_e" in params else W_xh) + b_h)',
         'scratch.encode(tokens, {"b_q": params["b_q"]}) @ (W_xh + b_h)'),
    )),
    Case("Bias in the table", (
        ("fast.py",
         'F.embedding(tokens, (params["W_e"] @ W_xh if "W_e" in params else W_xh) + b_h)',
         "F.embedding(tokens, W_xh) + b_h"),
    )),
    Case("Hand-written backward pass", PLAIN_LOOP),
    Case("In place", (
        ("fast.py", "hiddens, h = inputs, H", "hiddens, h = torch.empty_like(inputs), H"),
        ("fast.py", "for z in hiddens.unbind():\n"
         "            h = activation(z.addmm_(h, W), options)  # (B, H)",
         "for t, z in enumerate(inputs.unbind()):\n"
         "            h = torch.tanh(torch.addmm(z, h, W))\n"
         "            hiddens[t] = h"),
        ("fast.py", "ctx.mark_dirty(hiddens)", "pass"),
        ("fast.py", "dz[-1].mul_(d_hiddens[-1])",
         "slopes, dz = dz, torch.empty_like(dz)\n        dz[-1] = slopes[-1] * d_hiddens[-1]"),
        ("fast.py", "dz[t].mul_(torch.addmm(d_hiddens[t], dz[t + 1], W_hh.T))",
         "dz[t] = slopes[t] * torch.addmm(d_hiddens[t], dz[t + 1], W_hh.T)"),
    )),
    Case("One product per gradient", (
        ("fast.py", "hiddens[:-1].flatten(0, 1).T @ dz[1:].flatten(0, 1)",
         "sum(a.T @ b for a, b in zip(hiddens[:-1], dz[1:]))"),
    )),
)  # fmt: skip
TENSORFLOW = (
    Case("One output layer", (
        ("fast.py", 'outputs @ params["W_hq"] + params["b_q"], (hiddens[-1],)',
         'tf.concat([h @ params["W_hq"] + params["b_q"] for h in tf.unstack(hiddens)], 0), '
         "(hiddens[-1],)"),
    )),
    Case("Rows instead of products", (
        ("fast.py",
         'gather((params["W_e"] @ W_xh if "W_e" in params else W_xh) + b_h, tokens)',
         'tf.tensordot(tf.one_hot(tokens, params["b_q"].shape[0], dtype=b_h.dtype), '
         "W_xh + b_h, 1)"),
    )),
    Case("Bias in the table", (
        ("fast.py",
         'gather((params["W_e"] @ W_xh if "W_e" in params else W_xh) + b_h, tokens)',
         "gather(tf.convert_to_tensor(W_xh), tokens) + b_h"),
    )),
    Case("Sums of sorted rows", (
        ("fast.py",
         'gather((params["W_e"] @ W_xh if "W_e" in params else W_xh) + b_h, tokens)',
         "tf.gather(W_xh + b_h, tokens)"),
    )),
    Case("Hand-written backward pass", (
        ("fast.py", "return loop(inputs, H, tf.convert_to_tensor(W_hh))",
         "return plain(inputs, H, tf.convert_to_tensor(W_hh), options)"),
        ("fast.py", "def recurrence(",
         "def plain(inputs, H, W_hh, options):\n"
         "    blocks, hiddens = split(W_hh, options.device), []\n"
         "    for x in tf.unstack(inputs):\n"
         "        H = activation(x + product(H, blocks), options)\n"
         "        hiddens.append(H)\n"
         "    return tf.stack(hiddens)\n\n\n"
         "def recurrence("),
    )),
    Case("Column blocks", (
        ("products.py", "max(1, min(num_threads(), columns // 128))", "1"),
    ), threads=2),
    Case("Transposed once", (
        ("fast.py", 'tf.einsum("ij->ji", W_hh)', "tf.transpose(W_hh)"),
    )),
    Case("One product per gradient", (
        ("fast.py", "return dz, d_H, product(tf.transpose(before), blocks)",
         "pairs = zip(tf.unstack(hiddens[:-1]), tf.unstack(dz))\n"
         "            return dz, d_H, sum(tf.transpose(a) @ b for a, b in pairs)"),
    )),
    Case("Graphs", (("fast.py", "    @tf.function\n", ""),), what="generation"),
)  # fmt: skip
MXNET = (
    Case("One output layer", (
        ("fast.py", 'scratch.loss(affine(after, params["W_hq"], params["b_q"]), Y)',
         'scratch.loss(np.concatenate([affine(h, params["W_hq"], params["b_q"])\n'
         "            for h in split(after, len(H))]), Y)"),
    )),
    Case("Rows instead of products", (
        ("fast.py",
         'np.take((params["W_e"] @ W_xh if "W_e" in params else W_xh) + b_h, tokens, axis=0)',
         'scratch.encode(tokens, {"b_q": params["b_q"]}) @ (W_xh + b_h)'),
    )),
    Case("Bias in the table", (
        ("fast.py",
         'np.take((params["W_e"] @ W_xh if "W_e" in params else W_xh) + b_h, tokens, axis=0)',
         "np.take(W_xh, tokens, axis=0) + b_h"),
    )),
    Case("Graphs", (("fast.py", "@graph\n", ""),)),
    Case("One product per gradient", (
        ("fast.py", "return dz, outer(before, dz)",
         "pairs = zip(split(before, len(H)), split(dz, len(H)))\n"
         "    return dz, sum(outer(a, b) for a, b in pairs)"),
    )),
    Case("Hand-written backward pass", (
        ("fast.py", "options, forward, scratch.state, to_arrays, backward)",
         "options, forward, scratch.state, to_arrays)"),
        ("fast.py", "@graph\n", ""),
    )),
    Case("Transposed products", (
        ("products.py", "npx.fully_connected(W_T, h, num_hidden=len(h), no_bias=True).T",
         "npx.fully_connected(h, W_T, num_hidden=len(W_T), no_bias=True)"),
    )),
    Case("oneDNN products", (
        ("products.py", "return npx.fully_connected(x, y, num_hidden=len(y), no_bias=True)",
         "return x @ y.T"),
        ("products.py", "npx.fully_connected(x, W.T, b, num_hidden=len(b))", "(x @ W + b)"),
    )),
    Case("Parts in one operation", (
        ("products.py",
         "parts = mxnet.nd.SliceChannel(x.as_nd_ndarray(), num_outputs=len(x) // size, axis=0)",
         "return mxnet.np.split(x, len(x) // size)"),
    )),
)  # fmt: skip
CASES = {"numpy": NUMPY, "torch": TORCH, "tensorflow": TENSORFLOW, "mxnet": MXNET}


def undone(backend, case, folder):
    """A copy of the backend without an optimization, loaded as a package of its own."""
    name = f"undone_{next(COUNTER)}"
    package = Path(folder, name)
    package.mkdir()
    for path in Path(backend.__file__).parent.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        for file, old, new in case.changes:
            if file == path.name:
                assert old in text, f"{old!r} is not in {path}: update this script"
                text = text.replace(old, new)
        (package / path.name).write_text(text, encoding="utf-8")
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))


def gain(backend, case, num_hiddens):
    """The time without the optimization relative to the time with it."""
    random = np.random.RandomState(0)
    arrays = initial.initial(case.vocabulary, num_hiddens, 0.01, 0)
    tokens = random.randint(0, case.vocabulary, (B, T + 1))
    batch = (np.ascontiguousarray(tokens[:, :-1]), np.ascontiguousarray(tokens[:, 1:]))
    batches = [batch] * max(1, 2048 // num_hiddens)
    options = Options(num_hiddens)
    with tempfile.TemporaryDirectory() as folder:
        pair = [(each, each.fast.build(arrays, options))
                for each in (undone(backend, case, folder), backend)]  # fmt: skip

        def seconds(module, model):
            start = time.perf_counter()
            if case.what == "training":
                _, state = module.scratch.train_epoch(model, batches, Update(), True)
                module.machine.synchronize([*state, *model.params.values()], "cpu")
            else:
                module.scratch.predict(model, [0], 200, decoding.greedy)
            return time.perf_counter() - start

        for each in pair:  # to warm up
            seconds(*each)
        ratios, begin = [], time.perf_counter()
        while len(ratios) < TURNS or time.perf_counter() - begin < SECONDS:
            without, with_it = (seconds(*each) for each in pair)
            ratios.append(without / with_it)
    return round(statistics.median(ratios), 3)


def comment(row):
    """The line of a comment that states the gain of an optimization, a row of the record."""
    where = {
        row["threads"] != 1: f" with {row['threads']} threads",
        row["what"] != "training": f" in {row['what']}",
        row["vocabulary"] != V: f" with {row['vocabulary']:,} characters",
    }.get(True, "")
    gains = ", ".join(f"{row['num_hiddens'][str(size)]:.2f}" for size in SIZES)
    return f"# Gain{where}: {gains}."


def annotate(folder, rows):
    """Write the gains into the comments of a backend, below the comment with each name."""
    for path in folder.glob("*.py"):
        lines, pending = [], None
        for line in path.read_text(encoding="utf-8").splitlines():
            if re.match(r" *# Gain", line):
                continue
            if pending and not line.lstrip().startswith("# "):
                lines.append(pending)
                pending = None
            lines.append(line)
            for row in rows:
                if line.lstrip().startswith(f"# {row['name']}: "):
                    pending = line[: line.index("#")] + comment(row)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure(name, threads):
    """Yield a row per optimization of a backend that is measured with this number of threads."""
    backend, _ = registry.start(name, threads)
    yield {"versions": backend.machine.environment()}
    for case in CASES[name]:
        if case.threads == threads:
            yield {
                "name": case.name,
                "num_hiddens": {str(size): gain(backend, case, size) for size in SIZES},
                "what": case.what,
                "threads": case.threads,
                "vocabulary": case.vocabulary,
            }


def main():
    """Measure, each backend and number of threads in a process of its own; write the record."""
    path, *names = sys.argv[1:]
    record = {"machine": host.describe(), "versions": {}, "backends": {}}
    for name in names or CASES:
        rows = {}
        for threads in sorted({case.threads for case in CASES[name]}):
            for row in processes.ask(
                "tools.optimizations:measure",
                name,
                threads,
                timeout=600,
                environment={
                    "PYTHONPATH": str(Path(__file__).parents[1]),
                    "OMP_NUM_THREADS": str(threads),
                    "OPENBLAS_NUM_THREADS": str(threads),
                },
            ):
                print(name, row, file=sys.stderr, flush=True)
                if "versions" in row:
                    record["versions"] |= row["versions"]
                else:
                    rows[row["name"]] = row
        record["backends"][name] = [rows[case.name] for case in CASES[name]]
        annotate(Path(registry.load(name).__file__).parent, record["backends"][name])
    Path(path).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
