"""A comparison in words: the cells of its tables, and what has to be said beside them."""

from collections.abc import Sequence

from ..cli.display import shown
from . import summary
from .plan import Record, name
from .summary import Spread

BUSY = 0.5  # processes at work in the minute before the comparison began
GROWN = 1e-11  # a relative difference that is more than rounding
Cells = list[list[str]]  # a head, then rows


def speed_cells(record: Record) -> Cells:
    """How fast training is, and how much of what is possible."""
    rows = summary.speeds(record)
    first = name(record["candidates"][0])
    head = ["characters/s", f"× {first}", "× own layer", "of own limit", "of best limit"]
    cells = [
        [
            _number(row.train),
            _ratio(row.ratio),
            _ratio(row.own_layer),
            _percent(row.of_own_limit),
            "" if row.of_machine_limit is None else f"{row.of_machine_limit:.0%}",
        ]
        if row.train
        else [row.reason, "", "", "", ""]
        for row in rows
    ]
    return _with_names(record, rows, head, cells)


def other_cells(record: Record) -> Cells:
    """What is measured apart from training: start, generation, memory."""
    rows = [row for row in summary.speeds(record) if row.train]
    head = ["import s", "first minibatch s", "generates characters/s", "× own layer", "memory MiB"]
    on_device = any(row.device_memory is not None for row in rows)
    cells = [
        [
            _seconds(row.importing),
            _seconds(row.first),
            _number(row.generate),
            _ratio(row.generate_own_layer),
            "" if row.memory is None else f"{row.memory:,.0f}",
            *([f"{row.device_memory or 0:,.0f}"] if on_device else []),
        ]
        for row in rows
    ]
    return _with_names(record, rows, [*head, *(["on device MiB"] if on_device else [])], cells)


def quality_cells(record: Record) -> Cells:
    """What the trainings came to."""
    head = ["", "check", "perplexity", "starts from", "sees", "writes"]
    cells = []
    for row in summary.qualities(record):
        if row.perplexity is None:
            cells.append([row.candidate, "", "", "", "", row.reason])
            continue
        perplexity = shown(row.perplexity.median)
        if row.deviation is not None:
            perplexity += f" ± {row.deviation:.2g} ({row.seeds} seeds)"
        cells.append(
            [
                row.candidate, f"{row.comparisons} passed", perplexity,
                row.parameters[:8], row.minibatches[:8], row.reason or row.sample.strip(),
            ]
        )  # fmt: skip
    return [head, *cells]


def against_cells(record: Record) -> Cells:
    """Speeds beside those of an older comparison."""
    first = name(record["candidates"][0])
    head = ["", "characters/s before", "now", "ratio", f"× {first} before", "now"]
    rows = []
    for row in record["against"]["speeds"]:
        label = row["candidate"]
        if row["value"] is not None:
            label += f", {record['plan']['vary'][0]} {row['value']}"
        before, now = (_number(Spread(*row[when])) for when in ("before", "now"))
        ratios = [
            _ratio(
                Spread(*row[f"ratio_to_first_{when}"]) if row[f"ratio_to_first_{when}"] else None
            )
            for when in ("before", "now")
        ]
        rows.append([label, before, now, f"{row['ratio']:.2f}", *ratios])
    return [head, *rows]


def setting_lines(record: Record) -> list[str]:
    """What was compared on what: a few lines."""
    plan, settings = record["plan"], record["settings"]
    machine = record["machine"]
    threads = f"threads: {plan['threads']}"
    if plan["vary"]:
        threads += f"; varied: {plan['vary'][0]} {', '.join(map(str, plan['vary'][1]))}"
    tf32 = ", TF32 allowed" if plan["tf32"] else ""
    devices = sorted({c["device"] for c in record["candidates"] if "device" in c})
    return [
        f"{machine['processor']}, {machine['cores']} cores, {machine['platform']}",
        f"{', '.join(devices)}, {settings['dtype']}{tf32}, {threads}",
        f"B {settings['batch_size']}, T {settings['num_steps']}, H {settings['num_hiddens']}, "
        f"V {record['text']['vocabulary']}; {settings['sampling']} sampling of "
        f"{record['text']['train_tokens']:,} characters of {record['text']['corpus']}; "
        f"{settings['num_epochs']} epochs",
        "; ".join(_versions(record)),
        f"begun {record['started']}, {record['outcome']}; {record['command']}",
    ]


def notes(record: Record) -> list[str]:
    """What a reader has to know to believe the tables."""
    found = []
    if record["outcome"] == "interrupted":
        found.append("Interrupted: this is what was measured until then.")
    for candidate in record["candidates"]:
        if candidate["state"] in ("failed", "not offered"):
            found.append(f"{name(candidate)}: {candidate['state']}: {candidate['reason']}")
        for speed in candidate["speed"]:
            asked = speed["value"] if _varies_threads(record) else record["plan"]["threads"]
            if speed.get("threads", asked) != asked:
                found.append(f"{name(candidate)} computed with {speed['threads']} threads, and "
                             f"{asked} were asked for.")  # fmt: skip
            of = f" with {record['plan']['vary'][0]} {speed['value']}" if speed["value"] else ""
            if speed["state"] == "failed":
                found.append(f"{name(candidate)}{of} failed in timing: {speed['reason']}")
            if "beside" in speed:
                found.append(f"{name(candidate)}{of} beside its layer failed: {speed['beside']}")
    if "against" in record:
        older = record["against"]
        if older["differences"]:
            found.append(f"The older comparison is another one: {'; '.join(older['differences'])}.")
        if not older["speeds"]:
            found.append("No speed was measured in both comparisons.")
    if (record["load"] or 0) > BUSY:
        found.append(
            f"The machine was busy when this began: {record['load']:.1f} processes at work in the "
            "minute before. Times may be worse than they need be."
        )
    return [*found, *how_measured(record)]


def how_measured(record: Record) -> list[str]:
    """How the figures came about."""
    repeats = record["plan"]["repeats"]
    beside = any("beside" in one for candidate in record["candidates"]
                 for speed in candidate["speed"] for one in speed["rounds"])  # fmt: skip
    in_turns = ", those to its own layer with both in one process, in turns" if beside else ""
    return [
        f"Speeds are medians of {repeats} processes, each the median of its epochs after a "
        "warm-up, the device waited for; in brackets the lowest and the highest. Processes ran "
        "one at a time, in an order that moved on by one each round. Ratios to another framework "
        f"are taken round by round{in_turns}. The brackets cover what changes from process to "
        "process, not what changes from one hour to the next: for that, compare again, --against "
        "this.",
        "The limit is what training would reach if it did nothing but the matrix products with "
        "W_hh that it cannot do without, (B, H) by (H, H) for each step forward and back and "
        "(T·B, H) by (H, H) once, timed in the same process in turns. The best limit is that of "
        "the framework that multiplies fastest here. A framework can exceed its own where it "
        "does several products at a time.",
        "Import is what the framework adds to a Python that has NumPy; the first minibatch "
        "includes compilation. Memory is the most that the process had at once: interpreter, "
        "libraries, text and model.",
    ]


def float64_sentence(record: Record) -> str:
    """What the picture of the divergence shows."""
    found = [c["float64"]["differences"] for c in record["candidates"]
             if c.get("float64", {}).get("differences") and c["backend"] != "numpy"]  # fmt: skip
    if not found:
        return ""
    early = max(max(each[:10]) for each in found)
    last = max(each[-1] for each in found)
    worst = max(max(each) for each in found)
    same = (
        "The same trainings in float64, and how far each update's loss is from that of NumPy. "
        f"In the first ten updates they are {early:.2g} apart at most, which is the rounding of "
        "float64: the frameworks compute the same function, and add its terms in different orders."
    )
    if worst < GROWN:
        return f"{same} In all of this training they are {worst:.2g} apart at most."
    return (
        f"{same} At the last update they are {last:.2g} apart, and {worst:.2g} at most on the way. "
        "What grows is that rounding: where the loss surface is steep, one update magnifies what "
        "the one before left, as in any chaotic system, until the trainings go ways of their own "
        "to the same perplexity. It is no defect of any of them."
    )


def _varies_threads(record: Record) -> bool:
    return bool(record["plan"]["vary"]) and record["plan"]["vary"][0] == "threads"


def _versions(record: Record) -> list[str]:
    found: dict[str, str] = {}
    for candidate in record["candidates"]:
        if "environment" in candidate:
            versions = ", ".join(f"{key} {value}" for key, value in
                                 candidate["environment"].items())  # fmt: skip
            python = candidate["machine"]["python"]
            found[candidate["backend"]] = f"{versions} (Python {python})"
    return list(found.values())


def _with_names(
    record: Record, rows: Sequence[summary.Speed], head: list[str], cells: Cells
) -> Cells:
    vary = record["plan"]["vary"]
    names = [[row.candidate, *([str(row.value)] if vary else [])] for row in rows]
    # Without the columns that nobody has anything for: no own layer, say.
    used = [number for number in range(len(head)) if any(own[number] for own in cells)]
    return [["", *([vary[0]] if vary else []), *(head[number] for number in used)],
            *([*both, *(own[number] for number in used)]
              for both, own in zip(names, cells))]  # fmt: skip


def _number(found: Spread | None) -> str:
    return "" if found is None else f"{found.median:,.0f} ({found.low:,.0f}–{found.high:,.0f})"


def _ratio(found: Spread | None) -> str:
    return "" if found is None else f"{found.median:.2f} ({found.low:.2f}–{found.high:.2f})"


def _percent(found: Spread | None) -> str:
    return "" if found is None else f"{found.median:.0%} ({found.low:.0%}–{found.high:.0%})"


def _seconds(found: Spread | None) -> str:
    return "" if found is None else f"{found.median:.2f}"
