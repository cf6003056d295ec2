"""Named sets of arguments for `train`, based on notebooks/records/presets.json."""

from typing import Any

# Arguments shared by all presets that train on a whole text, and by the Shakespeare presets.
LEARNER = dict(model="fast", cell="lstm", optimizer="adam", schedule="cosine", warmup=50)
LEARNER |= dict(sigma=0.05, max_tokens=0, valid_share=0.1, normalize="none", num_steps=20, lr=0.005)
PLAYS = dict(LEARNER, corpus="tiny-shakespeare", embedding=64)
#: Arguments for `train` by preset name.
PRESETS: dict[str, dict[str, Any]] = {
    "chapter": {},
    "minute": dict(LEARNER, num_hiddens=256, batch_size=16, dropout=0.3, num_epochs=7),
    "shakespeare": dict(PLAYS, num_hiddens=384, dropout=0.1, num_epochs=2),
    "long": dict(PLAYS, num_hiddens=512, num_steps=32, dropout=0.4, lr=0.004, num_epochs=8),
}

# Arguments with which the `train` command calls `predict` for the text that it prints at its end.
SAMPLE: dict[str, Any] = {"length": 300, "temperature": 0.5, "seed": 1}
