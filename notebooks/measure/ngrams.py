"""Measure n-gram models, the baseline of held-out text: `python -m measure ngrams FILE`.

*Make it learn well* quotes the record. The long text is split as by the preset `minute`.
"""

import lesson
from experiments import perplexity_by_counting

from measure.measuring import rounded, write
from rnn_scratch.runs.presets import PRESETS
from rnn_scratch.settings import Settings
from rnn_scratch.text import books, dataset, vocabulary

LENGTHS = range(1, 8)  # n of the n-grams


def measure(vocab, train, held_out):
    """Return the held-out perplexity of each model and the sizes of both texts."""
    corpora = [vocabulary.decode(tokens.tolist(), vocab) for tokens in (train, held_out)]
    return {
        "characters": [len(corpus) for corpus in corpora],
        "perplexity": {
            str(n): rounded(perplexity_by_counting(*corpora, n, len(vocab))) for n in LENGTHS
        },
    }


def main(file):
    """Measure both texts and write the record."""
    preset = PRESETS["minute"]
    settings = Settings(
        **{name: preset[name] for name in ("max_tokens", "valid_share", "normalize")}
    )
    write(
        file,
        {
            "tide-clock": measure(*lesson.text()),
            "time-machine": measure(*dataset.prepare(books.load("time-machine"), settings)),
        },
    )
