"""Output and files of the `train`, `predict`, `evaluate`, `check` and `play` commands."""

import json
import math
import os
import re
import sys
from functools import partial
from pathlib import Path

import pytest
from helpers import SMALL, history, options, raised_message, run_in_process

import rnn_scratch
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.play import page
from rnn_scratch.runs import run_folder
from rnn_scratch.runs.presets import PRESETS, SAMPLE
from rnn_scratch.settings import Settings

TRAIN = ("train", "--backend", "numpy", "--epochs", "2")


@pytest.fixture
def command(capsys):
    """Return a function that runs a command in this process and returns its result."""
    return partial(run_in_process, capsys)


@pytest.mark.frameworks(by_default=("numpy", "torch"))
def test_train_prints_epochs_results_and_a_sample(command, backend_name):
    settings = {"backend": backend_name, "num_epochs": 11, "valid_tokens": 50, **SMALL}
    result = command("train", *options(output="r", **settings)).assert_exit(err="")
    assert not {"\x1b", "\r"} & set(result.out)
    lines = result.out.splitlines()
    assert lines[-5:-4] == ["What next:"]
    assert lines[-1] == "rnn-scratch train --resume r --num-epochs 22"  # `last` is for runs/
    (middle,) = (n for n, line in enumerate(lines) if line.startswith("epoch 11, speed"))
    first, *epochs = lines[:middle]
    end, training, held_out, *_, sample = lines[middle : lines.index("")]
    assert re.fullmatch(
        rf"{backend_name} \(scratch\) on \w+, threads: \d+, epochs 1 to 11, run folder: r", first
    )
    metrics = r"training loss \d\.\d{3}  held-out loss \d\.\d{3}  \d+\.\d s"
    assert [line for line in epochs if not re.fullmatch(rf"epoch [ \d]\d/11  {metrics}", line)] == [
        f"  {row['sample']!r}" for row in history("r") if row.get("sample")
    ]
    assert re.fullmatch(r"epoch 11, speed [\d,]+ characters/s on \w+", end)
    last = history("r")[-1]
    for text, loss, line in (
        ("training", last["loss"], training),
        ("held-out", last["valid_loss"], held_out.removesuffix(" (best)")),
    ):
        figures = f"{loss:.3f} nats, {loss / math.log(2):.3f} bits per character"
        assert line == f"{text} loss  {figures}, perplexity {math.exp(loss):.2f}"
    # The sample is drawn at random, because greedy decoding would soon repeat itself.
    assert sample == command("predict", "r", "--best", *options(**SAMPLE)).out.rstrip("\n")


def test_predict_prints_prefix_and_characters(command, small_run):
    result = command("predict", small_run, "--prefix", "the ", "--length", "12").assert_exit(err="")
    assert re.fullmatch(r"the [a-z ]{12}\n", result.out)
    hot = ("predict", f"{small_run}/checkpoint.safetensors", "--temperature", 9, "--seed")
    first, repeated, other_seed = (command(*hot, seed).out for seed in (1, 1, 2))
    assert first == repeated != other_seed
    assert first.startswith("there were forty one ")
    skip = ("--prefix", "The ", "--unknown", "skip", "--length", 1)
    assert re.fullmatch("he .\n", command("predict", small_run, *skip).out)


def test_evaluate_prints_loss_and_baselines(command, small_run):
    result = command("evaluate", small_run, "--corpus", "tide-clock").assert_exit(err="")
    model, text, first, loss, uniform, unigram = result.out.splitlines()
    assert model == "model      epoch 2"
    assert text == "text       tide-clock"
    assert re.fullmatch(r"perplexity \d+\.\d\d on 181,908 characters", first)
    assert re.fullmatch(r"loss       \d\.\d{3} nats, \d\.\d{3} bits per character", loss)
    assert uniform.startswith("uniform    28.00  ")
    assert unigram.startswith("unigram    16.38  ")


def test_evaluate_splits_the_text_of_a_run(command):
    run = "held-out"
    command(*TRAIN, *options(output=run, valid_tokens=60, **SMALL)).assert_exit()
    result = command("evaluate", run).assert_exit(err="")
    trained_on, held_out = result.out.split("\n\n")
    record, last = json.loads(Path(run, "run.json").read_bytes()), history(run)[-1]
    for part, size in ((trained_on, "train_tokens"), (held_out, "valid_tokens")):
        assert f" {record['text'][size]} characters" in part
    assert "of tide-clock (training text)" in trained_on
    assert "(held-out text)" in held_out
    assert f"perplexity {last['valid_perplexity']:.2f} on " in held_out
    assert f"{last['valid_loss']:.3f} nats" in held_out
    result = rnn_scratch.evaluate(run)
    assert result.held_out.loss == last["valid_loss"]


def test_options_override_a_preset(command):
    small = {**SMALL, "num_epochs": 1, "backend": "numpy", "warmup": 2, "theta": "none"}
    result = command("train", "--preset", "minute", *options(output="r", **small)).assert_exit()
    expected = {**PRESETS["minute"], **small, "theta": None}
    settings = json.loads(Path("r", "run.json").read_bytes())["settings"]
    assert settings == {n: expected.get(n, value) for n, value in settings.items()}
    assert "preset minute: variant=fast, cell=lstm, " in result.out
    result = command("train", "--preset", "chapter", *options(output="s", **small)).assert_exit()
    assert "preset chapter: the defaults" in result.out


def test_option_replaces_alternatives_in_a_preset(command):
    Path("mine.txt").write_text("The clock and the tide. " * 60)
    small = options(num_hiddens=4, embedding=0, output="r", num_epochs=1, text="mine.txt")
    arguments = ("--backend", "numpy", *small, "--optimizer", "sgd", "--valid-tokens", 200)
    command("train", "--preset", "shakespeare", *arguments).assert_exit()
    record = json.loads(Path("r", "run.json").read_bytes())
    assert record["text"]["corpus"] == "file"
    settings = Settings(**record["settings"])
    assert (settings.lr, settings.schedule, settings.valid_share) == (1, "cosine", 0)


@pytest.mark.parametrize(("length", "num_epochs"), [(150, 60), (1000, 5), (4000, 1), (10_000, 1)])
def test_number_of_updates_becomes_epochs(command, length, num_epochs):
    """Train on texts that have about 1, 12, 50 and 125 minibatches of 80 characters."""
    Path("mine.txt").write_text("the clock and the tide  " * (length // 24 + 1))
    sizes = options(num_hiddens=4, batch_size=8, num_steps=10, num_updates=60, max_tokens=length)
    train = ("train", "--backend", "numpy", "--text", "mine.txt", *sizes)
    result = command(*train).assert_exit(err="")
    assert f"epochs 1 to {num_epochs}, " in result.out
    command(*train, "--epochs", 3).assert_error("`--num-updates` and `--num-epochs` cannot be")


def test_errors_name_options_of_the_command(command, small_run):
    result = command("predict", small_run, "--prefix", "Time")
    result.assert_error("To ignore them, use `--unknown skip`.")
    message = raised_message(rnn_scratch.predict, small_run, "Time")
    assert message.endswith('To ignore them, use `unknown="skip"`.')


def test_settings_are_options_with_short_aliases(command):
    help_text = command("train", "--help-all").assert_exit().out
    for name in Settings.__struct_fields__:
        assert f"--{name.replace('_', '-')}" in help_text
    headings = ["Run:", "Text:", "Network:", "Training:"]
    assert [line for line in help_text.splitlines() if re.match(r"\w+.*:$", line)] == headings
    assert max(map(len, help_text.splitlines())) <= 80
    small = {name: value for name, value in SMALL.items() if name != "num_hiddens"}
    aliases = ("--epochs", "1", "--layers", "2", "--num-hiddens", "3", "--output", "r")
    command("train", "--backend", "numpy", *aliases, *options(**small)).assert_exit()
    settings = json.loads(Path("r", "run.json").read_bytes())["settings"]
    assert (settings["num_epochs"], settings["num_layers"]) == (1, 2)


def test_unsupported_device_or_model_is_refused(command):
    impossible = partial(command, *TRAIN, *options(**SMALL))
    impossible("--device", "tpu").assert_error(
        "cannot use the device 'tpu' with float32 on this machine.\nChoose another `--device`: cpu"
    )
    impossible("--variant", "concise").assert_error(
        "does not support the concise variant.\nUse one of: scratch, fast."
    )
    assert not Path("runs").exists(), "a folder was created before the error"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("--variant", "scratch"), 2), (("--exact", "--corpus", "tide-clock"), 1)],
)
def test_check_names_the_devices_of_the_backend(command, arguments, code):
    result = command("check", "numpy", "--device", "zz", *arguments)
    text = " ".join(result.assert_exit(code).out.split())
    assert "cannot use the device 'zz'" in text


def test_exact_training_and_check_print_one_digest(command):
    settings = options(optimizer="adam", num_epochs=2, **SMALL)
    result = command("train", "--backend", "numpy", "--exact", "--output", "r", *settings)
    (digest,) = re.findall(r"^digest ([0-9a-f]{16})$", result.out, re.MULTILINE)
    assert digest in command("check", "numpy", "--exact", *settings).out
    assert "digest" not in command("train", "--backend", "numpy", "--output", "s", *settings).out


def test_play_writes_one_self_contained_file(command):
    rnn_scratch.train("numpy", output="runs/<b>", num_epochs=1, **SMALL)
    result = command("play", "last", "--no-browser").assert_exit(err="")
    file = Path("runs/<b>/play.html")
    assert result.out == f"Wrote the network of runs/<b> to {file.absolute()}\n"
    content = file.read_text(encoding="utf-8")
    assert "<h1>RNN trained on tide-clock</h1>" in content
    assert "<p>Run &lt;b&gt;: rnn, " in content
    assert re.findall(r'(?:src|href|action)="([^"]*)"|@import|url\(', content) == ["data:,"]
    assert "content=\"default-src 'none'; script-src 'unsafe-inline'" in content
    for name in page.SCRIPTS:
        assert (page.FOLDER / name).read_text(encoding="utf-8") in content


@pytest.mark.skipif(sys.platform != "linux", reason="folder names are Unicode on other platforms")
def test_play_escapes_names_and_vocabularies(command):
    story = "</script><script>alert(1)</script><!-- " * 40
    Path("<i>.txt").write_text(story, encoding="utf-8")
    folder = os.fsdecode(b"\xff<img src=x>")
    text = {"text": "<i>.txt", "normalize": "none", "max_tokens": 0}
    run = rnn_scratch.train(
        "numpy", output=folder, num_epochs=1, **{**SMALL, "corpus": None, **text}
    )
    command("play", folder, "--no-browser").assert_exit(err="")
    content = Path(folder, "play.html").read_text(encoding="utf-8")
    assert "<h1>RNN trained on &lt;i&gt;.txt</h1>" in content
    assert "<p>Run \\udcff&lt;img src=x&gt;: rnn, " in content
    (data,) = re.findall("const NETWORKS = (.*);\n", content)
    assert "<" not in data
    assert json.loads(data)["rnn"]["vocab"] == run.vocab
    assert "<" in run.vocab


def test_play_reports_an_unwritable_file(command, small_run):
    Path(small_run, "play.html").mkdir()
    command("play", small_run, "--no-browser").assert_error("play.html could not be written")


def test_old_option_names_work_and_say_the_new_ones(command):
    result = command(*TRAIN, "--model", "fast", "--run=r", *options(**SMALL)).assert_exit()
    assert result.err.splitlines() == [
        "`--model` is now `--variant`.",
        "`--run` is now `--output`.",
    ]
    assert run_folder.read(Path("r")).sessions[0].runtime.variant == "fast"
    with pytest.raises(RNNScratchError, match=r"Unknown argument `model`\.\nIt is now `variant`\."):
        rnn_scratch.train("numpy", model="fast")


def test_quiet_training_prints_only_the_text(command):
    result = command(*TRAIN, "--quiet", "--output", "r", *options(**SMALL)).assert_exit(err="")
    (text,) = result.out.splitlines()
    assert text == command("predict", "r", *options(**SAMPLE)).out.rstrip("\n")


def test_predict_uses_the_best_epoch_and_is_greedy_on_request(command):
    settings = {**SMALL, "num_epochs": 30, "valid_tokens": 60, "lr": 3.0}
    run = rnn_scratch.train("numpy", output="r", report=None, **settings)
    assert run.best.epoch < 30
    for is_best, arguments in ((True, ("r",)), (False, ("r", "--last-epoch"))):
        expected = rnn_scratch.predict("r", length=300, best=is_best)
        for greedy in (("--greedy",), ("--temperature", "0")):
            assert command("predict", *arguments, *greedy).out == expected + "\n"
    assert rnn_scratch.predict("r", best=True) != rnn_scratch.predict("r")
