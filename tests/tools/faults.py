"""The campaign of faults: `nox -s faults`, or PYTHONPATH=tests python tests/tools/faults.py.

Kills, power cuts, flipped bits, damaged records and bad command lines, drawn from a random seed
(--seed). The last line is the number of trials and of failures; the exit code is 1 where there are
any.
"""

import argparse
import contextlib
import io
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bad_commands
from disk import recorded, remains
from helpers import CLONE, SAVING, SMALL, assert_same, figures, options, parameters, start, there
from mutations import mutations

import rnn_scratch
from rnn_scratch import registry
from rnn_scratch.cli.main import main as command
from rnn_scratch.contract import RNNScratchError
from rnn_scratch.runs import checkpoint, sessions
from rnn_scratch.runs import folder as run_folder

KILLS = 55  # of each backend
FLIPS, MUTATIONS = 500, 1_000
# Epochs of a few milliseconds, so that a kill may strike any moment of one.
KILLED = {**SMALL, "num_hiddens": 24, "max_tokens": 500, "batch_size": 8}

Trials = Iterator[tuple[str, str | None]]  # of each, what was done, and what went wrong


def kills(backend: str, seed: int, count: int) -> Trials:
    """Kill a training again and again, at any moment; at the end nothing is lost."""
    chance = random.Random(f"{seed} {backend}")
    run = f"killed-{backend}"
    first = ("train", "--backend", backend, "--threads", "1", *options(run=run, **KILLED))
    last = 0
    for number in range(count):
        has_begun = Path(run, "run.json").exists()
        arguments = ("train", "--resume", run, "--threads", "1") if has_begun else first
        # Half of the trainings save a checkpoint at every opportunity, half as users' do.
        program = {"program": ("-c", SAVING)} if number % 2 else {}
        process = start(*arguments, "--epochs", 10**6, **program)
        # A few kills strike the start of the process, most the training.
        if chance.random() < 0.8:
            wait_for_more_lines(process, Path(run, run_folder.HISTORY))
        time.sleep(chance.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        problem = None
        if Path(run, "run.json").exists():
            try:
                saved = checkpoint.load(run)
                run_folder.read(Path(run))
                epochs = [row.epoch for row in run_folder.history(Path(run))]
                if not last <= saved.epoch <= len(epochs):
                    problem = f"checkpoint {saved.epoch} after {last}, {len(epochs)} lines"
                last = saved.epoch
            except RNNScratchError as error:
                problem = str(error)
        yield f"kill {number + 1} of {backend}", problem
    total, whole = last + 5, f"whole-{backend}"
    settings = options(run=whole, **KILLED)
    done = (
        there("train", "--resume", run, "--threads", "1", "--epochs", total),
        there(*first[:5], *settings, "--epochs", total),
    )
    problem = next((each.err or str(each.code) for each in done if each.code), None)
    name = f"{backend} after {count} kills, epoch {total}"
    yield name, problem or difference(Path(run), Path(whole))


def wait_for_more_lines(process, path: Path) -> None:
    """Return when a history grows, or the process ends."""
    before = path.stat().st_size if path.exists() else 0
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if path.exists() and path.stat().st_size > before:
            return
        time.sleep(0.005)


def difference(run: Path, expected: Path) -> str | None:
    """What differs between two runs of the same settings."""
    try:
        assert_same(parameters(run), parameters(expected))
    except AssertionError as error:
        return f"other parameters: {error}"
    return None if figures(run) == figures(expected) else "another history"


def cuts(share: float) -> Trials:
    """Cut the power after every system call of a training; what is left is resumed exactly."""
    epochs = 6
    whole = rnn_scratch.train("numpy", num_epochs=epochs, run=f"whole-{share}", **SMALL).folder
    before, sessions.SHARE = sessions.SHARE, share
    with recorded() as calls:
        rnn_scratch.train("numpy", num_epochs=epochs, run=f"cut-{share}", **SMALL)
    sessions.SHARE = before
    records = [
        number
        for number, (kind, *rest) in enumerate(calls, 1)
        if kind == "rename" and rest[1].endswith(run_folder.RECORD)
    ]
    resumed: set[tuple[int, int]] = set()
    for variant, (number, left) in enumerate(remains(calls)):
        if number <= records[0]:
            continue  # no session has begun
        folder = Path(f"left-{share}-{variant}")
        folder.mkdir()
        for name, data in left.items():
            (folder / Path(name).name).write_bytes(data)
        problem = None
        try:
            saved = checkpoint.load(folder / checkpoint.FILE)
            place = saved.epoch, len(saved.incomplete.losses)
            if saved.epoch < epochs and place not in resumed:
                resumed.add(place)
                problem = difference(rnn_scratch.resume(folder, epochs).folder, whole)
            else:
                run_folder.read(folder)
                run_folder.repair_history(folder, saved.epoch)
                if len(run_folder.history(folder)) != saved.epoch:
                    problem = "epochs of the history are lost"
        except RNNScratchError as error:
            problem = str(error)
        yield f"power cut after call {number}", problem


def flips(seed: int) -> Trials:
    """Flip one bit of a checkpoint, anywhere: it is never loaded."""
    chance = random.Random(seed)
    run = rnn_scratch.train("numpy", num_epochs=1, run="flipped", **SMALL)
    path = checkpoint.find(run.folder)
    whole = path.read_bytes()
    for bit in chance.sample(range(8 * len(whole)), FLIPS):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        problem = None
        with contextlib.suppress(RNNScratchError):
            checkpoint.load(path)
            problem = "it was loaded"
        yield f"bit {bit}", problem


def damaged_records(seed: int) -> Trials:
    """Change the record of a run, and lines of its history; commands answer without a traceback."""
    run = rnn_scratch.train("numpy", num_epochs=12, run="runs/damaged", **SMALL).folder
    whole = {path: path.read_text(encoding="utf-8") for path in run.glob("*.json*")}
    commands = (["runs"], ["predict", str(run)], ["train", "--resume", str(run), "--epochs", "13"])
    saved = checkpoint.find(run).read_bytes()
    for file in (run_folder.RECORD, run_folder.HISTORY):
        path = run / file
        lines = whole[path].splitlines() if file == run_folder.HISTORY else [whole[path]]
        for number, text in enumerate(mutations(json.loads(lines[-1]), seed, MUTATIONS // 2)):
            for name, content in whole.items():
                name.write_text(content, encoding="utf-8")
            checkpoint.find(run).write_bytes(saved)
            with path.open("w", encoding="utf-8") as out:
                changed = number % len(lines)
                out.writelines(
                    (text if each == changed else line) + "\n" for each, line in enumerate(lines)
                )
            arguments = commands[number % 10 and number % 2]  # a training takes longest
            if number % 10 == 9:
                arguments = commands[2]
            yield f"{file}, mutation {number}: {arguments[0]}", run_command(arguments)


def run_command(arguments: list[str], refusal: str = "") -> str | None:
    """What is wrong with the way in which a command ends, in this process.

    With a `refusal`, it is to be refused by an error that contains this word.
    """
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            command(arguments)
    except SystemExit as error:
        if error.code not in ((2,) if refusal else (None, 0, 1, 2)):
            return f"exit code {error.code}"
    except BaseException as error:
        return f"a traceback of {error!r:.200}"
    text = output.getvalue()
    if "Traceback" in text:
        return "a traceback"
    return None if refusal in text else f"no word of {refusal}"


def commands() -> Trials:
    """Bad command lines end with exit code 2 and a message that names the option, at once."""
    for arguments, word in (*bad_commands.COMMANDS, *bad_commands.multiplied()):
        start = time.monotonic()
        problem = run_command(list(arguments), word)
        if time.monotonic() - start > 60:
            problem = "it took more than a minute"
        yield f"rnn-scratch {arguments!r:.200}", problem


def main() -> None:
    """Run the campaign, in a folder that is deleted afterwards."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--backends", default=",".join(registry.OURS))
    parser.add_argument("--kills", type=int, default=KILLS, help="of each backend")
    arguments = parser.parse_args()
    seed, backends = arguments.seed, arguments.backends.split(",")
    print(f"seed: {seed}", flush=True)
    count, failures = 0, 0

    def report(kind: str, trials: Trials) -> None:
        nonlocal count, failures
        begin, own = time.monotonic(), 0
        for name, problem in trials:
            own += 1
            if problem:
                failures += 1
                print(f"FAILED: {name}: {problem}", flush=True)
        count += own
        print(f"{kind}: {own} trials in {time.monotonic() - begin:.0f} s", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        # Kills run in processes of their own, so those of two backends run at once.
        with ThreadPoolExecutor(2) as pool:
            for backend, trials in zip(
                backends, pool.map(lambda name: list(kills(name, seed, arguments.kills)), backends)
            ):
                report(f"kills, {backend}", iter(trials))
        for share in (sessions.SHARE, 1e9):
            report("power cuts", cuts(share))
        report("flipped bits", flips(seed))
        report("damaged records of runs", damaged_records(seed))
        report("bad command lines", commands())
        os.chdir(CLONE)
    print(f"{count} trials, {failures} failures")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
