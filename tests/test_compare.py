"""`compare`: the same training in several processes, and what is left when one of them fails."""

import csv
import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest
from helpers import options, other_packages, start, there

from rnn_scratch.compare import plan, summary

SMALL = options(num_hiddens=12, num_steps=6, batch_size=4, max_tokens=400, corpus="tide-clock")
SHORT = (*SMALL, "--epochs", "2", "--repeats", "2")

# Backends that are NumPy's but for one thing. Each stands where a worker may come to grief.
FOREIGN = {
    "sleepy": """
        import os, pathlib, time
        from rnn_scratch.backends.numpy import *
        def train_minibatch(*args):
            pathlib.Path("sleeper").write_text(str(os.getpid()))
            time.sleep(3600)
    """,
    "needy": "import a_module_that_nobody_has",
    "greedy": """
        from rnn_scratch.backends.numpy import *
        def train_minibatch(*args):
            return bytearray(2**62)
    """,
    "slanted": """
        from rnn_scratch.backends.numpy import *
        from rnn_scratch.backends import numpy
        def clip(grads, theta):
            grads, norm = numpy.clip(grads, theta)
            return grads, 2 * norm
    """,
    "choosy": """
        from rnn_scratch.text import minibatches
        from rnn_scratch.backends.numpy import *
        minibatches.draw_offset = lambda *args: 0
    """,
    "slow": """
        import time
        from rnn_scratch.backends.numpy import *
        from rnn_scratch.backends import numpy
        def train_epoch(model, minibatches, how, carry):
            minibatches = list(minibatches)
            time.sleep(0.05 * len(minibatches))
            return numpy.train_epoch(model, minibatches, how, carry)
    """,
}


@pytest.fixture
def foreign(tmp_path):
    return other_packages(tmp_path / "site", FOREIGN)


def record_of(folder):
    return json.loads((Path(folder) / "comparison.json").read_text(encoding="utf-8"))


def candidates(folder):
    return {plan.name(each): each for each in record_of(folder)["candidates"]}


def wait_for(what, process):
    deadline = time.monotonic() + 300  # against a hang
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def test_what_a_comparison_leaves(asked_backends):
    names = ",".join(asked_backends)
    done = there("compare", "--backends", names, "--models", "scratch,concise",
                 *SHORT, "--seeds", "2", "--output", "out")  # fmt: skip
    assert done.code == 0, (done.out, done.err)
    record = record_of("out")
    assert record["outcome"] == "finished"
    assert "compare --backends" in record["command"]
    found = candidates("out")
    measured = {n: each for n, each in found.items() if each["state"] != "not offered"}
    assert set(found) == {n + c for n in asked_backends for c in ("", " concise")}
    assert set(asked_backends) <= set(measured)
    seen = {(training["seed"], training["parameters"], training["minibatches seen"])
            for each in measured.values() for training in each["trainings"]}  # fmt: skip
    assert len(seen) == 2  # seeds; and in every process the same numbers to begin with
    for each in measured.values():
        assert (each["state"], each["threads"], each["device"]) == ("measured", 1, "cpu")
        assert each["environment"][each["backend"]]
        assert each["check"]["comparisons"] > 40
        assert each["check"]["off"] == []
        assert [len(t["perplexity"]) for t in each["trainings"]] == [2, 2]
        assert max(each["float64"]["differences"]) < 1e-12
        (speed,) = each["speed"]
        assert [one["round"] for one in speed["rounds"]] == [0, 1]
        assert {one["parameters"] for one in speed["rounds"]} == {
            each["trainings"][0]["parameters"]
        }
        beside = each["model"] == "scratch" and f"{each['backend']} concise" in measured
        for one in speed["rounds"]:
            assert min(one["first"], *one["minibatches"], *one["products"], one["memory"]) > 0
            assert ("beside" in one) == beside  # in turns with the framework's own layer
            for pairs in one.get("beside", {}).values():
                assert len(pairs) >= 5
                assert all(len(pair) == 2 and min(pair) > 0 for pair in pairs)
    ends = [t["perplexity"][-1] for each in measured.values() for t in each["trainings"][:1]]
    assert max(ends) - min(ends) < 1e-3 * min(ends)
    with Path("out/comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["candidate"] for row in rows] == list(measured)
    assert all(float(row["train_low"]) <= float(row["train"]) for row in rows)
    for name in measured:
        assert re.search(rf"^ {name} ", done.out, re.MULTILINE)
    for picture in ("speed", "perplexity", "start-up"):
        assert Path(f"out/{picture}.png").read_bytes().startswith(b"\x89PNG")
        assert Path(f"out/{picture}.svg").read_text().startswith("<?xml")
    assert str(Path.cwd()) not in Path("out/comparison.json").read_text(encoding="utf-8")


def test_the_report_is_made_from_the_record_alone_and_needs_nothing_else():
    there("compare", "--backends", "numpy", *SHORT, "--output", "out")
    page = Path("out/report.html").read_text(encoding="utf-8")
    for path in Path("out").iterdir():
        if path.name != "comparison.json":
            path.unlink()
    done = there("report", "out")
    assert done.code == 0, done.err
    assert Path("out/report.html").read_text(encoding="utf-8") == page
    assert not re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?(?!data:)\w", page)
    assert "<script" not in page


def test_each_failure_is_a_row_with_its_reason_and_the_others_go_on(foreign):
    names = "numpy,sleepy,needy,greedy,slanted,choosy,slow"
    done = there("compare", "--backends", names, *SHORT, "--timeout", "60", "--output", "out",
                 env=foreign)  # fmt: skip
    assert done.code == 1, (done.out, done.err)
    assert "Traceback" not in done.err
    found = candidates("out")
    reasons = {
        "sleepy": "no answer within 60 s",
        "needy": "No module named 'a_module_that_nobody_has'",
        "greedy": "MemoryError",
        "slanted": "first in: clip norm",
        "choosy": "its minibatches are not those of numpy",
    }
    for name, reason in reasons.items():
        assert found[name]["state"] == "failed"
        assert reason in found[name]["reason"]
        assert found[name]["speed"][0]["rounds"] == []  # nothing of it was timed
        assert reason in done.out
        assert reason.split("'")[0] in Path("out/report.html").read_text(encoding="utf-8")
    for name in ("numpy", "slow"):
        assert found[name]["state"] == "measured"
        assert len(found[name]["speed"][0]["rounds"]) == 2
    (slow,) = (r for r in summary.speeds(record_of("out")) if r.candidate == "slow")
    assert slow.ratio.high < 0.5  # twenty epochs a second, at most


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_worker_killed_in_the_middle(foreign):
    with start("compare", "--backends", "sleepy,numpy", *SHORT, "--output", "out",
               env=foreign) as process:  # fmt: skip
        wait_for(lambda: Path("sleeper").exists() and Path("sleeper").read_text(), process)
        os.kill(int(Path("sleeper").read_text()), signal.SIGKILL)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 1, (out, err)
    found = candidates("out")
    assert "killed by SIGKILL" in found["sleepy"]["reason"]
    assert "killed by SIGKILL" in out
    assert len(found["numpy"]["speed"][0]["rounds"]) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_its_comparison_and_what_was_measured_is_kept(foreign, how):
    with start("compare", "--backends", "numpy,sleepy", *SHORT, "--output", "out",
               env=foreign) as process:  # fmt: skip
        wait_for(lambda: Path("sleeper").exists() and Path("sleeper").read_text(), process)
        process.send_signal(how)
        out, err = process.communicate(timeout=300)
    assert process.returncode == (130 if how == signal.SIGINT else -how), (out, err)
    assert "Traceback" not in err
    deadline = time.monotonic() + 60
    while alive(int(Path("sleeper").read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    record = record_of("out")
    assert record["outcome"] == ("interrupted" if how == signal.SIGINT else "running")
    assert len(record["candidates"][0]["trainings"][0]["perplexity"]) == 2
    if how == signal.SIGINT:
        assert "Interrupted: this is what was measured until then." in out
    assert there("report", "out").code == 0


def test_a_backend_with_an_interpreter_of_its_own():
    done = there("compare", "--backends", "numpy", "--python", f"numpy={sys.executable}", *SHORT)
    assert done.code == 0, (done.out, done.err)
    (folder,) = Path("runs").glob("*-comparison")
    assert record_of(folder)["plan"]["pythons"] == ["numpy"]


def test_an_interpreter_that_is_none_or_lacks_the_project(tmp_path):
    bare = tmp_path / "bare"
    bare.write_text("#!/bin/sh\necho 'No module named rnn_scratch' >&2\nexit 1\n")
    bare.chmod(0o755)
    for python, reason in (("nowhere/python", "nowhere/python could not be started"),
                           (bare, "No module named rnn_scratch")):  # fmt: skip
        done = there("compare", "--backends", "numpy", "--python", f"numpy={python}", *SHORT)
        assert done.code == 1
        assert reason in done.out


def test_cost_against_size():
    done = there("compare", "--backends", "numpy", *SHORT, "--vary", "num-hiddens=4,8,16",
                 "--output", "out")  # fmt: skip
    assert done.code == 0, (done.out, done.err)
    rows = summary.speeds(record_of("out"))
    assert [row.value for row in rows] == [4, 8, 16]
    assert Path("out/scaling.svg").exists()
    assert not Path("out/speed.svg").exists()
    assert "num_hiddens" in done.out


def test_a_value_that_fails_takes_no_other_with_it(tmp_path):
    source = """
        from rnn_scratch.backends.numpy import *
        from rnn_scratch.backends import numpy
        def train_epoch(model, minibatches, how, carry):
            if model.num_hiddens == 8:
                raise MemoryError("eight is too many")
            return numpy.train_epoch(model, minibatches, how, carry)
    """
    env = other_packages(tmp_path / "more", {"narrow": source})
    done = there("compare", "--backends", "narrow", *SHORT, "--vary", "num_hiddens=4,8,16",
                 "--output", "out", env=env)  # fmt: skip
    assert done.code == 1
    states = [speed["state"] for speed in candidates("out")["narrow"]["speed"]]
    assert states == ["measured", "failed", "measured"]
    assert "narrow with num_hiddens 8 failed in timing" in done.out
    assert "eight is too many" in done.out


def test_a_layer_that_fails_takes_nothing_from_what_is_beside_it(tmp_path):
    source = """
        from rnn_scratch.backends.numpy import *
        from rnn_scratch.backends import numpy
        made = []
        def scratch(*args):
            made.append("scratch")
            return numpy.scratch(*args)
        def concise(*args):
            if made:
                raise MemoryError("two are too many")
            return numpy.scratch(*args)
    """
    env = other_packages(tmp_path / "more", {"narrow": source})
    done = there("compare", "--backends", "narrow", *SHORT, "--models", "scratch,concise",
                 "--output", "out", env=env)  # fmt: skip
    assert done.code == 1
    for each in candidates("out").values():
        (speed,) = each["speed"]
        assert speed["state"] == "measured", done.out
        assert [one["round"] for one in speed["rounds"]] == [0, 1]
    assert "narrow beside its layer failed: " in done.out
    assert "two are too many" in done.out


def test_a_new_comparison_beside_an_old_one():
    assert there("compare", "--backends", "numpy", *SHORT, "--output", "old").code == 0
    done = there("compare", "--backends", "numpy", *SHORT, "--lr", "0.5", "--output", "new",
                 "--against", "old")  # fmt: skip
    assert done.code == 0, (done.out, done.err)
    (row,) = record_of("new")["against"]["speeds"]
    assert row["ratio"] == row["now"][0] / row["before"][0]
    assert "Against the comparison of" in done.out
    assert "--lr: 1.0 before, 0.5 now" in done.out
    again = there("report", "new")
    assert "Against the comparison of" in again.out


def test_what_is_checked_is_what_is_compared(tmp_path):
    source = """
        from rnn_scratch.backends import numpy
        from rnn_scratch.backends.numpy import *
        def scratch(arrays, options):
            if "W_e" in arrays and options.activation == "relu":
                options = options._replace(activation="tanh")
            return numpy.scratch(arrays, options)
    """
    env = other_packages(tmp_path / "more", {"stubborn": source})
    asked = ("compare", "--backends", "stubborn", *SHORT)
    assert there(*asked, env=env).code == 0
    done = there(*asked, "--activation", "relu", "--embedding", "5", env=env)
    assert done.code == 1
    assert "its check is off" in done.out


def test_float64_is_trained_once_and_compared():
    done = there("compare", "--backends", "numpy", *SHORT, "--dtype", "float64", "--output", "out")
    assert done.code == 0
    (found,) = candidates("out").values()
    assert set(found["float64"]["differences"]) == {0}
    assert "losses" not in found["trainings"][0]


def refusals():
    yield ("--backends", "numpi"), ("numpi", "numpy")
    yield ("--models", "concice"), ("concice", "concise")
    yield ("--vary", "num_hiddens"), ("--vary num_hiddens=64,128,256",)
    yield ("--vary", "num_hiddens=a,b"), ("whole numbers",)
    yield ("--vary", "num_hiddens=0,4"), ("--num-hiddens is 0",)
    yield ("--vary", "threads=0"), ("threads=0",)
    yield ("--vary", "lr=1,2"), ("lr", "num_hiddens, batch_size, num_steps, threads")
    yield ("--vary", "batch_size=4,4000"), ("4000", "characters")
    yield ("--python", "torch"), ("--python mxnet=PATH",)
    yield ("--python", "torch=/x", "--backends", "numpy"), ("torch", "numpy")
    yield ("--against", "nowhere"), ("nowhere", "comparison.json", "--output")
    yield ("--output", "full"), ("full", "not empty", "--output")
    yield ("--output", "full/file/more"), ("full/file/more",)
    yield ("--lr", "0"), ("--lr is 0",)


@pytest.mark.parametrize(("arguments", "words"), list(refusals()))
def test_what_cannot_be_is_refused_before_anything_runs(arguments, words):
    Path("full").mkdir()
    Path("full/file").touch()
    done = there("compare", *SMALL, *arguments)
    done.refused(*words)
    assert not Path("runs").exists()


def test_reports_of_nothing_and_of_damaged_records():
    there("report", "nowhere").refused("nowhere", "comparison.json")
    Path("bad").mkdir()
    for content in ("", "[]", '{"settings": {}}', "{"):
        Path("bad/comparison.json").write_text(content)
        there("report", "bad").refused("bad/comparison.json", "damaged")


def test_the_help_tells_the_commands():
    assert "Run the same training on several backends" in there("compare", "--help").out
    assert "from its record" in there("report", "--help").out
