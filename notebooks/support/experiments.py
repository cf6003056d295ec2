"""Functions shown in the lessons and used by the measurement tools."""

import math
from collections import Counter, defaultdict
from itertools import islice

import numpy

from rnn_scratch import registry
from rnn_scratch.contract import Batch, ModelConfig
from rnn_scratch.parameters import draw_parameters
from rnn_scratch.settings import Settings
from rnn_scratch.training import schedule


def perplexity_by_counting(train, held_out, n, vocab_size):
    """Return the held-out perplexity of an n-gram model with Witten-Bell smoothing."""
    followers = defaultdict(Counter)  # counts of the next characters, by context
    for length in range(n):
        for i in range(length, len(train)):
            followers[train[i - length : i]][train[i]] += 1
    total = 0.0
    for i in range(n - 1, len(held_out)):
        probability = 1 / vocab_size
        for length in range(n):  # start with an empty context
            counts = followers.get(held_out[i - length : i], {})
            count, kinds = sum(counts.values()), len(counts)
            if count:
                probability = (counts[held_out[i]] + kinds * probability) / (count + kinds)
        total -= math.log(probability)
    return math.exp(total / (len(held_out) - n + 1))


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
