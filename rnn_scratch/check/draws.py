"""Draw, from seeds, the cases in which a backend is compared with the reference.

Each seed determines a draw. Starting at a multiple of NUM_DRAWS, NUM_DRAWS consecutive seeds cover
all pairs of properties in FACTORS, such as each cell with each optimizer, and all special draws.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..contract import CELLS, OPTIMIZERS, VARIANTS, Options

N = 6  # embedding size
NUM_UPDATES = 3  # updates in an epoch of most draws
LOW_THETA, HIGH_THETA = 0.3, 100.0  # below and above the norms of gradients

# The properties of a draw, with their values: any two values of different properties occur
# together, except None, which need not occur. Of equally useful values, the first one is taken.
FACTORS: dict[str, tuple[Any, ...]] = {
    "cell": tuple(CELLS),
    "optimizer": tuple(OPTIMIZERS),
    "mode": ("float64", "float32", "exact"),
    "num_layers": (1, 2, 3),
    "steps": ("one", "as many as layers", "more"),
    "rows": ("one", "more"),
    "tokens": ("fewer than V", "more than V"),
    "embedding": (0, N),
    "dropout": (0, 0.4),
    "theta": (LOW_THETA, HIGH_THETA),
    "carry": (False, True),
    "resumes": (None, True),
    "evaluates": (None, True),
    "predicts": (None, True),
    "variant": (None, "fast", "concise"),  # compared in addition to scratch
}
PLAIN = {"num_layers": 1, "embedding": 0, "dropout": 0}
# Properties of the first draws. The remaining entries override fields of `Draw`.
_FEW = {**PLAIN, "steps": "more", "rows": "more", "tokens": "fewer than V"}
_LONG = {"mode": "exact", "rows": "one", "carry": True, "evaluates": True, "predicts": True}
SPECIAL_DRAWS: tuple[dict[str, Any], ...] = (
    # The plain model comes first, so that the first failure is easy to read.
    {**_FEW, "optimizer": "sgd", "mode": "float64"},
    # A long epoch.
    {**PLAIN, **_LONG, "variant": None, "num_updates": 132},
    # Tokens occur repeatedly, so that their gradients are summed.
    {**_FEW, "predicts": True, "vocab_size": 300, "variant": "fast"},
    # `fast` embeds few tokens, as in text generation, in another way.
    {"embedding": N, "tokens": "fewer than V", "variant": "fast"},
)
# Draws without training, in which rounding errors grow too much.
UNTRAINED_DRAWS: tuple[dict[str, Any], ...] = (
    {"num_steps": 70},
    {"sigma": 12.0, "vocab_size": 9, "num_hiddens": 9, "batch_size": 3, "num_steps": 3},
)
NUM_PAIRWISE_DRAWS, NUM_CANDIDATES, MAX_ATTEMPTS = 18, 10, 100
NUM_DRAWS = NUM_PAIRWISE_DRAWS + len(UNTRAINED_DRAWS)  # default number of draws


class Draw(NamedTuple):
    """The settings of a case, and the seed from which its values are drawn."""

    options: Options  # cell, sizes, layers, embedding, dropout, dtype and device
    batch_size: int = 12
    num_steps: int = 4
    num_updates: int = 6  # updates in the first epoch; 0 for a case without training
    variants: tuple[str | None, ...] = VARIANTS  # variants to compare
    optimizer: str = "sgd"
    exact: bool = False  # whether the model trains in exact mode
    theta: float = 0.6  # maximum norm of the gradients in training
    carry: bool = True  # whether the state is carried over to the next minibatch
    resumes: bool | None = False  # whether training resumes from an epoch of the reference
    evaluates: bool | None = True  # whether the model is evaluated after one epoch
    predicts: bool | None = True  # whether the model predicts after training
    sigma: float = 0.2  # standard deviation of the initial weights
    seed: int | None = None  # None: a fixed case, whose values are drawn from seed 0

    @property
    def is_steep(self) -> bool:
        """Whether the weights are so large that rounding errors grow."""
        return self.sigma > 1

    @property
    def label(self) -> str:
        """A short description of the settings."""
        o = self.options
        text = (
            f"{o.dtype} {o.cell}" + " embedding" * bool(o.embedding) + " dropout" * bool(o.dropout)
        )
        text += f" {o.num_layers} layers" if o.num_layers > 1 else ""
        if self.seed is not None:
            text += f" B={self.batch_size} T={self.num_steps} V={o.vocab_size} H={o.num_hiddens}"
            text += f" seed {self.seed}"
        text += f" {self.optimizer}" if self.optimizer != "sgd" else ""
        return text + " exact" * self.exact + " large weights" * self.is_steep


def _is_possible(row: Mapping[str, Any]) -> bool:
    """Return whether a draw can have these properties; some may be missing."""
    one_layer = (row.get("num_layers"), row.get("steps")) == (1, "as many as layers")
    one_token = (row.get("rows"), row.get("steps")) == ("one", "one")
    return not one_layer and not (one_token and row.get("tokens") == "more than V")


def _pairs(row: Mapping[str, Any]) -> set[Any]:
    return set(map(frozenset, itertools.combinations(row.items(), 2)))


@functools.lru_cache(maxsize=1000)
def cover_pairs(seed: int, cells: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return rows of properties, one for each draw, that cover all pairs of FACTORS.

    The algorithm is greedy: a row starts with a pair that no row has yet, and then takes, for each
    property in random order, the value that covers the most new pairs. It is repeated until
    NUM_PAIRWISE_DRAWS rows are enough.
    """
    rng, factors = np.random.RandomState(seed), {**FACTORS, "cell": cells}
    items = [(name, value) for name in factors for value in factors[name] if value is not None]
    pairs = [
        (a, b)
        for a, b in itertools.combinations(items, 2)
        if a[0] != b[0] and _is_possible(dict((a, b)))
    ]

    def complete(row: dict[str, Any]) -> dict[str, Any]:
        for name in rng.permutation([name for name in factors if name not in row]):
            items = [(name, v) for v in factors[name] if _is_possible({**row, name: v})]
            new = [sum({item, other} in missing for other in row.items()) for item in items]
            row = row | dict([items[int(np.argmax(new))]])
        return row

    for _ in range(MAX_ATTEMPTS):
        missing, rows = set(map(frozenset, pairs)), list[dict[str, Any]]()
        for index in range(NUM_PAIRWISE_DRAWS):
            if index < len(SPECIAL_DRAWS):
                starts = [{"cell": cells[index % len(cells)], **SPECIAL_DRAWS[index]}]
            else:
                left = [pair for pair in pairs if {*pair} in missing] or pairs
                starts = [dict(left[rng.randint(len(left))]) for _ in range(NUM_CANDIDATES)]
            rows.append(max(map(complete, starts), key=lambda row: len(_pairs(row) & missing)))
            missing -= _pairs(rows[-1])
        if not missing:
            break
    return rows


def draw(seed: int, cells: Sequence[str] = (), device: str = "cpu") -> Draw:
    """Draw the case for this seed, with one of `cells` (by default, any cell)."""
    group, index = divmod(seed, NUM_DRAWS)
    rng, cells = np.random.RandomState([1000, seed]), tuple(cells or CELLS)

    def pick(*values: Any) -> Any:
        return values[rng.randint(len(values)) if group else 0]

    if index < NUM_PAIRWISE_DRAWS:
        row, num_updates = dict(cover_pairs(group, cells)[index]), NUM_UPDATES
    else:
        index -= NUM_PAIRWISE_DRAWS
        row = {"cell": cells[(index + group) % len(cells)], **PLAIN, **UNTRAINED_DRAWS[index]}
        num_updates = 0
    variant = row.pop("variant", None)
    mode, steps, rows, tokens = (row.pop(n, "") for n in ("mode", "steps", "rows", "tokens"))
    # In the first group, the sizes of the first draw differ, so that mixing up two axes shows.
    H, B = pick(9, 1, 13), 1 if rows == "one" else pick(3, 12)
    T = {"one": 1, "as many as layers": row["num_layers"]}.get(steps, pick(2, 4))
    # Few vocabulary sizes, because JAX compiles each operation for each shape.
    V = 2 if tokens == "more than V" else pick(10, 28) if B * T < 10 else B * T + 1
    settings = {
        **{"vocab_size": V, "num_hiddens": H, "batch_size": B, "num_steps": T, "device": device},
        "dtype": "float32" if mode == "float32" else "float64",
        "exact": mode == "exact",
        "num_updates": num_updates,
        "variants": (VARIANTS[0], variant) if num_updates else VARIANTS,
        **row,
    }
    options = Options(*(settings.pop(name) for name in Options._fields))
    return Draw(options, seed=seed, **settings)


def draw_all(
    seeds: Sequence[int] = range(NUM_DRAWS), cells: Sequence[str] = (), device: str = "cpu"
) -> list[Draw]:
    """Draw a case for each seed."""
    return [draw(seed, cells, device) for seed in seeds]


def draw_large(seed: int = 0, cells: Sequence[str] = (), device: str = "cpu") -> Draw:
    """Draw a case with tensors so large that frameworks use other algorithms and more threads."""
    cells = list(cells or ("rnn", "lstm", "gru", "gru-after", "rnn-relu"))
    H = (512, 257)[seed % 2]
    options = Options(11, H, cells[seed % len(cells)], dtype="float32", device=device)
    return Draw(options, batch_size=128, sigma=0.02, seed=seed)
