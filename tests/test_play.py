"""The command `play`: what it serves, to whom, and how it ends. (The page: browser_run.py.)"""

import http.client
import re
import signal
import sys

import psutil
import pytest
from helpers import SMALL, here, start

import rnn_scratch
from rnn_scratch.runs import page


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
