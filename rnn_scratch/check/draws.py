"""Random cases for comparing a backend with the reference.

Each seed determines a draw, with one case for each cell. The first NUM_DRAWS seeds select TABLE's
rows; later seeds vary them.
"""

import io
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..contract import CELLS, OPTIMIZERS, VARIANTS, ModelConfig
from ..settings import MAX_SEED

# Pairwise testing: every pair of properties from different columns (for example, one step and
# resuming) occurs in some row. Rows come in groups of three that differ in what is random about
# them: plain models, deep models with dropout, stacked layers without, and small sizes. In each
# group, a cell meets every variant once (see `draw`). "cell" is the cell if only one is drawn.
# The last three rows take longer, so they have one cell, but "all" variants. Rounding errors rule
# out training with T=70 or sigma=12. The first row is the plain model so that the first failure is
# easy to read. With V=300, some tokens exceed 8 bits.
TABLE = """
mode    L T  B V   N dropout optimizer theta carry resumes evaluates predicts updates sigma cell      variant
float64 1 2  3 5   0 0       sgd       100   True  False   True      True     3       0.2   rnn       -
float32 1 2  3 300 0 0       sgd       0.3   True  False   False     True     3       0.2   gru       -
exact   1 2  2 9   0 0       adam      0.3   True  False   False     True     3       0.2   gru-after -
float64 2 2  3 5   6 0.4     adam      0.3   False True    False     False    3       0.2   lstm      -
float32 2 2  3 5   6 0.4     momentum  0.3   True  False   True      False    3       0.2   rnn-relu  -
exact   2 3  2 5   6 0.4     sgd       100   False False   True      True     3       0.2   rnn       -
float64 3 2  3 10  0 0       momentum  100   False False   False     False    3       0.2   gru       -
float64 2 1  1 10  0 0       sgd       0.3   True  True    False     True     3       0.2   gru-after -
exact   3 3  1 2   0 0       sgd       0.3   True  False   False     True     3       0.2   lstm      -
exact   1 1  1 10  6 0       momentum  100   False True    True      True     3       0.2   rnn-relu  -
float32 1 2  1 10  0 0.4     adam      0.3   False True    False     False    3       0.2   lstm      -
float32 3 1  3 2   6 0.4     adam      100   True  True    True      False    3       0.2   gru       -
float64 1 70 3 10  0 0       sgd       100   False False   True      True     0       0.2   gru-after all
float64 1 2  2 9   0 0       sgd       100   False False   True      True     0       40    lstm      all
exact   1 2  1 300 0 0       momentum  0.3   True  True    True      True     132     0.2   rnn       all
"""  # noqa: E501
ROWS = np.genfromtxt(io.StringIO(TABLE), dtype=None, names=True, encoding="utf-8")
NUM_DRAWS = len(ROWS)  # default number of draws
NUM_UPDATES = 3  # number of updates per epoch in most draws
# Columns that are not varied independently.
RELATED = ("L", "T", "B", "V", "updates", "sigma", "cell", "variant")


class CaseSpec(NamedTuple):
    """A case's settings and the seed from which its values are drawn."""

    options: ModelConfig  # cell, sizes, layers, embedding, dropout, dtype and device
    batch_size: int = 12
    num_steps: int = 4
    num_updates: int = 6  # updates in the first epoch; 0 for a case without training
    variants: Sequence[str] = VARIANTS  # variants to compare
    optimizer: str = "sgd"
    exact: bool = False  # whether the model trains in exact mode
    theta: float = 0.6  # maximum gradient norm in training
    carry: bool = True  # whether the state is carried over to the next minibatch
    resumes: bool = False  # whether training resumes from the reference's trained values
    evaluates: bool = True  # whether the model is evaluated after one epoch
    predicts: bool = True  # whether the model predicts after training
    sigma: float = 0.2  # standard deviation of the initial weights
    seed: int | None = None  # None for a fixed case, whose values are drawn from seed 0

    @property
    def label(self) -> str:
        """A short description of the settings."""
        o = self.options
        text = f"{o.dtype} {o.cell}"
        text += " embedding" * bool(o.embedding) + " dropout" * bool(o.dropout)
        text += f" {o.num_layers} layers" if o.num_layers > 1 else ""
        if self.seed is not None:
            text += f" B={self.batch_size} T={self.num_steps} V={o.vocab_size} H={o.num_hiddens}"
            text += f" seed {self.seed}"
        text += f" {self.optimizer}" if self.optimizer != "sgd" else ""
        return text + " exact" * self.exact + " large weights" * self.has_large_weights

    @property
    def has_large_weights(self) -> bool:
        """Whether the weights saturate the cell, so that gradients vanish and the loss is large."""
        return self.sigma > 1


def draw(seed: int, cells: Sequence[str] = (), device: str = "cpu") -> CaseSpec:
    """Draw the case for this seed, with one of `cells` (by default, the cell in the seed's row).

    A cell added to CELLS leaves the cases of other cells unchanged. After the largest seed, the
    seeds start again at 0.
    """
    seed %= MAX_SEED + 1
    group, index = divmod(seed, NUM_DRAWS)
    rng = np.random.RandomState([1000, seed])

    def pick(*values: Any) -> Any:
        """Return a random value or, in the first group, the first value."""
        return values[rng.randint(len(values)) if group else 0]

    row = dict(zip(ROWS.dtype.names or (), ROWS[index].item()))
    if row["updates"] == NUM_UPDATES:
        row |= {name: pick(row[name], *ROWS[name].tolist()) for name in row if name not in RELATED}
    others = [name for name in OPTIMIZERS if name not in ROWS["optimizer"]]  # of other packages
    if others and index % len(VARIANTS) == 1:
        row["optimizer"] = others[(index // len(VARIANTS) + group) % len(others)]
    names = "mode", "L", "T", "B", "V", "N", "dropout", "updates", "cell", "variant"
    mode, L, T, B, V, N, dropout, num_updates, cell, variant = map(row.pop, names)
    has_fewer_tokens = B * T < V
    # Preserve which sizes are 1, whether T equals L, and whether B * T < V.
    H, B, T = pick(9, 1, 13), B * pick(1, 4) if B > 1 else 1, T + pick(0, 2) * (T not in (1, L))
    V = max(V, B * T + 1) + pick(0, 18) if has_fewer_tokens else V
    cell = cells[(index + group) % len(cells)] if cells else pick(cell, *CELLS)
    # Take turns within three rows, from three rows to the next, and between groups of seeds.
    turn = index + index // len(VARIANTS) + group + [*CELLS].index(cell)
    return CaseSpec(
        ModelConfig(V, H, cell, N, L, dropout, "float64" if mode == "exact" else mode, device),
        *(B, T, num_updates),
        variants=VARIANTS if variant == "all" else (VARIANTS[turn % len(VARIANTS)],),
        exact=mode == "exact",
        seed=seed,
        **row,
    )


def draw_all(
    seeds: Iterable[int], cells: Sequence[str] = (), device: str = "cpu"
) -> list[CaseSpec]:
    """Draw one case for each seed and cell (by default, all cells)."""
    drawn = []
    for seed in seeds:
        default = draw(seed, (), device)
        # Rows with "all" variants have one cell.
        row_cells = cells or ([*CELLS] if len(default.variants) == 1 else [default.options.cell])
        drawn += [draw(seed, [cell], device) for cell in row_cells]
    return drawn


def draw_large(seed: int = 0, cells: Sequence[str] = (), device: str = "cpu") -> CaseSpec:
    """Draw a case with tensors so large that frameworks switch algorithms and use more threads."""
    cells = list(cells or ("rnn", "lstm", "gru", "gru-after", "rnn-relu"))
    seed %= MAX_SEED + 1
    # Sizes that can be divided among threads, or odd numbers of units, rows and steps.
    H, B, T, sigma = ((512, 128, 4, 0.06), (257, 127, 3, 0.2))[seed % 2]
    options = ModelConfig(11, H, cells[seed % len(cells)], dtype="float32", device=device)
    return CaseSpec(options, B, T, sigma=sigma, seed=seed)
