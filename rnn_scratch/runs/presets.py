"""Arguments of `train` to begin from: named sets, and those of a run.

The sets were found by measuring: notebooks/records/presets.json.
"""

from typing import Any

from msgspec import structs

from ..contract import OPTIMIZERS
from ..settings import Settings
from .run_folder import RunRecord

# What those that learn a text well have in common, and those of them that learn the same text.
LEARNER = dict(model="fast", cell="lstm", optimizer="adam", schedule="cosine", warmup=50)
LEARNER |= dict(sigma=0.05, max_tokens=0, valid_share=0.1, normalize="none", num_steps=20, lr=0.005)
PLAYS = dict(LEARNER, corpus="tiny-shakespeare", embedding=64)
#: Arguments of `train`, by the name of a preset.
PRESETS: dict[str, dict[str, Any]] = {
    "chapter": {},
    "minute": dict(LEARNER, num_hiddens=256, batch_size=16, dropout=0.3, num_epochs=7),
    "shakespeare": dict(PLAYS, num_hiddens=384, dropout=0.1, num_epochs=2),
    "long": dict(PLAYS, num_hiddens=512, num_steps=32, dropout=0.4, lr=0.004, num_epochs=8),
}

# The text with which the command `train` ends, as in the README.
SAMPLE: dict[str, Any] = {"length": 300, "temperature": 0.5, "seed": 1}


def like(record: RunRecord) -> dict[str, Any]:
    """Return the arguments of a run that make another one like it, without those by default."""
    settings, session = record.settings, record.sessions[-1]
    default = {**structs.asdict(Settings()), "lr": OPTIMIZERS[settings.optimizer].lr, "patience": 0}
    values = {**structs.asdict(settings), "patience": session.patience}
    changed = {n: "none" if v is None else v for n, v in values.items() if v != default[n]}
    is_file = record.text.corpus == "file"
    text = {"text": record.text.origin} if is_file else {"corpus": record.text.corpus}
    runtime = {"backend": session.runtime.backend, "model": session.runtime.model}
    return {**runtime, **text, **changed}
