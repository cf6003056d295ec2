"""What each optimization of `fast` gains: `python -m measure optimizations FILE`.

Each is undone by itself, in a copy of the backend. The copy and the original take turns in one
process; the gain is the median, over the turns, of the time without the optimization relative to
the time with it. The cell rnn, one thread, float32, the chapter's sizes, unless a heading in `undo`
says otherwise. The gains go into the record FILE and into the comments of the backends.
"""

import re
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
from make.optimizations import Gain, Gains, V

from measure.measuring import alone, copy, load
from rnn_scratch import parameters, registry
from rnn_scratch.contract import Batch, Options, Rates, Update
from rnn_scratch.runs import decoding
from rnn_scratch.show import source_code
from rnn_scratch.system import host, records

B, T = 32, 35
SIZES = (64, 512)  # hidden units
SECONDS, TURNS = 6.0, 7  # for each measurement: at least
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
UNDO = Path(__file__).parent / "undo"


class Case(Gain):
    """An optimization without its gain, and what undoes it: a file, its lines, and others."""

    edits: list[tuple[str, str, str]] = []


def cases(backend: str) -> list[Case]:
    """Read the optimizations of a backend, as `undo/BACKEND.diff` undoes them.

    A heading has the name, and what differs from the usual. The parts of its diff begin with the
    name of a file, and have no line numbers: they apply wherever the file has these lines.
    """
    optimizations = []
    text = Path(UNDO, f"{backend}.diff").read_text(encoding="utf-8")
    for section in re.split(r"(?m)^# ", text)[1:]:
        heading, *parts = re.split(r"(?m)^@@ ", section)
        name, *more = heading.strip().split(", ")
        values = {"name": name, **dict(value.split("=") for value in more)}
        case = msgspec.convert(values, Case, strict=False)
        for file, *lines in (part.splitlines(keepends=True) for part in parts):
            old, new = ("".join(line[1:] for line in lines if line[0] != sign) for sign in "+-")
            case.edits.append((file.strip(), old, new))
        optimizations.append(case)
    return optimizations


def undone(backend, case, folder):
    """Load a copy of the backend without an optimization, as a package with another name."""
    package = copy(backend, Path(folder))
    for file, old, new in case.edits:
        text = "\n" + (package / file).read_text(encoding="utf-8")
        assert f"\n{old}" in text, f"{file} lacks the lines\n{old}change {UNDO}"
        text = text.replace(f"\n{old}", f"\n{new}")
        (package / file).write_text(text[1:], encoding="utf-8")
    return load(package)


def gain(backend, case, num_hiddens):
    """Measure the time without the optimization relative to the time with it."""
    random = np.random.RandomState(0)
    options = Options(case.vocabulary, num_hiddens, case.cell)
    arrays = parameters.initial(options, 0.01, 0)
    tokens = random.randint(0, case.vocabulary, (B, T + 1), "int64")
    batch = Batch(tokens[:, :-1], tokens[:, 1:]).map(np.ascontiguousarray)
    batch = batch._replace(rates=Rates(np.ones((), options.dtype)))
    batches = [batch] * max(1, 512 // num_hiddens)  # short turns: others use the machine, too
    with tempfile.TemporaryDirectory() as folder:
        modules = (undone(backend, case, folder), backend)
        pair = [(module, module.fast.build(arrays, options)) for module in modules]

        def seconds(module, model):
            start = time.perf_counter()
            if case.what == "training":
                _, state = module.scratch.train_epoch(model, batches, Update(), True)
                module.machine.synchronize([*state, *model.params.values()], "cpu")
            else:
                module.scratch.predict(model, [0], 200, decoding.greedy)
            return time.perf_counter() - start

        ratios, begin = [], time.perf_counter()
        while len(ratios) < TURNS or time.perf_counter() - begin < SECONDS:
            without, with_it = (seconds(module, model) for module, model in pair)
            ratios.append(without / with_it)
    return round(statistics.median(ratios[1:]), 3)  # the first turn warms up


def comment(gain):
    """Return the line of a comment that states the gain of an optimization."""
    gains = ", ".join(
        f"{gain.num_hiddens[size]:.2f} with {size}{' hidden units' * (size == SIZES[0])}"
        for size in SIZES
    )
    where = [
        f" ({gain.cell})" * (gain.cell != "rnn"),
        f" in {gain.what}" * (gain.what != "training"),
        f" with {gain.threads} threads" * (gain.threads != 1),
        f" with {gain.vocabulary:,} characters" * (gain.vocabulary != V),
    ]
    return f"# Gain{''.join(where)}: {gains}."


def annotate(folder, gains):
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
            for gain in gains:
                if line.lstrip().startswith(f"# {gain.name}: "):
                    pending = line[: line.index("#")] + comment(gain)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure(name: str, number: int) -> Iterator[Gain]:
    """Yield the gain of one of a backend's optimizations, in a process that has its threads."""
    case = cases(name)[number]
    backend, _ = registry.start(name, case.threads)
    gains = {size: gain(backend, case, size) for size in SIZES}
    usual = {field: getattr(case, field) for field in Gain.__struct_fields__}
    yield Gain(**{**usual, "num_hiddens": gains})


def main(file):
    """Measure all optimizations; write the record and the comments."""
    record = Gains()
    for name in registry.OURS:
        record.machines[name] = host.describe()
        record.versions[name] = registry.probes([name])[name].environment
        record.backends[name] = [
            alone(measure, name, number, **dict.fromkeys(THREADS, str(case.threads)))
            for number, case in enumerate(cases(name))
        ]
        annotate(source_code.files(name)[0].parent, record.backends[name])
    records.write(Path(file), record)
