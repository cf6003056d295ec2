"""The page that compares the frameworks, generated from comparison records."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from rnn_scratch.compare import pictures, record, report, tables
from rnn_scratch.compare.tables import Estimate
from rnn_scratch.runs.curve import INK

from . import figures, prose, readme

CHART = f"{figures.FOLDER}/speed-ratios.svg"
CURVES = f"{figures.FOLDER}/curves-perplexity.svg"  # also used on the parity page
GROWTH = f"{figures.FOLDER}/growth.svg"
MEASURES = {"milliseconds": "CPU milliseconds", "mebibytes": "MiB"}
BARS = {"scratch": -0.15, "fast": 0.15}  # the chart's variants, with their offsets from the row
LAYER = "vs_builtin_layer"


def render(folder: Path) -> tuple[str, dict[str, bytes]]:
    """Return the page and its pictures, keyed by path."""
    names = "speed", "preset", "curves", "sizes"
    speed, preset, curves, sizes = (record.read(folder / name) for name in names)
    speeds, plan = readme.collect_estimates(speed), speed.plan
    ratios = {key: values[LAYER] for key, values in speeds.items() if LAYER in values}
    images = {CURVES: pictures.draw(curves)["perplexity"]}
    with figures.chart(images, CHART) as axes:
        _chart(axes, ratios)
    growth = json.loads((readme.RECORDS / "growth.json").read_bytes())
    with figures.charts(images, GROWTH, (2, 5), (10, 4.6)) as grid:
        _draw_growth(grid, growth["growth"])
    values = {
        "growth": growth,
        "slopes": _slopes(growth["growth"]),
        "growth_chart": GROWTH,
        "speed": speed,
        "preset": preset,
        "preset_table": _table(readme.collect_estimates(preset), preset.plan.values),
        "verdicts": {threads: _verdict(ratios, threads) for threads in plan.values},
        "fastest": max(
            (key for key in speeds if key[2] == plan.values[0]),
            key=lambda key: speeds[key]["training"].median,
        ),
        "table": _table(speeds, plan.values),
        "start": _table_of(speed, "Start and memory"),
        "sizes": _ratios_of_sizes(sizes),
        "quality": _table_of(curves, "Quality"),
        "presets": _presets(),
        "ends": [candidate.epochs[-1].perplexity for candidate in curves.supported],
        "epochs": curves.settings.num_epochs,
        "method": report.lines("method", speed),
        "setting": report.lines("setting", speed),
        "chart": CHART,
        "curves": CURVES,
    }
    return prose.page("comparison.md", values), images


def _verdict(ratios: dict[readme.Key, Estimate], threads: int) -> str:
    """Return a phrase such as "faster in JAX (1.90×); slower in MXNet (...)"."""
    groups: dict[str, list[str]] = {"faster": [], "slower": [], "no difference shown": []}
    for (backend, model, value), ratio in ratios.items():
        if (model, value) == ("fast", threads):
            text = f"{prose.framework(backend)} ({ratio.median:.2f}×)"
            groups[ratio.verdict].append(text)
    named = {verdict: prose.listed(names) for verdict, names in groups.items() if names}
    return "; ".join(f"{verdict} in {names}" for verdict, names in named.items())


def _chart(axes: Any, ratios: dict[readme.Key, Estimate]) -> None:
    """Draw speeds relative to the built-in layer, one row per framework and number of threads."""
    rows = list(dict.fromkeys((backend, value) for backend, _, value in ratios))
    for model, offset in BARS.items():
        points = [(rows.index((b, v)), ratio) for (b, m, v), ratio in ratios.items() if m == model]
        ys = [row + offset for row, _ in points]
        medians = [ratio.median for _, ratio in points]
        errors = [[ratio.median - ratio.low, ratio.high - ratio.median] for _, ratio in points]
        color = pictures.BARS[model]
        axes.errorbar(medians, ys, xerr=list(zip(*errors)), fmt="o", color=color, label=model)
    axes.axvline(1, color=INK, linewidth=1)
    labels = [f"{prose.framework(b)}, {v} thread{'s' * (v != 1)}" for b, v in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.invert_yaxis()
    axes.set_xlabel("training speed relative to the framework's built-in layer")


def _table(speeds: dict[readme.Key, dict[str, Estimate]], threads: list[int]) -> prose.Cells:
    heads = ("threads", "`scratch`, characters/s", *readme.PAIRS)
    rows = [["", *heads, "`scratch`, generated characters/s"]]
    for (backend, model, value), scratch in speeds.items():
        if model == "scratch":
            speed, generation = (
                tables.format_speed(scratch[n]) for n in ("training", "generation")
            )
            ratios = readme.ratios_of_fast(speeds, backend, value)
            rows.append([prose.framework(backend), str(value), speed, *ratios, generation])
    return rows


def _table_of(comparison: record.Comparison, title: str) -> prose.Cells:
    (cells,) = (table.cells for table in tables.tables(comparison) if table.title == title)
    return cells


def _ratios_of_sizes(sizes: record.Comparison) -> prose.Cells:
    """Return only relative speeds, because other tables' speeds were measured at other times."""
    candidates = [replace(candidate, failure=None) for candidate in sizes.supported]
    cells = _table_of(replace(sizes, candidates=candidates), "Speed")
    shown_columns = [index for index, head in enumerate(cells[0]) if "characters" not in head]
    return [[row[index] for index in shown_columns] for row in cells]


def _presets() -> prose.Cells:
    rows = [["", "CPU seconds", "nats per character"]]
    record = json.loads((readme.RECORDS / "presets.json").read_bytes())
    for training in record["presets"]["shakespeare"]["trainings"]:
        name = f"{prose.framework(training['backend'])}, seed {training['seed']}"
        rows.append([name, str(training["cpu_seconds"]), f"{training['test']:.3f}"])
    return rows


def _draw_growth(grid: Any, growth: dict[str, Any]) -> None:
    """Draw time and memory against each size, a column per size, on logarithmic axes."""
    limits = {"milliseconds": (0.5, 500), "mebibytes": (1, 500)}  # the same for all frameworks
    for column, (size, subjects) in enumerate(growth.items()):
        for axes, (measure, label) in zip(grid[:, column], MEASURES.items()):
            for name, points in subjects.items():
                color = pictures.COLORS.get(name, INK)
                values = [point[measure] for point in points.values()]
                framework = prose.framework(name) if name in pictures.COLORS else None
                axes.loglog([*map(int, points)], values, "o-", ms=4, color=color, label=framework)
            if size != "characters":
                sizes = [int(value) for value in points][::2]
                axes.set_xticks(sizes, [f"{value:,}" for value in sizes])
                axes.set_ylim(*limits[measure])
            axes.minorticks_off()
            axes.set_ylabel(label if column == 0 or size == "characters" else "")
        grid[1, column].set_xlabel(size)
    lines = grid[0, 0].get_legend_handles_labels()
    grid[0, 0].figure.legend(*lines, ncols=5, loc="outside upper center")


def _slopes(growth: dict[str, Any]) -> prose.Cells:
    """Return the factors by which time and memory grow when the largest size doubles."""
    names = list(next(iter(growth.values())))
    rows = [["", "", *map(prose.framework, names)]]
    for (size, subjects), measure in itertools.product(growth.items(), MEASURES):
        if set(subjects) == set(names):
            factors = (_doubling_factor(subjects[name], measure) for name in names)
            kind = "time" if measure == "milliseconds" else "memory"
            rows.append([size, kind, *(f"{factor:.2f}" for factor in factors)])
    return rows


def _doubling_factor(points: dict[str, dict[str, float]], measure: str) -> float:
    """Return the growth between the last two points, as a factor for twice the size."""
    (size, before), (larger_size, after) = [*points.items()][-2:]
    doublings = math.log2(int(larger_size) / int(size))
    return float((after[measure] / before[measure]) ** (1 / doublings))
