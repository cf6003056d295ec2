"""Measure n-gram models, the baseline on held-out text: `python -m measure ngrams FILE`.

The lesson *Make it learn well* quotes the record. The novel is split as for the preset `minute`:
its first 90% are for training, and its last 5% are for the test.
"""

import lesson
from experiments import perplexity_by_counting

from measure.measuring import rounded, write
from measure.presets import split
from rnn_scratch.runs.presets import PRESETS
from rnn_scratch.settings import Settings
from rnn_scratch.text import books, dataset, vocabulary

LENGTHS = range(1, 8)  # values of n


def measure(vocab, train, held_out):
    """Return the lengths of both texts and, for each n, the perplexity of the held-out text."""
    corpora = [vocabulary.decode(tokens.tolist(), vocab) for tokens in (train, held_out)]
    return {
        "characters": [len(corpus) for corpus in corpora],
        "perplexity": {
            str(n): rounded(perplexity_by_counting(*corpora, n, len(vocab))) for n in LENGTHS
        },
    }


def main(file):
    """Measure n-gram models on the novel and on its beginning, and write the record to `file`."""
    corpus = PRESETS["minute"]["corpus"]
    names = ("max_tokens", "valid_share", "normalize")
    settings = Settings(**{name: PRESETS["minute"][name] for name in names})
    vocab, train, held_out, _ = dataset.prepare(books.load(corpus), settings)
    test = held_out[-len(split(corpus)[1]) :]
    write(file, {"beginning": measure(*lesson.text()), "novel": measure(vocab, train, test)})
