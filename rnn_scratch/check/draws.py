"""Random cases for comparing a backend with the reference.

Each seed determines a draw. The first NUM_DRAWS seeds select TABLE's rows; later seeds vary them.
"""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..contract import CELLS, OPTIMIZERS, VARIANTS, ModelConfig
from ..settings import MAX_SEED

# Pairwise testing: every pair of properties from different columns (for example, one step and
# resuming), including the cell and optimizer, occurs in some draw. "variant" is compared in
# addition to scratch. The first row is the plain model so that the first failure is easy to read.
# With V=300, some tokens exceed 8 bits. With T=70 or sigma=12, rounding errors rule out training.
TABLE = """
mode    L T  B V   N dropout theta carry resumes evaluates predicts variant updates sigma
float64 1 2  3 10  0 0       100   True  False   True      True     fast    3       0.2
float64 3 1  3 2   6 0       100   False False   False     True     concise 3       0.2
float32 1 2  3 300 0 0       0.3   False True    False     True     fast    3       0.2
exact   3 1  1 10  6 0.4     100   True  False   False     False    fast    3       0.2
exact   3 2  3 2   0 0       0.3   True  False   False     False    -       3       0.2
float32 3 3  1 2   6 0       100   True  True    True      False    -       3       0.2
exact   1 2  1 10  0 0       0.3   True  True    True      True     -       132     0.2
float64 1 1  3 2   6 0       0.3   True  False   True      False    concise 3       0.2
float64 2 2  3 2   6 0.4     100   False False   True      False    -       3       0.2
float64 1 2  3 2   0 0       100   False False   False     False    fast    3       0.2
exact   2 1  3 10  0 0.4     0.3   False False   False     False    concise 3       0.2
float32 2 2  1 10  0 0.4     0.3   True  False   False     True     fast    3       0.2
exact   3 3  3 2   0 0       0.3   False False   False     False    -       3       0.2
float64 1 2  3 2   0 0       100   True  False   False     False    concise 3       0.2
float64 1 1  3 2   6 0.4     100   True  True    True      False    -       3       0.2
float64 1 70 3 10  0 0       100   False False   True      True     -       0       0.2
float64 1 2  2 9   0 0       100   False False   True      True     -       0       12
float64 2 3  1 10  6 0.4     100   False False   False     False    -       3       0.2
float32 1 1  1 10  6 0       0.3   False True    False     True     -       3       0.2
float32 2 2  1 10  6 0       100   False True    False     True     concise 3       0.2
"""
ROWS = np.genfromtxt(io.StringIO(TABLE), dtype=None, names=True, encoding="utf-8")
NUM_DRAWS = len(ROWS)  # default number of draws
NUM_UPDATES = 3  # number of updates per epoch in most draws
RELATED = ("L", "T", "B", "V", "updates", "sigma")  # columns not varied independently


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
        return text + " exact" * self.exact + " large weights" * (self.sigma > 1)


def draw(seed: int, cells: Sequence[str] = (), device: str = "cpu") -> CaseSpec:
    """Draw the case for this seed, with one of `cells` (by default, any cell).

    After the largest seed, the seeds start again at 0.
    """
    seed %= MAX_SEED + 1
    group, index = divmod(seed, NUM_DRAWS)
    rng, cells, optimizers = np.random.RandomState([1000, seed]), cells or [*CELLS], [*OPTIMIZERS]

    def pick(*values: Any) -> Any:
        """Return a random value or, in the first group, the first value."""
        return values[rng.randint(len(values)) if group else 0]

    row = dict(zip(ROWS.dtype.names or (), ROWS[index].item()))
    if row["updates"] == NUM_UPDATES:
        row |= {name: pick(row[name], *ROWS[name].tolist()) for name in row if name not in RELATED}
    names = "mode", "L", "T", "B", "V", "N", "dropout", "updates", "variant"
    mode, L, T, B, V, N, dropout, num_updates, variant = map(row.pop, names)
    has_fewer_tokens = B * T < V
    # Preserve which sizes are 1, whether T equals L, and whether B * T < V.
    H, B, T = pick(9, 1, 13), B * pick(1, 4) if B > 1 else 1, T + pick(0, 2) * (T not in (1, L))
    V = max(V, B * T + 1) + pick(0, 18) if has_fewer_tokens else V
    cell, dtype = cells[(index + group) % len(cells)], "float64" if mode == "exact" else mode
    return CaseSpec(
        ModelConfig(V, H, cell, N, L, dropout, dtype, device),
        *(B, T, num_updates),
        variants=(VARIANTS[0], variant) if num_updates else VARIANTS,
        optimizer=optimizers[(index // len(cells) + group) % len(optimizers)],
        exact=mode == "exact",
        seed=seed,
        **row,
    )


def draw_large(seed: int = 0, cells: Sequence[str] = (), device: str = "cpu") -> CaseSpec:
    """Draw a case with tensors so large that frameworks switch algorithms and use more threads."""
    cells = list(cells or ("rnn", "lstm", "gru", "gru-after", "rnn-relu"))
    seed %= MAX_SEED + 1
    H = (512, 257)[seed % 2]
    options = ModelConfig(11, H, cells[seed % len(cells)], dtype="float32", device=device)
    return CaseSpec(options, batch_size=128, sigma=0.02, seed=seed)
