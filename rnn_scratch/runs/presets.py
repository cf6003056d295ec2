"""Named sets of arguments of `train`, found by measuring: notebooks/records/presets.json."""

from typing import Any

# Options that the presets for a whole text share, and options for Shakespeare's plays.
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

# Arguments of `predict` for the text that the command `train` prints at its end.
SAMPLE: dict[str, Any] = {"length": 300, "temperature": 0.5, "seed": 1}
