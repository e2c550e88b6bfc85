"""The live page: on loopback, for who knows its token, new when the run is; Ctrl-C leaves nothing behind."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.client import HTTPConnection

import pytest
from tests.runtime.test_report import RUNS, training, write_run

from foveate.cli import main
from foveate.commands.watch.server import Server


@pytest.fixture
def served(tmp_path):
    """A server of a run, at work in a thread."""
    server = Server(write_run(tmp_path / "run", RUNS["healthy"]), 0, images=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def get(server, path, **headers):
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_the_page_is_served_under_its_token_alone(served):
    assert served.server_address[0] == "127.0.0.1"
    status, text = get(served, f"/{served.token}/")
    assert status == 200
    assert "connect-src" in text
    assert len(served.token) >= 20
    for path in (
        "/",
        "/page",
        f"/{served.token}x/",
        f"/{served.token}/../run.yaml",
        f"/{served.token}/run.yaml",
    ):
        assert get(served, path)[0] == 404, path


def test_another_name_for_this_machine_is_refused(served):
    """A page of another site whose name was pointed at 127.0.0.1 must not read it."""
    path = f"/{served.token}/"
    assert get(served, path, Host=f"evil.example:{served.server_port}")[0] == 404
    assert get(served, path, Host="localhost:9999")[0] == 200  # the other end of a tunnel


def test_the_state_and_the_page_change_with_the_run(served):
    path = f"/{served.token}"
    before = json.loads(get(served, f"{path}/state")[1])
    assert json.loads(get(served, f"{path}/state")[1]) == before
    with (served.folder / "metrics.jsonl").open("a") as stream:
        for row in training(30, wait=0.9):
            stream.write(json.dumps({**row, "step": 200 + row["step"]}) + "\n")
    assert json.loads(get(served, f"{path}/state")[1]) != before
    assert "starving" in get(served, f"{path}/page")[1]


def test_what_is_no_run_is_refused_before_anything_is_served(tmp_path, capsys):
    assert main(["watch", str(tmp_path)]) == 2
    assert main(["watch", str(tmp_path), "--port", "70000"]) == 2
    assert "--port 70000" in capsys.readouterr().err


@contextmanager
def killed_at_the_end(process):
    """A process that does not end by itself is a failure, not a wait for ever."""
    try:
        yield
    finally:
        process.kill()


def test_ctrl_c_ends_it_and_leaves_nothing_behind(tmp_path):
    run = write_run(tmp_path / "run", RUNS["healthy"])
    before = sorted(tmp_path.rglob("*"))
    command = [sys.executable, "-m", "foveate.cli", "watch", str(run)]
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    process = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=tmp_path)
    signal.signal(signal.SIGINT, ours)
    with process, killed_at_the_end(process):
        said = b""
        while b"leaves nothing" not in said:
            assert select.select([process.stderr], [], [], 120)[0]
            said += os.read(process.stderr.fileno(), 4096)
        assert re.search(rb"http://127\.0\.0\.1:\d+/[\w-]{20,}/", said)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    assert sorted(tmp_path.rglob("*")) == before
