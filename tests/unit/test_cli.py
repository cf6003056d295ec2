"""The command line: its output, and errors with exit code 2 for invalid input."""

import http.client
import json
import re
import signal
import sys
from pathlib import Path

import psutil
import pytest
from helpers import SMALL, here, history, options, start

import rnn_scratch
from rnn_scratch.runs import page

TRAIN = ("train", "--backend", "numpy", "--epochs", "2")


@pytest.fixture
def run(capsys):
    """A small run, in the folder r."""
    here(capsys, *TRAIN, *options(run="r", **SMALL)).ended()
    return "r"


@pytest.mark.frameworks(by_default=("numpy", "torch"))
def test_the_output_of_a_training(capsys, backend_name):
    settings = {"backend": backend_name, "num_epochs": 11, "valid_tokens": 50, **SMALL}
    done = here(capsys, "train", *options(run="r", **settings)).ended(err="")
    assert not {"\x1b", "\r"} & set(done.out)
    first, tenth, eleventh, best, summary, *texts = done.out.splitlines()
    assert re.fullmatch(
        rf"{backend_name} \(scratch\) on \w+, threads: \d+, epochs 1 to 11, run folder: r", first
    )
    numbers = r"perplexity \d+\.\d\d \(held out \d+\.\d\d\)  [\d,]+ tokens/s"
    assert re.fullmatch(rf"epoch 10  {numbers}  'time traveller.{{50}}'", tenth)
    assert re.fullmatch(rf"epoch 11  {numbers}", eleventh)
    assert best.startswith("best held out: epoch ")
    assert re.fullmatch(r"perplexity \d+\.\d, [\d.]+ tokens/sec on \w+", summary)
    assert f"perplexity {history('r')[-1]['perplexity']:.1f}, " in summary
    assert [text[:9] for text in texts] == ["time trav", "traveller"]


def test_predict(capsys, run):
    done = here(capsys, "predict", run, "--prefix", "the ", "--length", "12").ended(err="")
    assert re.fullmatch(r"the [a-z ]{12}\n", done.out)
    hot = ("predict", f"{run}/checkpoint.safetensors", "--temperature", 9, "--seed")
    first, again, other = (here(capsys, *hot, seed).out for seed in (1, 1, 2))
    assert first == again != other
    assert first.startswith("time traveller ")
    skipped = here(capsys, "predict", run, "--prefix", "The ", "--unknown", "skip", "--length", 1)
    assert re.fullmatch("he .\n", skipped.out)


def test_evaluate(capsys, run):
    done = here(capsys, "evaluate", run, "--corpus", "tide-clock").ended(err="")
    text, first, loss, uniform, unigram = done.out.splitlines()
    trained = json.loads(Path(run, "run.json").read_bytes())["text"]["train_tokens"]
    words = f"tide-clock, whose first {trained} characters were trained on"
    assert text == f"text       {words}"
    assert re.fullmatch(r"perplexity \d+\.\d\d on 29,504 characters", first)
    assert re.fullmatch(r"loss       \d\.\d{3} nats, \d\.\d{3} bits per character", loss)
    assert uniform.startswith("uniform    28.00  ")
    assert unigram.startswith("unigram    16.60  ")


def test_evaluate_takes_the_run_s_own_text_in_its_two_parts(capsys):
    run = "held-out"
    here(capsys, *TRAIN, *options(run=run, valid_tokens=60, **SMALL)).ended()
    done = here(capsys, "evaluate", run).ended(err="")
    trained_on, held_out = done.out.split("\n\n")
    record, last = json.loads(Path(run, "run.json").read_bytes()), history(run)[-1]
    for part, size in ((trained_on, "train_tokens"), (held_out, "valid_tokens")):
        assert f" {record['text'][size]} characters" in part.splitlines()[0]
    assert "of tide-clock, which were trained on" in trained_on
    assert "which were held out" in held_out
    assert f"perplexity {last['valid_perplexity']:.2f} on " in held_out
    assert f"{last['valid_loss']:.3f} nats" in held_out
    assert rnn_scratch.evaluate(run).held_out.loss == last["valid_loss"]


# `test_bad_commands` has what is refused before the backend is loaded.
@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--device", "tpu", "--device is tpu; on this machine the numpy backend computes float32"),
        ("--model", "concise", "NumPy has no recurrent layer"),
    ],
)
def test_impossible_values(capsys, option, value, words):
    here(capsys, *TRAIN, *options(**SMALL), option, value).refused(words)
    assert not Path("runs").exists(), "errors are reported before a folder is created"


def test_impossible_ways_to_resume(capsys, run):
    resume = ("train", "--resume", run, "--epochs")
    here(capsys, *resume, 2).refused("2 epochs already")
    here(capsys, *resume, 3, "--theta", "none").refused("--theta: 1.0 before, None now")


@pytest.mark.parametrize("more", [("--model", "scratch"), ("--exact", "--corpus", "tide-clock")])
def test_check_on_a_device_that_no_backend_has(capsys, more):
    here(capsys, "check", "numpy", "--device", "zz", *more).refused(
        "--device is 'zz'", "numpy: cpu"
    )


def test_files_that_are_not_models(capsys, run):
    file = Path(run, "checkpoint.safetensors")
    file.write_bytes(file.read_bytes()[:-1])
    evaluate = ("evaluate", "--corpus", "tide-clock")
    for command in (("predict",), evaluate, ("train", "--epochs", 3, "--resume")):
        here(capsys, *command, run).refused(file.name, "damaged")
    here(capsys, "predict", "x" * 5000).refused("File name too long")


def test_a_training_in_exact_mode_prints_the_digest_that_check_prints(capsys):
    same = options(optimizer="adam", num_epochs=2, **SMALL)
    done = here(capsys, "train", "--backend", "numpy", "--exact", "--run", "r", *same)
    (digest,) = re.findall(r"^digest ([0-9a-f]{16})$", done.out, re.MULTILINE)
    assert digest in here(capsys, "check", "numpy", "--exact", *same).out
    assert "digest" not in here(capsys, "train", "--backend", "numpy", "--run", "s", *same).out


# The command `play`: what it serves, to whom, and how it ends. (The page: browser_run.py.)


def answer(port, path, host=None):
    """Status, headers and content of what is at a path, asked for by the name of some host."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers={"Host": host or f"127.0.0.1:{port}"})
    response = connection.getresponse()
    return response.status, response.headers, response.read()


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be sent Ctrl-C there")
def test_it_serves_the_page_to_this_machine_until_ctrl_c():
    rnn_scratch.train("numpy", run="runs/<b>", num_epochs=1, **SMALL)
    with start("play", "last", "--no-browser") as process:
        line = process.stdout.readline()
        found = re.fullmatch(r"The network of (.*) is at http://127.0.0.1:(\d+)/ until.*\n", line)
        assert found[1] == "runs/<b>"
        port = int(found[2])
        listening = [each.laddr for each in psutil.Process(process.pid).net_connections()]
        assert listening == [("127.0.0.1", port)]
        status, headers, content = answer(port, "/")
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert headers["Content-Security-Policy"].startswith("default-src 'self';")
        assert b"<h1>&lt;b&gt;</h1>" in content
        loads = re.findall(r'(?:src|href)="([^"]*)"', content.decode())
        assert set(loads) == {"data:,", page.STYLE, page.WEIGHTS, *page.SCRIPTS}
        for name in (page.STYLE, *page.SCRIPTS):
            status, _, own = answer(port, f"/{name}", "localhost:80")
            assert (status, own) == (200, (page.FOLDER / name).read_bytes())
        assert b"const NETWORKS = {" in answer(port, f"/{page.WEIGHTS}")[2]
        for path in ("/../pyproject.toml", "/nothing", "//etc/passwd"):
            assert answer(port, path)[0] == 404
        assert answer(port, "/weights.js", "another.example")[0] == 403
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (0, "The page is closed.\n", "")


def test_a_run_that_is_not_there_is_refused(capsys):
    here(capsys, "play", "no-run", "--no-browser").refused("no-run")
    rnn_scratch.train("numpy", run="r", num_epochs=1, **SMALL)
    here(capsys, "play", "r", "--best", "--no-browser").refused("--best")
