"""Named sets of arguments for `train`, based on notebooks/records/presets.json."""

from typing import Any

# Arguments shared by the presets that train on a whole text.
COMMON = dict(model="fast", cell="lstm", optimizer="adam", schedule="cosine", warmup=50)
COMMON |= dict(sigma=0.05, max_tokens=0, valid_share=0.1, normalize="none", num_steps=20, lr=0.005)
#: Arguments for `train` by preset name.
PRESETS: dict[str, dict[str, Any]] = {
    "chapter": {},
    "minute": dict(COMMON, num_hiddens=256, batch_size=16, dropout=0.3, num_epochs=7),
    "shakespeare": dict(
        COMMON, corpus="tiny-shakespeare", embedding=64, num_hiddens=384, dropout=0.1, num_epochs=2
    ),
}

# Arguments of the `predict` call that generates the text printed at the end of the `train` command.
SAMPLE: dict[str, Any] = {"length": 300, "temperature": 0.5, "seed": 1}
