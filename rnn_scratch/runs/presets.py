"""Named sets of arguments of `train`, found by measuring: notebooks/records/presets.json."""

from typing import Any

# What the two that learn a text well have in common.
LEARNER = {
    "model": "fast",
    "cell": "lstm",
    "optimizer": "adam",
    "schedule": "cosine",
    "warmup": 50,
    "sigma": 0.05,
    "max_tokens": 0,
    "valid_share": 0.1,
}
PRESETS: dict[str, dict[str, Any]] = {
    "chapter": {},
    "minute": {
        **LEARNER,
        "normalize": "none",
        "num_hiddens": 256,
        "batch_size": 16,
        "num_steps": 20,
        "dropout": 0.3,
        "lr": 0.005,
        "num_epochs": 7,
    },
    "shakespeare": {
        **LEARNER,
        "corpus": "tiny-shakespeare",
        "normalize": "none",
        "num_hiddens": 384,
        "embedding": 64,
        "num_steps": 20,
        "dropout": 0.1,
        "lr": 0.005,
        "num_epochs": 2,
    },
    "long": {
        **LEARNER,
        "corpus": "tiny-shakespeare",
        "normalize": "none",
        "num_hiddens": 512,
        "embedding": 64,
        "num_steps": 32,
        "dropout": 0.4,
        "lr": 0.004,
        "num_epochs": 8,
    },
}
