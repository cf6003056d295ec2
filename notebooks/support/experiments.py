"""Functions shown in the lessons and used by the measurement tools."""

import time
from collections import Counter, defaultdict
from itertools import islice

import numpy

from rnn_scratch import registry
from rnn_scratch.contract import Batch, ModelConfig
from rnn_scratch.parameters import draw_parameters
from rnn_scratch.settings import Settings
from rnn_scratch.training import schedule


def count_ngrams(train, n):
    """Count an n-gram model with modified Kneser-Ney smoothing; return a table per context length.

    A table maps each context to its next characters' discounted probabilities, and to the rest of
    the probability, which the table of the next shorter context distributes.
    """
    tables, counts = [], Counter(train[i : i + n] for i in range(len(train) - n + 1))
    for _ in range(n):
        kinds, discounts = Counter(counts.values()), (0.5, 1.0, 1.5)
        if all(kinds[count] for count in (1, 2, 3, 4)):
            scale = kinds[1] / (kinds[1] + 2 * kinds[2])
            discounts = [c - (c + 1) * scale * kinds[c + 1] / kinds[c] for c in (1, 2, 3)]
        followers = defaultdict(dict)
        for gram, count in counts.items():
            followers[gram[:-1]][gram[-1]] = count
        table = {}
        for context, found in followers.items():
            total = sum(found.values())
            kept = {c: (k - discounts[min(k, 3) - 1]) / total for c, k in found.items()}
            table[context] = kept, 1 - sum(kept.values())
        tables.insert(0, table)
        counts = Counter(gram[1:] for gram in counts)  # how many characters precede the rest
    return tables


def ngram_probability(tables, context, character, vocab_size):
    """Return the probability of a character after a context."""
    probability = 1 / vocab_size
    for length, table in enumerate(tables[: len(context) + 1]):
        kept, rest = table.get(context[len(context) - length :], ({}, 1.0))
        probability = kept.get(character, 0.0) + rest * probability
    return probability


def ngram_probabilities(tables, text, vocab_size):
    """Return the probability of each character of a text, given the characters before it."""
    longest = len(tables) - 1
    return numpy.array(
        [
            ngram_probability(tables, text[max(0, i - longest) : i], character, vocab_size)
            for i, character in enumerate(text)
        ]
    )


def perplexity(probabilities):
    """Return the perplexity of a text whose characters have these probabilities."""
    return float(numpy.exp(-numpy.log(probabilities).mean()))


def choose_ngrams(train, validation, sizes, vocab_size):
    """Return the n whose model predicts the validation text best, and all n's perplexities."""
    found = {
        n: perplexity(ngram_probabilities(count_ngrams(train, n), validation, vocab_size))
        for n in sizes
    }
    return min(found, key=found.get), found


def sample_ngrams(tables, prefix, length, characters, seed=0):
    """Return a prefix and `length` characters, drawn from the model's probabilities."""
    rng, text, longest = numpy.random.RandomState(seed), prefix, len(tables) - 1
    for _ in range(length):
        context = text[len(text) - longest :]
        weights = [ngram_probability(tables, context, c, len(characters)) for c in characters]
        text += characters[rng.choice(len(characters), p=numpy.divide(weights, sum(weights)))]
    return text


def copied_share(text, train, length=20):
    """Return the share of a text in passages of at least `length` characters that `train` has."""
    known = {train[i : i + length] for i in range(len(train) - length + 1)}
    copied = numpy.zeros(len(text), bool)
    for i in range(len(text) - length + 1):
        if text[i : i + length] in known:
            copied[i : i + length] = True
    return float(copied.mean())


def recall_minibatches(num_fillers, count, seed, batch_size=32):
    """Yield minibatches of one symbol, random fillers, and ten queries for the symbol."""
    rng = numpy.random.RandomState(seed)
    for _ in range(count):
        symbols = rng.randint(4, size=(batch_size, 1))
        fillers = rng.randint(4, 12, size=(batch_size, num_fillers))
        queries = numpy.full((batch_size, 10), 12)
        answers = symbols.repeat(10, axis=1)
        X = numpy.concatenate([symbols, fillers, queries], axis=1)
        Y = numpy.concatenate([fillers, queries[:, :1], answers], axis=1)
        yield Batch(X, Y).map(numpy.asarray, "int64")


def recall_training(backend, cell, num_fillers, updates, sigma=0.125, forget_bias=0.0, seed=0):
    """Train a cell with 64 units on the task; yield the model after each number of updates."""
    installed = registry.load(backend)
    options = ModelConfig(vocab_size=13, num_hiddens=64, cell=cell)
    arrays = draw_parameters(options, sigma, seed)
    if cell == "lstm":
        arrays["b_f"] += forget_bias
    model = "scratch" if cell == "gru" else "fast"  # `fast` lacks the GRU
    network = registry.build(installed, model, arrays, options, "adam")
    settings = Settings(optimizer="adam", lr=0.005)
    batches = recall_minibatches(num_fillers, max(updates), seed)
    rules = schedule.each_update(settings, 0, max(updates))
    for start, end in zip((0, *updates), updates):
        installed.scratch.train_epoch(network, islice(batches, end - start), rules, carry=False)
        yield network


def recall_accuracy(backend, model, num_fillers, seed=1000):
    """Return the fraction of symbols that the model recalls in 1,000 new rows."""
    installed = registry.load(backend)
    (test,) = recall_minibatches(num_fillers, 1, seed, batch_size=1000)
    inputs = installed.machine.tensor(test.X, "cpu")
    state = installed.scratch.init_state(1000, model.options)
    logits, _ = model.forward(inputs, state, model.params, model.options)
    last = installed.machine.array(logits)[-1000:]  # (B, V) of the last time step
    return float((last.argmax(1) == test.Y[:, -1]).mean())


def plain_logits(tokens, h, params):
    """Return the logits (T B, V) of tokens (B, T), step by step; h (B, H) is the first state."""
    outputs = []
    one_hot = numpy.eye(len(params["W_xh"]), dtype=h.dtype)
    for x in one_hot[tokens.T]:  # x: (B, V)
        h = numpy.tanh(x @ params["W_xh"] + h @ params["W_hh"] + params["b_h"])
        outputs.append(h @ params["W_hq"] + params["b_q"])
    return numpy.concatenate(outputs)


def seconds(function, repeats=5):
    """Return the shortest of `repeats` call times in seconds, after one untimed call."""
    function()  # warm-up: compiles, and fills caches
    durations = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        durations.append(time.perf_counter() - start)
    return min(durations)
