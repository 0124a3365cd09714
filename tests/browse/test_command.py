"""`taskstore browse` from the outside."""

from __future__ import annotations

import json
import signal
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from taskstore.cli import main
from tests.browse.sample import append
from tests.browse.server import started
from tests.browse.site import HOME
from tests.cli.programs import on_pipe


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a small store."""
    append(tmp_path / ".taskstore", "plans", {"id": "a", "title": "Ship", "updated_at": 5_000})
    return tmp_path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("as_json", [True, False])
def test_the_address_is_printed(folder: Path, number: signal.Signals, as_json: bool) -> None:
    """The first line is the address, which answers at once; both signals end it with 0."""
    process = started(folder, *(["--json"] if as_json else []))
    assert process.stdout is not None
    line = process.stdout.readline()
    url = json.loads(line)["url"] if as_json else line.strip()
    assert url.startswith("http://127.0.0.1:")
    assert url.endswith(HOME)
    with urllib.request.urlopen(f"{url}/collections/plans", timeout=60) as answer:
        assert "Ship" in answer.read().decode()
    foreign = urllib.request.Request(url, headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(foreign, timeout=60)
    refused.value.close()
    assert 421 == refused.value.code
    process.send_signal(number)
    rest, errors = process.communicate(timeout=60)
    assert (0, "") == (process.returncode, rest)
    assert ("" if as_json else "press Ctrl-C to stop\n") == errors


def test_a_port_in_use_is_said(folder: Path) -> None:
    """A second server on the same port says that it is in use, and what to do."""
    process = started(folder, "--json")
    try:
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["url"].split(":")[2].partition("/")[0]
        second = on_pipe("browse", "--port", port, cwd=folder)
        assert (3, "") == (second.status, second.stdout)
        assert f"cannot listen on 127.0.0.1, port {port}: Address already in use" in second.stderr
        assert "give another --port" in second.stderr
    finally:
        process.terminate()
        process.communicate()


def test_an_address_that_is_not_ours_is_refused(folder: Path) -> None:
    """What is no address of this computer is an error that names it."""
    done = on_pipe("browse", "--host", "192.0.2.1", cwd=folder)
    assert (3, True) == (done.status, "cannot listen on 192.0.2.1" in done.stderr)


def test_datasette_is_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the command says how to install it."""
    monkeypatch.setattr("taskstore.cli._imports.find_spec", lambda name: None)
    done = CliRunner().invoke(main, ["browse", "--store", str(folder)])
    assert 2 == done.exit_code
    assert "datasette is not installed: pip install 'taskstore[browse]'" in done.output


def test_all_interfaces_come_with_a_warning(folder: Path) -> None:
    """A server that others can reach says so, and then accepts IP addresses as host names."""
    process = started(folder, "--host", "0.0.0.0", "--json")
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["url"].replace("0.0.0.0", "127.0.0.1")
    with urllib.request.urlopen(url, timeout=60) as answer:
        assert "plans" in answer.read().decode()
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert "whoever can reach 0.0.0.0 can read this store" in errors


def test_there_has_to_be_a_store(tmp_path: Path) -> None:
    """Without a store nothing is served."""
    assert 3 == on_pipe("browse", cwd=tmp_path).status
