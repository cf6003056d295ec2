"""The command line: its output, and errors with exit code 2 for invalid input."""

import io
import json
import math
import os
import re
import shlex
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from helpers import SMALL, here, history, options

import rnn_scratch
from rnn_scratch.play import page
from rnn_scratch.runs import decoding
from rnn_scratch.runs.presets import PRESETS, SAMPLE
from rnn_scratch.settings import SETTINGS

TRAIN = ("train", "--backend", "numpy", "--epochs", "2")


@pytest.mark.frameworks(by_default=("numpy", "torch"))
def test_the_output_of_a_training(capsys, backend_name):
    settings = {"backend": backend_name, "num_epochs": 11, "valid_tokens": 50, **SMALL}
    done = here(capsys, "train", *options(run="r", **settings)).ended(err="")
    assert not {"\x1b", "\r"} & set(done.out)
    first, tenth, end, *results, sample = done.out.splitlines()
    assert re.fullmatch(
        rf"{backend_name} \(scratch\) on \w+, threads: \d+, epochs 1 to 11, run folder: r", first
    )
    numbers = r"perplexity \d+\.\d\d \(held out \d+\.\d\d\)  [\d,]+ tokens/s"
    assert re.fullmatch(rf"epoch 10  {numbers}  'time traveller.{{50}}'", tenth)
    assert re.fullmatch(r"epoch 11: [\d,]+ tokens/s on \w+", end)
    last = history("r")[-1]
    for text, loss, line in (
        ("training", last["loss"], results[0]),
        ("held-out", last["valid_loss"], results[1].removesuffix(" (best)")),
    ):
        figures = f"{loss:.3f} nats, {loss / math.log(2):.3f} bits per character"
        assert line == f"{text} text  {figures}, perplexity {math.exp(loss):.2f}"
    # As the README's command writes: not the most likely characters, which soon repeat themselves.
    assert sample == here(capsys, "predict", "r", "--best", *options(**SAMPLE)).out.rstrip("\n")


def test_predict(capsys, small_run):
    done = here(capsys, "predict", small_run, "--prefix", "the ", "--length", "12").ended(err="")
    assert re.fullmatch(r"the [a-z ]{12}\n", done.out)
    hot = ("predict", f"{small_run}/checkpoint.safetensors", "--temperature", 9, "--seed")
    first, again, other = (here(capsys, *hot, seed).out for seed in (1, 1, 2))
    assert first == again != other
    assert first.startswith("time traveller ")
    skip = ("--prefix", "The ", "--unknown", "skip", "--length", 1)
    assert re.fullmatch("he .\n", here(capsys, "predict", small_run, *skip).out)


def test_a_prefix_from_standard_input(capsys, monkeypatch, small_run):
    for written, words in (
        ("clock \r\n", "clock "),
        ("the\n\n", r"lacks '\n'"),
        ("\xff", "standard input is not UTF-8"),
    ):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(written.encode("latin-1"))))
        done = here(capsys, "predict", small_run, "--prefix", "-", "--length", "1")
        assert words in done.out + done.err


def test_a_terminal_shows_each_character_when_it_is_chosen(on_terminal, monkeypatch, small_run):
    shown = []

    def greedy(logits):
        shown.append(sys.stdout.getvalue())
        return np.argmax(logits)

    monkeypatch.setattr(decoding, "greedy", greedy)
    output = on_terminal("predict", small_run, "--prefix", "the ", "--length", "3").ended().out
    assert shown == [output[:number] for number in (4, 5, 6)]
    assert output[7:] == "\n"


def test_evaluate(capsys, small_run):
    done = here(capsys, "evaluate", small_run, "--corpus", "tide-clock").ended(err="")
    model, text, first, loss, uniform, unigram = done.out.splitlines()
    assert model == "model      epoch 2"
    trained = json.loads(Path(small_run, "run.json").read_bytes())["text"]["train_tokens"]
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
        assert f" {record['text'][size]} characters" in part
    assert "of tide-clock, which were trained on" in trained_on
    assert "which were held out" in held_out
    assert f"perplexity {last['valid_perplexity']:.2f} on " in held_out
    assert f"{last['valid_loss']:.3f} nats" in held_out
    result = rnn_scratch.evaluate(run)
    assert result.held_out.loss == last["valid_loss"]
    answer = json.loads(here(capsys, "evaluate", run, "--json").ended(err="").out)
    assert answer == {**result._asdict(), "held_out": result.held_out._asdict()}


def test_the_list_of_runs_as_json(capsys):
    assert json.loads(here(capsys, "runs", "--json").ended().out) == []
    for number in (1, 2):
        rnn_scratch.train("numpy", num_epochs=number, run=f"runs/{number}", **SMALL)
    second, first = json.loads(here(capsys, "runs", "--json").ended(err="").out)
    record = json.loads(Path("runs/2/run.json").read_bytes())
    state = {"run": 2, "folder": str(Path("runs/2")), "state": "finished"}
    assert second == {**state, "last": history("runs/2")[-1], "record": second["record"]}
    assert second["record"]["identity"] == record["identity"]
    assert first["run"] == 1


def test_a_run_like_another_one_or_a_preset(capsys):
    small = {**SMALL, "num_epochs": 1, "backend": "numpy", "run": "a b"}
    unlike = {"optimizer": "adam", "lr": 0.3, "valid_share": 0.2, "patience": 7, "theta": "none"}
    here(capsys, "train", *options(**small, **unlike)).ended()
    command = ("train", "--like", "a b", "--run", "c", "--cell", "lstm", "--optimizer", "momentum")
    shown, *_ = here(capsys, *command, "--valid-tokens", "50").ended().out.splitlines()
    assert shown.startswith("like a b: rnn-scratch train --run c --backend numpy --model scratch ")
    before, after = (json.loads(Path(run, "run.json").read_bytes()) for run in ("a b", "c"))
    changed = {"cell": "lstm", "optimizer": "momentum", "valid_tokens": 50}
    implied = {"lr": 0.1, "valid_share": 0.0}
    assert after["settings"] == {**before["settings"], **changed, **implied}
    assert after["text"]["sha256"] == before["text"]["sha256"]
    assert after["sessions"][0]["patience"] == 7
    again = shlex.split(shown.partition("rnn-scratch ")[2].replace("--run c", "--run d"))
    here(capsys, *again).ended()
    assert json.loads(Path("d", "run.json").read_bytes())["settings"] == after["settings"]

    small |= {"warmup": 2, "run": "e"}
    here(capsys, "train", "--preset", "minute", *options(**small)).ended()
    settings = json.loads(Path("e", "run.json").read_bytes())["settings"]
    expected = {name: v for name, v in {**PRESETS["minute"], **small}.items() if name in SETTINGS}
    assert settings == {**settings, **expected}


def test_impossible_values(capsys):  # the others are refused before the backend is loaded
    impossible = partial(here, capsys, *TRAIN, *options(**SMALL))
    impossible("--device", "tpu").refused(
        "no device 'tpu' for float32 on this machine.\nIt has: cpu"
    )
    impossible("--model", "concise").refused("NumPy has no recurrent layer")
    assert not Path("runs").exists(), "errors are reported before a folder is created"


@pytest.mark.parametrize("more", [("--model", "scratch"), ("--exact", "--corpus", "tide-clock")])
def test_check_on_a_device_that_no_backend_has(capsys, more):
    here(capsys, "check", "numpy", "--device", "zz", *more).refused(
        "`--device` must be auto or a device of this machine (got 'zz')", "numpy: cpu"
    )


def test_a_training_in_exact_mode_prints_the_digest_that_check_prints(capsys):
    same = options(optimizer="adam", num_epochs=2, **SMALL)
    done = here(capsys, "train", "--backend", "numpy", "--exact", "--run", "r", *same)
    (digest,) = re.findall(r"^digest ([0-9a-f]{16})$", done.out, re.MULTILINE)
    assert digest in here(capsys, "check", "numpy", "--exact", *same).out
    assert "digest" not in here(capsys, "train", "--backend", "numpy", "--run", "s", *same).out


# The command `play`: the file that it writes. (The page in a browser: browser_run.py.)


def test_it_writes_one_file_that_loads_nothing_else(capsys):
    rnn_scratch.train("numpy", run="runs/<b>", num_epochs=1, **SMALL)
    done = here(capsys, "play", "last", "--no-browser").ended(err="")
    file = Path("runs/<b>/play.html")
    assert done.out == f"The network of runs/<b> is in {file.absolute()}\n"
    content = file.read_text(encoding="utf-8")
    assert "<h1>&lt;b&gt;</h1>" in content
    assert re.findall(r'(?:src|href|action)="([^"]*)"|@import|url\(', content) == ["data:,"]
    assert "content=\"default-src 'none'; script-src 'unsafe-inline'" in content
    for name in page.SCRIPTS:
        assert (page.FOLDER / name).read_text(encoding="utf-8") in content
    # From a folder scripts run in their order, without `defer`: after what they change.
    assert content.index("</main>") < content.index("<script>")
    here(capsys, "play", "runs/<b>/checkpoint.safetensors", "--no-browser", "--output", "my.html")
    assert "<h1>checkpoint.safetensors</h1>" in Path("my.html").read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform != "linux", reason="names of folders are Unicode elsewhere")
def test_names_and_vocabularies_are_no_markup(capsys):
    story = "</script><script>alert(1)</script><!-- " * 40
    Path("story.txt").write_text(story, encoding="utf-8")
    folder = os.fsdecode(b"\xff<img src=x>")
    text = {"text": "story.txt", "normalize": "none", "max_tokens": 0}
    run = rnn_scratch.train("numpy", run=folder, num_epochs=1, **{**SMALL, "corpus": None, **text})
    here(capsys, "play", folder, "--no-browser").ended(err="")
    content = Path(folder, "play.html").read_text(encoding="utf-8")
    assert "<h1>\\udcff&lt;img src=x&gt;</h1>" in content
    (data,) = re.findall("const NETWORKS = (.*);\n", content)
    assert "<" not in data
    assert json.loads(data)["rnn"]["vocab"] == run.vocab
    assert "<" in run.vocab


def test_a_run_that_is_not_there_is_refused(capsys):
    here(capsys, "play", "no-run", "--no-browser").refused("no-run")
    rnn_scratch.train("numpy", run="r", num_epochs=1, **SMALL)
    here(capsys, "play", "r", "--best", "--no-browser").refused("--best")
    for output in ("no-folder/a.html", "r"):
        here(capsys, "play", "r", "--no-browser", "--output", output).refused(
            "could not be written"
        )
    assert not Path("r/play.html").exists()
