"""Named sets of arguments for `train`, based on notebooks/records/presets.json."""

from typing import Annotated, Any, Literal

from msgspec import Meta

from ..text import books

Preset = Annotated[Literal["chapter", "minute", "shakespeare"], Meta()]

# Arguments shared by the presets that train on a whole text. On short texts, the held-out loss soon
# rises, so `patience` ends training early.
COMMON = dict(variant="fast", cell="lstm", optimizer="adam", schedule="cosine", warmup=50)
COMMON |= dict(sigma=0.05, max_tokens=0, valid_share=0.1, normalize="none", num_steps=20, lr=0.005)
COMMON |= dict(patience=5, num_updates=3000)
#: Arguments for `train` by preset name.
PRESETS: dict[str, dict[str, Any]] = {
    "chapter": {},
    "minute": dict(
        COMMON, corpus=books.BUILT_IN, num_hiddens=256, batch_size=16, dropout=0.3, num_updates=3500
    ),
    "shakespeare": dict(
        COMMON, corpus="tiny-shakespeare", embedding=64, num_hiddens=384, dropout=0.1
    ),
}

# Arguments for the `predict` call that generates the `train` command's final output.
SAMPLE: dict[str, Any] = {"length": 300, "temperature": 0.5, "seed": 1}


def override(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return a preset's arguments for `train`, overridden by `arguments`.

    An argument also replaces its alternative in the preset: for example, `text` replaces `corpus`,
    and `num_epochs` replaces `num_updates`. A different optimizer uses its default learning rate.
    """
    preset = PRESETS[name]
    alternatives = {"text": "corpus", "num_epochs": "num_updates", "valid_tokens": "valid_share"}
    if arguments.get("optimizer") != preset.get("optimizer"):
        alternatives["optimizer"] = "lr"
    omitted_names = {other for argument, other in alternatives.items() if argument in arguments}
    return {key: value for key, value in preset.items() if key not in omitted_names} | arguments
