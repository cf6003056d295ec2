"""The campaign of faults of several workers: `nox -s team`, as root also with two networks.

Or PYTHONPATH=tests python notebooks/measure/team_faults.py, on Linux. For each backend, workers are
killed at random moments of a training in exact mode, which is resumed each time; and workers that
are started by hand have a network between them, which is cut. The exit code is 1 if anything has
failed.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from helpers import CLONE, is_running, lines, options, parameters, start

import rnn_scratch
from rnn_scratch import registry
from rnn_scratch.exact import digest
from rnn_scratch.runs import checkpoint, run_folder
from rnn_scratch.workers import rendezvous, supervisor

KILLS = 10  # of each backend
HASTE = supervisor.GRACE + 25  # seconds to end after a kill, on however busy a machine
# After a cut, likewise.
CUT = rendezvous.MACHINE_SILENCE + HASTE
SETTINGS = {"num_hiddens": 16, "num_steps": 6, "batch_size": 12, "max_tokens": 2000}
EXACT = {"corpus": "tide-clock", "exact": True, **SETTINGS}


class Trial(NamedTuple):
    """What was done, how long the others took to end, and what went wrong."""

    kind: str
    backend: str
    name: str
    seconds: float | None
    problem: str | None


Trials = Iterator[Trial]


def new(backend: str) -> tuple[Any, ...]:
    """The options of a new training."""
    return ("--backend", backend, "--corpus", "tide-clock", "--exact", *options(**SETTINGS))


def finish(process: subprocess.Popen, timeout: float = 300) -> tuple[int, str, str]:
    """Exit code, output and error."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        return -1, "", f"it did not end within {timeout:g} s: {process.communicate()}"
    return process.returncode, out, err


def descendants(number: int) -> dict[str, psutil.Process]:
    """All processes that a process has started, and those that they have, by what they are."""
    processes = {}
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(number).children(recursive=True):
            with contextlib.suppress(psutil.Error, OSError, ValueError):
                processes[_label(child)] = child
    return processes


def _label(process: psutil.Process) -> str:
    # A worker with its rank, or another one, such as a server of MXNet.
    if "rnn_scratch.workers.worker:run" in process.cmdline():
        arguments = Path(f"/proc/{process.pid}/fd/0").read_bytes()
        return f"worker {json.loads(arguments)[0][0]}"
    return process.environ().get("DMLC_ROLE", "another")


def name_of(label: str) -> str:
    """What is said of a killed process in the error that its end leads to."""
    if label.startswith("worker"):
        return f"{label.capitalize()} has failed: killed by SIGKILL"
    return "Worker" if label == "another" else f"MXNet's {label} has ended"


def wait_for(process: subprocess.Popen, run: Path, before: int, workers: int = 0) -> None:
    """Return when a history has more lines than before, or this many workers have been started.

    Or when the process has ended, or after two minutes.
    """
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if len(descendants(process.pid)) >= workers if workers else len(lines(run)) > before:
            return
        time.sleep(0.01)


def wrong_end(
    done: Sequence[tuple[int, str, str]],
    words: str,
    seconds: float,
    limit: float,
    processes: dict[str, psutil.Process],
    code: int = 2,
) -> str | None:
    """What is wrong with the end of a training of which something has struck a process."""
    time.sleep(1)
    if left := [label for label, process in processes.items() if is_running(process.pid)]:
        return f"still running: {left}"
    if seconds > limit:
        return f"it took {seconds:.1f} s"
    wrong = [each for each in done if each[0] != code or "Traceback" in each[2]]
    # An error names the worker; after Ctrl-C there is none.
    wrong += [each for each in done if (words in each[2]) != (code == 2)]
    return f"{wrong}" if wrong else None


def disagreement(run: Path) -> str | None:
    """What differs between a run and one of NumPy with one worker that nothing has disturbed."""
    epochs = checkpoint.load(run).epoch
    folder = tempfile.mkdtemp(dir=".")
    whole = rnn_scratch.train("numpy", num_epochs=epochs, run=f"{folder}/run", **EXACT)
    numbers = [row.epoch for row in run_folder.history(run)]
    if numbers != list(range(1, epochs + 1)):
        return f"epochs {numbers}"
    digests = digest(parameters(run)), digest(parameters(whole))
    return None if len(set(digests)) == 1 else f"digests {digests}"


def kills(backend: str, count: int, chance: random.Random) -> Trials:
    """Kill one process of a training again and again, at any moment; at the end nothing is lost."""
    run = Path(f"killed-{backend}")
    for number in range(count):
        workers = chance.choice((2, 2, 3))
        has_begun = (run / run_folder.RUN_FILE).exists()
        if not has_begun:  # a kill at the very beginning leaves an empty folder
            shutil.rmtree(run, ignore_errors=True)
        beginning = ("--resume", run) if has_begun else (*new(backend), "--run", run)
        before = len(lines(run))
        more = ("--workers", workers, "--threads", 1, "--epochs", 10**6)
        process = start("train", *beginning, *more)
        # A few strike the start, when the workers are there; most the training.
        early = has_begun and chance.random() < 0.2
        wait_for(process, run, before, workers if early else 0)
        time.sleep(chance.uniform(0, 3 if early else 1))
        processes = descendants(process.pid)
        if not processes:
            yield Trial("kill", backend, f"{number}", None, f"not started: {finish(process)}")
            continue
        # MXNet's scheduler and server as often as a worker.
        victim = chance.choice(sorted(processes))
        with contextlib.suppress(psutil.NoSuchProcess):
            processes[victim].kill()
        begin = time.monotonic()
        done = finish(process)
        seconds = time.monotonic() - begin
        label = f"{victim} of {workers}{', at the start' if early else ''}"
        problem = wrong_end([done], name_of(victim), seconds, HASTE, processes)
        yield Trial("kill", backend, label, seconds, problem)
    epochs = checkpoint.load(run).epoch + 3
    done = finish(start("train", "--resume", run, "--workers", 2, "--epochs", epochs))
    problem = f"it cannot be resumed: {done}" if done[0] else disagreement(run)
    yield Trial("resume", backend, f"after {count} kills, epoch {epochs}", None, problem)


# Two machines: networks of their own, with one cable between them.

NETWORKS = {f"rnn-{os.getpid()}-{side}": f"10.213.77.{side}" for side in (1, 2)}


def ip(*words: str) -> None:
    """Run the command `ip`."""
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@contextlib.contextmanager
def networks() -> Iterator[list[tuple[str, ...]]]:
    """For each machine, the prefix of a command that runs there; empty where there can be none."""
    prefixes = []
    try:
        _make_networks()
        prefixes = [("ip", "netns", "exec", name) for name in NETWORKS]
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"skipped, as there can be no two networks: {getattr(error, 'stderr', '') or error}")
    try:
        yield prefixes
    finally:
        for name in NETWORKS:
            with contextlib.suppress(OSError, subprocess.CalledProcessError):
                ip("netns", "delete", name)


def _make_networks() -> None:
    ends = [f"rnn{os.getpid() % 10**6}-{side}" for side in (1, 2)]
    for name in NETWORKS:
        ip("netns", "add", name)
    ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
    for (name, address), end in zip(NETWORKS.items(), ends):
        ip("link", "set", end, "netns", name)
        ip("-n", name, "link", "set", end, "name", "cable")
        ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
        for device in ("lo", "cable"):
            ip("-n", name, "link", "set", device, "up")


def machines(backend: str, prefixes: list[tuple[str, ...]]) -> Trials:
    """Train on two machines; then a worker is killed on one, and then the cable is cut."""
    name, address = next(iter(NETWORKS.items()))

    def both(*words: Any) -> list[subprocess.Popen]:
        hand = ("--workers", 2, "--threads", 1, "--coordinator", f"{address}:29500")
        return [
            start("train", *words, *hand, "--rank", rank, prefix=prefix)
            for rank, prefix in enumerate(prefixes)
        ]

    def trained(what: str, *words: Any) -> Trial:
        done = [finish(process) for process in both(*words)]
        failed = any(code for code, *_ in done)
        return Trial("machines", backend, what, None, f"{done}" if failed else disagreement(run))

    def strike(
        fault: str, action: Callable[[list[subprocess.Popen]], None], limit: float, code: int = 2
    ) -> Trial:
        before = len(lines(run))
        pair = both("--resume", run, "--epochs", 10**6)
        wait_for(pair[0], run, before)
        processes = {
            f"{side}: {label}": each
            for side, process in enumerate(pair)
            for label, each in descendants(process.pid).items()
        }
        action(pair)
        begin = time.monotonic()
        done = [finish(process) for process in pair]
        seconds = time.monotonic() - begin
        problem = wrong_end(done, "Worker ", seconds, limit, processes, code)
        return Trial("machines", backend, fault, seconds, problem)

    run = Path(f"machines-{backend}")
    first = trained("training", *new(backend), "--epochs", 5, "--run", run)
    yield first
    if first.problem:
        return
    # `ip netns exec` becomes the command that it runs.
    yield strike("Ctrl-C at worker 1", lambda pair: pair[1].send_signal(signal.SIGINT), HASTE, 130)
    yield strike(
        "worker 1 is killed", lambda pair: descendants(pair[1].pid)["worker 1"].kill(), HASTE
    )
    yield strike("the cable is cut", lambda _: ip("-n", name, "link", "set", "cable", "down"), CUT)
    ip("-n", name, "link", "set", "cable", "up")
    yield trained("resumed", "--resume", run, "--epochs", checkpoint.load(run).epoch + 2)


def main() -> None:
    """Run the campaign, in a folder that is deleted afterwards."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--backends", default=",".join(registry.OURS))
    parser.add_argument("--kills", type=int, default=KILLS, help="of each backend")
    parser.add_argument("--output", type=Path, help="file for all trials, as JSON")
    arguments = parser.parse_args()
    output = arguments.output and arguments.output.resolve()
    print(f"seed: {arguments.seed}", flush=True)
    # A shell lets its commands in the background ignore Ctrl-C, and their children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    trials: list[Trial] = []

    def keep(some: Trials) -> None:
        for trial in some:
            trials.append(trial)
            took = "" if trial.seconds is None else f" in {trial.seconds:.1f} s"
            result = f"FAILED: {trial.problem}" if trial.problem else "passed"
            print(f"{trial.kind}, {trial.backend}, {trial.name}{took}: {result}", flush=True)
        if output:  # after each part, as a campaign takes long
            record = {"seed": arguments.seed, "trials": [trial._asdict() for trial in trials]}
            output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    with tempfile.TemporaryDirectory() as folder, networks() as prefixes:
        os.chdir(folder)
        for backend in arguments.backends.split(","):
            chance = random.Random(f"{arguments.seed} {backend}")
            keep(kills(backend, arguments.kills, chance))
            if prefixes:
                keep(machines(backend, prefixes))
        os.chdir(CLONE)
    failures = sum(trial.problem is not None for trial in trials)
    print(f"{len(trials)} trials, {failures} failures")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
