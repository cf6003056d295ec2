"""Solutions of the exercises whose functions no backend has: `grading` compares a student's."""

import time


def best_run(histories):
    """Return the name of the run whose best epoch has the lowest held-out loss.

    `histories` has a list of epochs for each name. An epoch has a `loss` and a `valid_loss`.
    """
    return min(histories, key=lambda name: min(epoch.valid_loss for epoch in histories[name]))


def seconds(function, repeats=5):
    """Return the shortest time of some calls, in seconds, after one call that is not timed."""
    function()  # compiles, and fills caches
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)
