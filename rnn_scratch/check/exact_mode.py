"""Exact mode's check: models compared after every update, and a certificate of their equality.

Each model is trained in a process of its own, the reference first, and all of its updates are
observed.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .. import exact, registry
from ..contract import RNNScratchError, Team
from ..parameters import everything
from ..runs import training
from ..runs.runtime import Runtime
from ..runs.setup import set_up
from ..settings import Settings, model_options
from ..text import corpus, dataset
from ..workers import groups
from .certificate import Account, AfterEpoch, ExactModel, ExactResult, certificate
from .observation import Digests, Observer, Parting, observed, states

EPOCH_TIMEOUT = 24 * 3600.0  # seconds for one epoch

Notify = Callable[[ExactModel, int], None]  # called at the start and after each epoch
# What a child sends before the first epoch and after each: with the digests after each update, and
# the number of those that were clipped so far.
Updates = tuple[AfterEpoch, list[Digests], int, Parting | None]


def compare(
    runtimes: Sequence[Runtime], settings: Settings, text: corpus.Text, progress: Notify
) -> ExactResult:
    """Train these models in exact mode, and compare their parameters after every update."""
    accounts = []
    with tempfile.TemporaryDirectory() as parent:
        for number, runtime in enumerate(runtimes):
            names = runtime.backend, runtime.model, runtime.workers
            model = ExactModel(*names, "trained", "", [], settings.cell)
            accounts.append(Account(model, Path(parent, str(number))))
        pairs = sorted(zip(runtimes, accounts), key=lambda pair: not pair[1].model.is_reference)
        expected: list[Digests] = []
        for runtime, account in pairs:
            progress(account.model, 0)
            try:
                _receive(account, runtime, settings, text, expected, progress)
            except RNNScratchError as error:
                account.model.outcome, account.model.reason = "failed", str(error)
            expected = expected or account.digests
        shapes: dict[str, tuple[int, ...]] = {}  # of all that is rounded
        if expected:
            options = model_options(settings, len(dataset.prepare(text, settings).vocab))
            state = settings.batch_size, settings.num_hiddens
            carried = dict.fromkeys(states(settings, options.num_states), state)
            names_of = observed(options, settings.optimizer)
            own = {names_of[name]: shape for name, shape in options.shapes().items()}
            shapes = own | carried
        found = certificate([account for _, account in pairs], shapes)
    models = [account.model for account in accounts]
    complete = bool(expected) and all(model.outcome != "failed" for model in models)
    return ExactResult(settings, text.sha256, models, complete and not found.divergence, found)


def _receive(
    account: Account,
    runtime: Runtime,
    settings: Settings,
    text: corpus.Text,
    expected: list[Digests],
    progress: Notify,
) -> None:
    model = account.model
    account.folder.mkdir()
    task = runtime, settings, text, expected, str(account.folder)
    for event in groups.ask_all(groups.calls(runtime.workers, _train, *task), EPOCH_TIMEOUT):
        if isinstance(event, str):
            model.outcome, model.reason = "not offered", event
            continue
        after, digests, account.clipped, account.parting = event
        account.digests += digests
        model.digests.append(after)
        progress(model, after.epoch)


def _train(
    rank: int,
    addresses: list[str],
    runtime: Runtime,
    settings: Settings,
    text: corpus.Text,
    expected: list[Digests],
    folder: str,
) -> Iterator[str | Updates]:
    team = Team(rank, tuple(addresses)) if addresses else None
    try:
        setup = set_up(settings, runtime, text, team=team)
    except registry.NotOffered as error:
        yield str(error).splitlines()[0]
        return
    observer = Observer(setup, expected, Path(folder) if rank == 0 else None)
    sent = 0

    def updates(epoch: int, perplexity: float | None) -> Updates:
        nonlocal sent
        digests, sent = observer.digests[sent:], len(observer.digests)
        digest = exact.digest(everything(setup.model))
        after = AfterEpoch(epoch, perplexity, sent - 1, digest)
        return after, digests, observer.clipped, observer.parting

    yield updates(0, None)
    for epoch, _ in training.epochs(setup, observer):
        yield updates(epoch.epoch, epoch.perplexity)
    if team is not None:
        setup.backend.workers.leave()
