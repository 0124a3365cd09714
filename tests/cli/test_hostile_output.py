"""Whatever a clone has in it, no command lets it steer the terminal, or ends in a traceback."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from taskstore.cli import main
from tests.cli.programs import BAR, Run, environment, on_pipe, on_terminal
from tests.warm import warm

# A title for the window, a colour that we never use, a C1 control, changes of direction, line ends.
EVIL = "\x1b]0;evil\x07\x1b[41m\x9b2J\x7f\u202e\u2067\u2028\r\n\u00e9"
ID = f"id {EVIL}"
KEY = f"key {EVIL}"
BRANCH = "side\x9b41m\u202e"
FILE = "\x1b[41m[red]\x9b\u202e\n"
RAW_FILE = os.fsdecode(b"raw \xff\x9b41m")

# Of the colours that we use none has a background.
OURS = re.compile(r"\x1b\[(?:0|1|[39][0-7]|1;3[0-7])?m")
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
QUIET_GIT = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
WHO = {
    **QUIET_GIT,
    "GIT_AUTHOR_NAME": f"Eve {EVIL} Evil",
    "GIT_AUTHOR_EMAIL": "eve@example.org",
    "GIT_COMMITTER_NAME": "Eve",
    "GIT_COMMITTER_EMAIL": "eve@example.org",
}

# The calls of each command. A command without any is found by a test.
CASES: dict[str, list[list[str]]] = {
    "list": [
        ["plans"],
        ["plans", "--json"],
        ["plans", "--format", "nl"],
        ["plans", "--format", "table"],
        ["plans", "--format", "tsv"],
        ["plans", "-w", f"{EVIL}=1"],
        ["plans", "-c", KEY],
        ["plans", "--at", EVIL],
    ],
    "get": [["plans", ID], ["plans", ID, "--json"], ["plans", "id"]],
    "add": [
        ["plans", f"id=new {EVIL}", f"title={EVIL}"],
        ["plans", f"id=new {EVIL}", "--json"],
        ["plans", f"id={ID}"],
        ["plans", EVIL],
        [EVIL, "title=x"],
    ],
    "set": [
        ["plans", ID, f"title=new {EVIL}"],
        ["plans", ID, "title=x", "--json"],
        ["plans", ID, "title=x", "--if", f"title={EVIL}{EVIL}"],
    ],
    "search": [["x", "plans"], ["title"], [EVIL], [EVIL, "--json"], ["x", EVIL]],
    "schema": [["plans"], ["plans", "--json"], [EVIL]],
    "edit": [["plans", EVIL], [EVIL, ID]],
    "drop": [["plans", "--dry-run"], ["plans"], ["plans", "--yes", "--json"], [EVIL]],
    "rename": [["plans", EVIL], [EVIL, "tasks"], ["plans", "tasks"], ["tasks", "t", "--json"]],
    "delete": [["plans", ID], ["plans", "-w", "status=open", "--dry-run"], ["plans", "i"]],
    "history": [["plans", ID], ["plans", ID, "--json"], ["plans", ID, "-f", "table"]],
    "blame": [["plans", ID], ["plans", ID, "--json"], ["plans", EVIL], [EVIL, ID]],
    "restore": [
        ["plans", ID, "--at", "HEAD"],
        ["plans", ID, "--at", "HEAD", "--json"],
        ["plans", ID, "--at", EVIL],
        ["plans", EVIL],
    ],
    "revert": [["HEAD"], ["HEAD", "--json"], [EVIL]],
    "watch": [["--since", "0", "--once"], ["--since", "0", "--once", "--json"], ["--since", EVIL]],
    "import": [["plans", FILE], ["plans", RAW_FILE], ["plans", FILE, "--json"], ["plans", EVIL]],
    "export": [["plans"], ["plans", "-f", "json"], ["plans", "-o", f"out{FILE}.csv"]],
    "status": [[], ["--json"], ["--store", EVIL]],
    "collections": [[], ["--json"]],
    "indexes": [[]],
    "indexes show": [[]],
    "indexes add": [["plans", "status"], ["plans", EVIL]],
    "indexes drop": [["plans", EVIL]],
    "sql": [["SELECT * FROM plans"], ["SELECT * FROM plans", "-f", "nl"], [f"SELECT {EVIL}"]],
    "sync": [[], ["--force", "--json"]],
    "verify": [[], ["--json"]],
    "compact": [["--all"], ["--all", "--json"]],
    "completion": [["bash"], []],
    "init": [[], ["--json"], ["--types", EVIL]],
    "git": [[]],
    "git install": [[], ["--json"]],
    "git uninstall": [[], ["--json"]],
    "git status": [[], ["--json"]],
    "git hook": [["pre-commit"], ["post-merge"], ["post-checkout", EVIL, EVIL, "1"]],
    "log": [[ID], [ID, "--json"], ["id"]],
    "diff": [
        [],
        ["HEAD~1"],
        ["HEAD~1", "--json"],
        ["side 41m"],
        ["HEAD~1", "--stat"],
        ["HEAD~1", "--format", "markdown"],
        ["HEAD~1", "--format", "html"],
        ["--textconv", ".taskstore/plans.jsonl"],
    ],
    "adopt": [[EVIL], [f"{EVIL}:Base"], [f"json:{EVIL}"], ["json:JSONDecoder", "--exclude", EVIL]],
    "doctor": [[], ["--json"], ["--fix"], ["--types", EVIL]],
    "evolve": [
        [],
        ["--json"],
        ["old"],
        [EVIL],
        ["plans", "--step", EVIL],
        ["plans", "--step", json.dumps({"rename": {"title": EVIL}})],
    ],
    "browse": [["--host", EVIL], ["--port", EVIL]],
    "scribe": [[EVIL], [f"{EVIL}:MIRRORS", "--url", f"postgresql+psycopg://{EVIL}"]],
    "mcp": [["--store", EVIL]],
    "trust": [[], ["--json"], [EVIL], ["--remove", EVIL], ["shop.models"]],
    "merge": [
        ["base", "ours", "theirs"],
        ["base", "ours", "theirs", ".taskstore/plans.jsonl"],
        ["base", "ours", FILE + "none"],
    ],
}


def walk(group: click.Group, prefix: str = "") -> Iterator[str]:
    """The name of every command, those of groups too."""
    context = click.Context(group)
    for name in group.list_commands(context):
        yield f"{prefix}{name}"
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from walk(command, f"{prefix}{name} ")


def git(folder: Path, *call: str) -> None:
    """Run git."""
    variables = {**os.environ, **WHO}
    subprocess.run(["git", *call], cwd=folder, env=variables, check=True, capture_output=True)


def line(**fields: Any) -> str:
    """A line of a log, with the characters that JSON may have as they are."""
    return json.dumps(fields, ensure_ascii=False) + "\n"


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose every name and value is hostile, in two commits."""
    folder = tmp_path_factory.mktemp("origin")
    store = folder / ".taskstore"
    store.mkdir()
    git(folder, "init", "-q", "-b", "main")
    log = store / "plans.jsonl"
    first = {"id": ID, "title": EVIL, KEY: [EVIL], "status": "open", "updated_at": 1}
    log.write_text(line(**first), encoding="utf-8", newline="")
    (store / f"{FILE}.jsonl").write_text(line(id="a"), encoding="utf-8")
    (store / f"{RAW_FILE}.jsonl").write_text(line(id="a"), encoding="utf-8")
    config = f"[merge.plans]\n{json.dumps(KEY)} = {json.dumps(EVIL)}\n"
    (store / "config.toml").write_text(config, encoding="utf-8")
    revised = {"id": ID, "title": EVIL, "$revision": f"r {EVIL}", "updated_at": 1}
    (store / "old.jsonl").write_text(line(**revised), encoding="utf-8", newline="")
    step = {"collection": "old", "revision": EVIL, "steps": [{"rename": {EVIL: EVIL}}]}
    (store / "evolutions.jsonl").write_text(line(**step), encoding="utf-8", newline="")
    git(folder, "add", "-f", ".")
    git(folder, "commit", "-qm", f"first {EVIL}")
    with log.open("a", encoding="utf-8", newline="") as file:
        file.write(line(**{**first, "title": f"{EVIL}2", "updated_at": 2}))
        file.write(line(id=f"{ID}2", title=EVIL, status="open", updated_at=f"{EVIL}"))
        file.write('{"id": "\\ud800", "title": "surrogate"}\n' + f"<<<<<<< {EVIL}\n{EVIL}\n")
    git(folder, "commit", "-qam", f"second {EVIL}")
    return folder


@pytest.fixture
def cloned(origin: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Makes clones in folders with a hostile name, with an unusable line staged."""

    def make(name: str) -> Path:
        folder = tmp_path / name / FILE.strip()
        git(tmp_path, "clone", "-q", str(origin), str(folder))
        with (folder / ".taskstore/plans.jsonl").open("a", encoding="utf-8", newline="") as file:
            file.write(f'{{"id": "{EVIL}\n')
        git(folder, "add", "-u")
        git(folder, "branch", BRANCH)
        for file_name in (FILE, RAW_FILE):
            text = line(id=EVIL, title=EVIL) + line(no=EVIL) + f"{EVIL}\n"
            (folder / file_name).write_text(text, encoding="utf-8", newline="")
            (folder / file_name).rename(folder / f"{file_name}.jsonl")
        for side, title in (("base", "a"), ("ours", f"b {EVIL}"), ("theirs", f"c {EVIL}")):
            text = line(id=ID, **{KEY: title}, updated_at=3)
            (folder / side).write_text(text, encoding="utf-8", newline="")
        return folder

    return make


def called(name: str, arguments: list[str]) -> list[str]:
    """The words of a call."""
    if name == "import":
        arguments = [f"{word}.jsonl" if word in (FILE, RAW_FILE) else word for word in arguments]
    return [*name.split(), *arguments]


def check(run: Run) -> None:
    """Check that nothing in an output controls a terminal, and that there is no traceback."""
    output = run.stdout + run.stderr
    assert [] == STEERING.findall(output), output
    assert "\t" not in run.stderr
    assert "Traceback" not in output
    assert run.status in (0, 1, 2, 3)


def test_every_command_is_tried() -> None:
    """Each command has a case."""
    assert sorted(CASES) == sorted(walk(main))


@pytest.mark.parametrize("name", CASES)
def test_nothing_steers_whoever_reads_a_pipe(name: str, cloned: Callable[[str], Path]) -> None:
    """In a pipe no command prints a control character but line ends, and tabs between fields.

    With a stdout that is ASCII the exit status is the same, and so are the data.
    """
    folder, other = cloned("one"), cloned("two")
    for arguments in CASES[name]:
        words = called(name, arguments)
        run = on_pipe(*words, cwd=folder, **QUIET_GIT)
        check(run)
        ascii_run = on_pipe(*words, cwd=other, PYTHONIOENCODING="ascii:strict", **QUIET_GIT)
        check(ascii_run)
        assert run.status == ascii_run.status, ascii_run
        assert name == "export" or ascii_run.stdout.isascii()
        if "--json" in arguments and run.status in (0, 1) and run.stdout:
            texts = (run.stdout, ascii_run.stdout)
            ours, theirs = (text.splitlines() if name == "watch" else [text] for text in texts)
            shapes = [[type(json.loads(text)) for text in each] for each in (ours, theirs)]
            assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", CASES)
def test_nothing_steers_a_terminal(name: str, cloned: Callable[[str], Path]) -> None:
    """On a terminal no command prints a control character but line ends, and our own colours."""
    folder = cloned("one")
    for arguments in [*CASES[name][:1], *([["plans", "-f", "csv"]] if name == "export" else [])]:
        run = on_terminal(*called(name, arguments), cwd=folder, **QUIET_GIT)
        check(Run(run.status, OURS.sub("", BAR.sub("", run.stdout))))


@pytest.mark.parametrize("name", CASES)
def test_a_plain_locale_ends_in_no_traceback(name: str, cloned: Callable[[str], Path]) -> None:
    """In the locale C without UTF-8, where words are bytes, nothing ends in a traceback."""
    folder = cloned("one")
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    run = on_pipe(*called(name, CASES[name][0]), cwd=folder, **plain, **QUIET_GIT)
    check(run)
    assert name == "export" or (run.stdout + run.stderr).isascii()


def test_json_has_the_same_data_on_every_stdout(cloned: Callable[[str], Path]) -> None:
    """What --json and `export` print reads back as what the log has, in every encoding."""
    folder = cloned("one")
    found = []
    for encoding in ("utf-8", "ascii", "latin-1", "utf-16"):
        done = subprocess.run(
            warm("get", "plans", ID, "--json"),
            cwd=folder,
            env=environment(PYTHONIOENCODING=encoding),
            capture_output=True,
            check=True,
        )
        found.append(json.loads(done.stdout.decode(encoding)))
        done = subprocess.run(
            warm("export", "plans"),
            cwd=folder,
            env=environment(PYTHONIOENCODING=encoding),
            capture_output=True,
            check=True,
        )
        found.append(json.loads(done.stdout.split(b"\n")[0]))
    expected = {"id": ID, "title": f"{EVIL}2", KEY: [EVIL], "status": "open", "updated_at": 2}
    assert [expected] * 8 == found


def test_csv_in_a_pipe_is_as_the_log_has_it(cloned: Callable[[str], Path]) -> None:
    """CSV has no escapes, so that in a pipe its values are unchanged, and can be imported."""
    folder = cloned("one")
    before = on_pipe("get", "plans", ID, "--json", cwd=folder).stdout
    table = subprocess.run(
        warm("export", "plans", "-f", "csv"),
        cwd=folder,
        env=environment(PYTHONIOENCODING="ascii"),
        capture_output=True,
        check=True,
    ).stdout
    assert EVIL in table.decode()
    copied = ["import", "copy", "-", "-f", "csv", "--new"]
    subprocess.run(warm(*copied), cwd=folder, env=environment(), input=table, check=True)
    assert json.loads(before) == json.loads(on_pipe("get", "copy", ID, "--json", cwd=folder).stdout)


@pytest.mark.parametrize(
    "words",
    [
        ["list", "plans", "-s"],
        ["list", "plans", "-c"],
        ["sql"],
        ["sql", "SELECT :a", "-p", "a"],
        ["indexes", "add", "plans"],
        ["log"],
        ["get", "plans"],
        ["set", "plans", "plan-001", "--if", "title=x", "title=x", "--unset"],
    ],
)
def test_what_is_typed_in_other_bytes_is_named(words: list[str], folder: Path) -> None:
    """A word that is not UTF-8 is a mistake, which exits 2 and is shown."""
    run = on_pipe(*words, RAW_FILE, cwd=folder)
    check(run)
    assert (2, "") == (run.status, run.stdout)
    assert r"raw \udcff\udc9b41m" in run.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_claim_that_was_made_is_not_denied(encoding: str, folder: Path) -> None:
    """`set --if` exits 0 where it wrote, and 1 only where it did not, whatever stdout can take."""
    claim = ["set", "plans", "plan-001", "owner=é📚", "--if", "!owner", "--json"]
    first, second = (on_pipe(*claim, cwd=folder, PYTHONIOENCODING=encoding) for _ in range(2))
    assert (0, "é📚") == (first.status, json.loads(first.stdout)["owner"])
    assert (1, "") == (second.status, second.stdout)
    assert "does not meet" in second.stderr


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("add plans id=new title=x owner=me", 0),
        ("set plans plan-001 title=x", 0),
        ("get plans nope", 1),
        ("list nope --nope", 2),
        ("list plans --store nope", 3),
        ("status", 0),
    ],
)
@pytest.mark.parametrize("closing", ["2>/dev/full", "2>&-"])
def test_a_stderr_that_takes_nothing_changes_no_status(
    closing: str, words: str, status: int, folder: Path
) -> None:
    """What cannot be said on stderr is lost, and the exit status says what was done."""
    if "/dev/full" in closing and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    call = f"{shlex.join(warm(*words.split()))} {closing}"
    done = subprocess.run(["/bin/sh", "-c", call], cwd=folder, env=environment(), check=False)
    assert status == done.returncode


CHANGES = {
    "compact plans": "the logs were compacted",
    "compact plans --json": "the logs were compacted",
    "sync": "the cache was updated from the logs",
    "verify --repair --json": "the cache was compared, not changed",
    "doctor --fix": "what is safe to fix was fixed",
    "init --json": "the store is there",
}


@pytest.mark.parametrize("words", CHANGES)
def test_a_change_is_told_where_stdout_is_full(words: str, folder: Path) -> None:
    """A command that changes something says so where it cannot print what it did."""
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            warm(*words.split()),
            cwd=folder,
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert 3 == done.returncode
    assert f"Error: 'stdout': No space left on device; {CHANGES[words]}\n" in done.stderr.decode()


@pytest.mark.parametrize("kind", ["progress", "waiting"])
def test_a_bar_shows_its_title_as_it_is(kind: str, folder: Path) -> None:
    """A title with escape codes, or what is markup for rich, is shown and does nothing."""
    script = (
        "import sys, time\nfrom taskstore.cli import _progress\n_progress._PATIENCE = 0\n"
        f"with _progress.{kind}(sys.argv[1]) as update:\n"
        "    time.sleep(0.3)\n    if update: update(1, 2)\n"
    )
    read, write = os.openpty()
    title = "[/x][red]a\x1b[41mb"
    call = [sys.executable, "-P", "-c", script, title]
    subprocess.run(call, stderr=write, env=environment(COLUMNS="200"), check=True)
    os.close(write)
    shown = os.read(read, 65536).decode()
    os.close(read)
    assert r"[/x][red]a\x1b[41mb" in shown
    assert "\x1b[41m" not in shown


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_tab_offers_nothing_that_a_shell_would_run(shell: str, folder: Path) -> None:
    """An id that a shell would expand, split or take for an option is not offered."""
    ids = ["$(touch pwned)", "`x`", "a;b", "a b", "--store=x", "a\nplain,b", "~x", "*", "é", "ok"]
    log = folder / ".taskstore/plans.jsonl"
    log.write_text("".join(line(id=id, updated_at=1) for id in ids), encoding="utf-8")
    for words in (["get", "plans", ""], ["get", "plans", "a"], ["history", "plans", "$"]):
        run = on_pipe(
            cwd=folder,
            _TASKSTORE_COMPLETE=f"{shell}_complete",
            COMP_WORDS=shlex.join(["taskstore", *words]),
            COMP_CWORD=words[-1] if shell == "fish" else str(len(words)),
        )
        expected = {"ok", "é"} if words[-1] == "" else set()
        found = set(re.findall(r"^(?:plain,)?(.+)$", run.stdout, re.MULTILINE)) - {"plain", "_"}
        assert (0, expected, "") == (run.status, found, run.stderr)


def test_a_traceback_is_escaped_too(folder: Path) -> None:
    """A fault of the program, whose traceback Python prints, does not show values as they are."""
    code = (
        "from taskstore import cli\n"
        "@cli.main.command('broken')\n"
        "def broken(): raise RuntimeError('a\\x1b[41mb')\n"
        "cli._COMMANDS = {'broken': ''}\n"
        "type(cli.main).get_command = lambda self, context, name: broken\n"
        "cli.main(['broken'])"
    )
    call = [sys.executable, "-P", "-c", code]
    done = subprocess.run(call, cwd=folder, env=environment(), capture_output=True, check=False)
    assert rb"RuntimeError: a\x1b[41mb" in done.stderr
    assert b"\x1b" not in done.stderr
