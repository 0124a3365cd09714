"""Every way in which a command can fail: what it says, and what it exits with."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from taskstore import Store, errors
from taskstore._log.gate import Gate
from taskstore._log.layout import Layout
from taskstore._log.locks import directory_lock, file_lock
from taskstore.cli import main
from taskstore.cli._errors import Status, guarded, status_of
from tests.cli.programs import CALL, INTERRUPTIBLE, environment, on_pipe
from tests.warm import warm


@pytest.fixture
def call(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Calls a command in the folder of the sample store."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("TASKSTORE_DIR", raising=False)

    def run(*arguments: str, stdin: str = "") -> Result:
        return CliRunner().invoke(main, arguments, input=stdin, prog_name="taskstore")

    return run


def in_shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of a shell, which can close and redirect streams."""
    return subprocess.run(
        ["/bin/sh", "-c", line],
        cwd=folder,
        env=environment(),
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )


CASES: list[tuple[str, int, str]] = [
    ("lsit plans", 2, "No such command 'lsit'; did you mean 'list'?"),
    ("zzz", 2, "No such command 'zzz'"),
    ("list", 2, "Missing argument 'COLLECTION'. It is one of: notes, plans."),
    ("list plnas", 1, "no collection 'plnas' in FOLDER/.taskstore; did you mean 'plans'?"),
    ("list a/b", 2, "invalid collection name 'a/b'"),
    ("list plans --wher x", 2, "No such option"),
    ("list plans -w staus=open", 2, "has no field 'staus'; did you mean 'status'?"),
    ("list plans -s -priorty", 2, "has no field 'priorty'; did you mean 'priority'?"),
    ("list plans -c id,titel", 2, "has no field 'titel'; did you mean 'title'?"),
    ("list plans -w a-b=1", 2, "'a-b=1' is not a filter: write one such as status=open"),
    ("list plans -w priority>high", 2, "priority has numbers in the log, and 'high' does not fit"),
    ("list plans -w done=yes", 2, "done has true or false in the log, and 'yes' does not fit"),
    ("list plans -w status:=open", 2, "status: 'open' is not JSON"),
    ("list plans -w labels=docs", 2, "labels has lists in the log, and 'docs' does not fit"),
    ("list plans -w updated_at>noon", 2, "updated_at 'noon' is not an RFC 3339 time"),
    ("list plans -n -1", 2, "-1 is not in the range x>=0"),
    ("get plans", 2, "Missing argument 'ID...'"),
    ("get plans plan-01", 1, "no record 'plan-01' in collection 'plans'; did you mean 'plan-001'?"),
    ("get plans zzz", 1, "no record 'zzz' in collection 'plans'\n"),
    ("add plans", 2, "Missing argument 'FIELD=VALUE...'"),
    ("add plans title", 2, "'title' does not name a field: write name=value, or name:=JSON"),
    ("add plans title=a title=b", 2, "title is given twice"),
    ("add plans titel=a", 2, "has no field 'titel'; did you mean 'title'?"),
    ("add plnas title=a", 2, "no collection 'plnas' yet; did you mean 'plans'? (--new creates it)"),
    ("add plans id=plan-001", 1, "record 'plan-001' already exists in collection 'plans'"),
    ("add plans id= title=a", 2, "invalid id ''"),
    ("add plans id=x deleted:=true", 2, "delete it, or remove the key"),
    ("add plans id=x updated_at=noon", 2, "updated_at has numbers in the log"),
    ("add plans -", 2, "stdin is not JSON"),
    ("set plans plan-001", 2, "Missing argument 'FIELD=VALUE...', or --unset FIELD"),
    ("set plans plan-01 status=x", 1, "did you mean 'plan-001'?"),
    ("set plans plan-001 priority=high", 2, 'as in priority:="high"'),
    ("set plans plan-001 id=x", 2, "an id cannot be changed"),
    ("add plans id=x updated_at=1 deleted=true", 2, "true marks a deleted record"),
    ("set plans plan-001 updated_at:=1", 2, "plans/plan-001: updated_at 1 is older than 17"),
    ("set plans plan-001 updated_at=1 status=x", 2, "at that version, pass --if updated_at=1\n"),
    ("set plans plan-001 --if updated_at=1 status=x", 1, "does not meet updated_at == 1"),
    ("set plans plan-001 --unset nope", 2, "has no field 'nope'"),
    ("set plans plan-001 --unset id", 2, "id and updated_at cannot be removed"),
    ("set plans plan-001 status=x --if priority>50", 1, "does not meet priority > 50"),
    ("set plans plan-001 status=x --if !owner", 2, "has no field 'owner'"),
    ("delete plans", 2, "Give either ids or --where"),
    ("delete plans plan-002 plan-09", 1, "no record 'plan-09'"),
    ("delete plans -w status=open", 2, "2 records would be deleted: pass --yes"),
    ("history plans plan-01", 1, "did you mean 'plan-001'?"),
    ("import plans nope.jsonl", 3, "'nope.jsonl': No such file or directory"),
    ("import plans .taskstore/.version", 2, "unknown format: pass --format"),
    ("import plans - -f json", 2, "not JSON: Expecting value"),
    ("import plans bad.jsonl --strict", 1, "nothing was imported, for 1 of the records cannot be"),
    ("import plnas nope.jsonl", 2, "no collection 'plnas' yet; did you mean 'plans'?"),
    ("export plans -o no/where.csv", 3, "Error: there is no folder 'no': create it first\n"),
    ("export plans -o bad.jsonl/x.csv", 3, "Error: there is no folder 'bad.jsonl': create it"),
    (
        "export plans -o x.xlsx",
        2,
        "'.xlsx' is not a format that can be written: give it a name with",
    ),
    ("export plans -o x.db", 2, "one of .jsonl, .ndjson, .json, .csv, or pass --format jsonl,"),
    ("list plans -w a.b=2", 2, "(for others there is `taskstore sql`)"),
    ("indexes add plans nope", 2, "has no field 'nope'"),
    ("indexes drop plans status", 1, "'status' is not indexed in 'plans'"),
    ("log plan-01", 1, "did you mean 'plan-001'?"),
    ("log p", 1, "did you mean 'plan-001', 'plan-002' or 'plan-003'?\n"),
    ("log p --collection plans", 1, "did you mean 'plan-001', 'plan-002' or 'plan-003'?\n"),
    ("get plans p", 1, "did you mean 'plan-001', 'plan-002' or 'plan-003'?\n"),
    ("log zzz", 1, "no version of a record 'zzz' in FOLDER/.taskstore\n"),
    ("log plan-001 --collection plan", 1, "no collection 'plan' in FOLDER/.taskstore; did you"),
    ("sql nonsense", 2, 'near "nonsense": syntax error'),
    ("sql SELECT_*_FROM_plan", 2, "no such table: plan; did you mean 'plans'?"),
    ("sql SELECT_titel_FROM_plans", 2, "no such column: titel; did you mean 'title'?"),
    ("sql DELETE_FROM_records", 2, "only queries can be run here"),
    ("sql ATTACH_'x.db'_AS_x", 2, "only queries can be run here"),
    ("sql PRAGMA_query_only=OFF", 2, "only queries can be run here"),
    ("sql INSERT_INTO_plans_VALUES(1)", 2, "only queries can be run here"),
    ("compact", 2, "Give either collections or --all"),
    ("compact plnas", 1, "did you mean 'plans'?"),
    ("watch --since nonsense", 2, "'nonsense' is not a cursor"),
    ("completion tcsh", 2, "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
    ("list plans --store nope", 3, "no store at 'nope': create one with `taskstore init`"),
]


@pytest.mark.parametrize(("line", "status", "message"), CASES, ids=[case[0] for case in CASES])
def test_a_mistake_is_named(
    line: str, status: int, message: str, call: Callable[..., Result], folder: Path
) -> None:
    """Each mistake ends with its exit status and a message that says what to do next."""
    (folder / "bad.jsonl").write_text('{"no": "id"}\n', encoding="utf-8")
    before = {path.name: path.read_bytes() for path in folder.glob(".taskstore/*.jsonl")}
    words = line.split(" ")
    if words[0] == "sql":
        words[1] = (
            words[1]
            .replace("SELECT_", "SELECT ")
            .replace("_FROM_", " FROM ")
            .replace("_INTO_", " INTO ")
        )
        words[1] = words[1].replace("_VALUES", " VALUES").replace("_AS_", " AS ")
        words[1] = words[1].replace("ATTACH_", "ATTACH ").replace("PRAGMA_", "PRAGMA ")
    done = call(*words)
    assert message.replace("FOLDER", str(folder)) in done.stderr
    assert (status, "") == (done.exit_code, done.stdout)
    assert before == {path.name: path.read_bytes() for path in folder.glob(".taskstore/*.jsonl")}
    assert not (folder / "x.db").exists()


def test_no_store_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no store upwards, the message says how to make or name one."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["list", "plans"], prog_name="taskstore")
    assert 3 == done.exit_code
    assert (
        "create one with `taskstore init`, or name it with --store or TASKSTORE_DIR" in done.stderr
    )


def test_a_store_without_collections_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listing a new store says how to create the first record."""
    (tmp_path / ".taskstore").mkdir()
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["list", "plans"], prog_name="taskstore")
    assert 1 == done.exit_code
    assert f"in {tmp_path}/.taskstore: `taskstore add plans ...` creates it\n" in done.stderr


@pytest.mark.parametrize("name", ["", ".taskstore"])
def test_the_store_can_be_named(name: str, folder: Path, tmp_path: Path) -> None:
    """--store and TASKSTORE_DIR take the directory, or the one that holds it; --store wins."""
    away = tmp_path / "away"
    away.mkdir()
    path = str(folder / name)
    count = ["list", "plans", "--count"]
    assert "3\n" == on_pipe(*count, "--store", path, cwd=away).stdout
    assert "3\n" == on_pipe(*count, cwd=away, TASKSTORE_DIR=path).stdout
    assert "3\n" == on_pipe(*count, "--store", path, cwd=away, TASKSTORE_DIR="/nowhere").stdout
    (folder / "deep" / "down").mkdir(parents=True)
    assert "3\n" == on_pipe(*count, cwd=folder / "deep" / "down").stdout


def test_bad_settings_stop_no_reader(call: Callable[..., Result], folder: Path) -> None:
    """Settings that are no TOML are told of; records are read all the same, and indexes not set."""
    (folder / ".taskstore/config.toml").write_text("[indexes\n", encoding="utf-8")
    assert "3\n" == call("list", "plans", "--count").stdout
    assert "config.toml: not TOML" in call("status").stderr
    done = call("indexes", "add", "plans", "status")
    assert (3, True) == (done.exit_code, "config.toml: not TOML" in done.stderr)
    (folder / ".taskstore/config.toml").write_text("[merge\n", encoding="utf-8")
    done = call("indexes", "add", "plans", "status")
    assert (3, True) == (done.exit_code, "config.toml: not TOML" in done.stderr)


@pytest.mark.parametrize("text", ["[merge\n", '[merge.plans]\ntitle = "nope"\n', "[indexes\n"])
@pytest.mark.parametrize("command", ["status", "sync"])
def test_settings_that_stop_a_merge_are_told(
    command: str, text: str, call: Callable[..., Result], folder: Path
) -> None:
    """`status` and `sync` say once that config.toml cannot be used, whichever part is wrong."""
    (folder / ".taskstore/config.toml").write_text(text, encoding="utf-8")
    done = call(command)
    assert (0, 1) == (done.exit_code, done.stderr.count("config.toml: "))
    assert f"Warning: {folder}/.taskstore/config.toml: " in done.stderr
    told = json.loads(call(command, "--json").stdout)["problems"]
    assert [True] == [problem.startswith(f"{folder}/.taskstore/config.toml: ") for problem in told]


def test_settings_that_are_a_directory_are_said(call: Callable[..., Result], folder: Path) -> None:
    """A config.toml that is a directory stops no reader, and each who needs it says the remedy."""
    (folder / ".taskstore/config.toml").mkdir()
    said = "config.toml: it is a directory, and must be a file: rename or remove it\n"
    assert "3\n" == call("list", "plans", "--count").stdout
    assert 0 == call("set", "plans", "plan-001", "status=x").exit_code
    for command in ("status", "sync"):
        assert said in call(command).stderr
    done = call("indexes", "add", "plans", "status")
    assert (3, True) == (done.exit_code, said in done.stderr)
    done = call("doctor", "--json")
    [found] = [each for each in json.loads(done.stdout)["findings"] if each["code"] == "config"]
    assert (1, "error") == (done.exit_code, found["level"])
    assert f"rename or remove {folder}/.taskstore/config.toml" == found["remedy"]
    assert 1 == call("doctor", "--fix").exit_code


def test_a_refusal_of_the_system_speaks_of_no_python(
    call: Callable[..., Result], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the operating system refuses a file, the message has nothing of Python's calls."""
    home = folder / "home"
    home.mkdir()
    (home / "taskstore").touch()
    monkeypatch.setenv("TASKSTORE_STATE_HOME", str(home))
    done = call("add", "plans", "id=new")
    assert 3 == done.exit_code
    assert f"cannot write '{home}/taskstore/stores/" in done.stderr
    assert "set TASKSTORE_STATE_HOME to a directory that you can write" in done.stderr
    assert "Errno" not in done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "list linked",
        "get linked a",
        "add linked id=b title=x",
        "set linked a title=x",
        "import linked new.jsonl",
        "export linked",
        "history linked a",
        "log a --collection linked",
        "watch linked --once",
    ],
)
@pytest.mark.parametrize("kind", ["link", "dangling", "directory"])
def test_a_log_that_is_no_file_is_named(
    kind: str, line: str, call: Callable[..., Result], folder: Path
) -> None:
    """A log that is a link or a directory is no missing one: the message says what to do."""
    (folder / "new.jsonl").write_text('{"id": "new"}\n', encoding="utf-8")
    path = folder / ".taskstore/linked.jsonl"
    if kind == "directory":
        path.mkdir()
        said = f"Error: {path} is not a regular file, so it is not a log: rename or move it\n"
    else:
        path.symlink_to("../new.jsonl" if kind == "link" else "../nowhere")
        said = f"Error: {path} is a symbolic link, but a log must be a regular file, which git "
        said += "can track: replace it with the file that it points to\n"
    done = call(*line.split())
    assert (3, "", said) == (done.exit_code, done.stdout, done.stderr)
    remedy = "rename or move it" if kind == "directory" else said.rpartition(": ")[2].strip()
    assert f"-> {remedy}\n" in call("doctor").stdout


def test_a_newer_store_is_refused(call: Callable[..., Result], folder: Path) -> None:
    """A directory of a newer version exits 3 and names the remedy."""
    (folder / ".taskstore/.version").write_text("2", encoding="utf-8")
    done = call("list", "plans")
    assert (3, True) == (done.exit_code, "pip install --upgrade taskstore" in done.stderr)


def test_each_error_has_its_status() -> None:
    """No, usage, store and busy are told apart by the error's type."""
    no = errors.RecordExistsError(collection="a", id="b")
    usage = errors.InvalidNameError(kind="collection", name="", reason="no")
    config = errors.ConfigError("x", reason="no")
    busy = errors.LockTimeoutError("x", timeout=1, lock="gate")
    other = errors.StoreClosedError("x")
    assert [1, 2, 3, 4, 3] == [status_of(error) for error in (no, usage, config, busy, other)]


def test_a_writer_in_the_way_is_busy(call: Callable[..., Result], folder: Path) -> None:
    """A lock that is held for too long exits 4, and the message says to try again."""
    error = errors.LockTimeoutError(folder, timeout=0.1, lock="gate")
    with pytest.raises(click.ClickException, match="try again in a moment") as caught, guarded():
        raise error
    assert Status.BUSY == caught.value.exit_code


@pytest.mark.parametrize("lock", [directory_lock, Gate])
def test_who_waits_for_a_lock_learns_for_whom(lock: Callable[..., Any], folder: Path) -> None:
    """A writer that has waited for a second says for which process, and then writes."""
    held = lock(Layout(folder / ".taskstore"))
    add = warm("add", "plans", "id=late", "title=x")
    pipe = subprocess.PIPE
    with held.hold(5):
        waiter = subprocess.Popen(add, cwd=folder, env=environment(), stdout=pipe, stderr=pipe)
        try:
            assert waiter.stderr is not None
            said = waiter.stderr.readline().decode()
            held.release()
            rest = waiter.communicate(timeout=30)
        finally:
            waiter.kill()
            waiter.wait()
    assert said.startswith(f"waiting for process {os.getpid()} (")
    assert said.endswith("), which writes to the store\n")
    assert (0, b"late\n", b"") == (waiter.returncode, *rest)


def test_who_prints_json_says_nothing_of_waits(folder: Path) -> None:
    """With --json a wait is silent; who waits behind another waiter names who has the gate."""
    layout = Layout(folder / ".taskstore")
    gate, turn = Gate(layout), file_lock(layout.turn_path, name="turn", store=layout.directory)
    add = warm("add", "plans", "title=x")

    def start(*more: str) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*add, *more], cwd=folder, env=environment(), stdout=pipe, stderr=pipe
        )

    with gate.hold(5), start("--json") as in_front:
        while in_front.poll() is None and turn.try_acquire():
            turn.release()
            time.sleep(0.01)
        with start() as behind:
            assert behind.stderr is not None
            said = behind.stderr.readline().decode()
            gate.release()
            rest = [waiter.communicate(timeout=30)[1] for waiter in (in_front, behind)]
    assert said.startswith(f"waiting for process {os.getpid()} (")
    assert [b"", b""] == rest
    assert [0, 0] == [in_front.returncode, behind.returncode]


@pytest.mark.parametrize("output", ["| head -n 1", "> /dev/full"])
def test_a_query_whose_output_ends_early_leaves_no_noise(output: str, folder: Path) -> None:
    """Where the rows of a query cannot all be printed, nothing is said of its cursor."""
    if "/dev/full" in output and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    with Store.open(folder / ".taskstore") as store:
        store.create_many(
            ({"id": f"p{n}", "title": "x" * 90} for n in range(2000)), collection="plans"
        )
    call = shlex.join(warm("sql", "SELECT * FROM plans", "--json"))
    done = in_shell(f"{call} {output}", folder)
    assert ("" if "head" in output else "Error: No space left on device\n") == done.stderr


@pytest.mark.parametrize(
    "arguments", [["list", "plans"], ["export", "plans"], ["--help"], ["list", "--help"]]
)
def test_a_reader_that_has_gone_ends_it_quietly(arguments: list[str], folder: Path) -> None:
    """A closed pipe ends a command with 141 and without a word."""
    with Store.open(folder / ".taskstore") as store:
        store.create_many(
            ({"id": f"p{n}", "title": "x" * 90} for n in range(2000)), collection="plans"
        )
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            warm(*arguments),
            cwd=folder,
            stdout=write,
            stderr=subprocess.PIPE,
            env=environment(),
            check=False,
        )
    finally:
        os.close(write)
    assert b"" == done.stderr
    assert 141 == done.returncode


@pytest.mark.parametrize(
    "arguments",
    [["list", "plans"], ["get", "plans", "plan-001", "--json"], ["export", "plans"], ["sync"]],
)
def test_a_closed_stdout_is_an_error_for_who_prints(arguments: list[str], folder: Path) -> None:
    """With stdout closed, data that cannot be printed are not lost in silence."""
    line = shlex.join([*CALL, *arguments]) + " >&-"
    done = in_shell(line, folder)
    assert 3 == done.returncode
    assert done.stderr.startswith("Error: 'stdout': it is closed")


@pytest.mark.parametrize(
    "arguments",
    [
        ["add", "plans", "-"],
        ["set", "plans", "plan-001", "-"],
        ["import", "plans", "-"],
        ["sql", "-"],
    ],
)
def test_a_closed_stdin_is_said_to_who_reads(arguments: list[str], folder: Path) -> None:
    """A command that reads stdin, and finds it closed, says so without a traceback."""
    done = in_shell(shlex.join([*CALL, *arguments]) + " <&-", folder)
    assert (2, "") == (done.returncode, done.stdout)
    assert "Error: stdin is closed: give it a file, or a pipe\n" == done.stderr


def test_a_query_may_name_any_collection(call: Callable[..., Result], folder: Path) -> None:
    """Of names that differ in their case the one that is spelled so counts; reserved ones are said.

    None of them ends in a traceback.
    """
    lines = {"Plans": '{"id": "P"}\n', "sqlite_foo": '{"id": "s"}\n'}
    for name, line in lines.items():
        (folder / f".taskstore/{name}.jsonl").write_text(line, encoding="utf-8")
    assert "id\nP\n" == call("sql", "SELECT id FROM Plans").stdout
    assert "count(*)\n3\n" == call("sql", "SELECT count(*) FROM plans").stdout
    assert 0 == call("sql", "SELECT count(*) FROM PLANS").exit_code
    done = call("sql", "SELECT id FROM sqlite_foo")
    assert 2 == done.exit_code
    assert "query records WHERE collection = 'sqlite_foo'" in done.stderr


def test_a_closed_stderr_makes_no_data_of_errors(folder: Path) -> None:
    """With stderr closed an error goes nowhere, and not to stdout, where data are."""
    done = in_shell(shlex.join([*CALL, "list", "nope"]) + " 2>&-", folder)
    assert (1, "") == (done.returncode, done.stdout)


@pytest.mark.parametrize("closed", ["2>&-", "<&- 2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_no_file_takes_the_place_of_a_closed_stream(closed: str, folder: Path) -> None:
    """A file that a command opens never has the number of a stream, closed though it be."""
    program = (
        "import os, sys, click; from taskstore import cli\n"
        "@cli.main.command('opened')\n"
        "def opened(): sys.exit(10 + os.open(os.devnull, os.O_RDONLY))\n"
        "cli._COMMANDS['opened'] = ''\n"
        "type(cli.main).get_command = lambda self, context, name: opened\n"
        "cli.main(['opened'])"
    )
    done = in_shell(f"{shlex.join([*CALL[:2], '-c', program])} {closed}", folder)
    assert 10 + 3 <= done.returncode, done


def test_the_nearest_name_is_offered_everywhere(call: Callable[..., Result], folder: Path) -> None:
    """An index, a collection to watch and a branch get the nearest known name as well."""
    call("indexes", "add", "plans", "title")
    assert "did you mean 'title'?" in call("indexes", "drop", "plans", "titel").stderr
    assert (
        "no collection 'plan' yet; did you mean 'plans'?\n"
        in call("watch", "plan", "--once").stderr
    )
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "first"]):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *who, *words], cwd=folder, check=True)
    done = call("diff", "mian")
    message = "Error: no commit is called 'mian'; did you mean 'main'?\n"
    assert (3, message) == (done.exit_code, done.stderr)


def test_a_deletion_is_told_as_json(call: Callable[..., Result]) -> None:
    """`delete --json` prints the ids, and whether it only looked."""
    done = call("delete", "plans", "plan-001", "--dry-run", "--json")
    assert {"ids": ["plan-001"], "dry_run": True} == json.loads(done.stdout)
    done = call("delete", "plans", "plan-001", "--json")
    assert {"ids": ["plan-001"], "dry_run": False} == json.loads(done.stdout)


WRITERS: list[tuple[str, str, str]] = [
    ("add plans id=new title=x", "what was to be added was written", "new"),
    ("add plans id=new title=x --json", "what was to be added was written", "new"),
    ("set plans plan-001 title=new --json", "the change was written", "new"),
    ("delete plans plan-001", "what was to be deleted was deleted", "deleted"),
    ("delete plans plan-001 --json", "what was to be deleted was deleted", "deleted"),
    ("delete plans plan-001 --dry-run", "nothing was deleted", ""),
    ("import plans new.jsonl", "what could be imported was written", "new"),
    ("import plans new.jsonl --json", "what could be imported was written", "new"),
    ("import plans new.jsonl --dry-run --json", "nothing was written", ""),
]


@pytest.mark.parametrize(("line", "said", "written"), WRITERS, ids=[each[0] for each in WRITERS])
@pytest.mark.parametrize(
    ("closing", "reason"),
    [
        (">/dev/full", "No space left on device"),
        (">&-", "it is closed, but there is something to print"),
    ],
)
def test_what_could_not_be_printed_was_done(
    closing: str, reason: str, line: str, said: str, written: str, folder: Path
) -> None:
    """A command that writes says whether it has, where it cannot print what it did."""
    if "/dev/full" in closing and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    (folder / "new.jsonl").write_text('{"id": "new", "title": "x"}\n', encoding="utf-8")
    log = folder / ".taskstore/plans.jsonl"
    before = log.read_text(encoding="utf-8")
    done = in_shell(f"{shlex.join(warm(*line.split()))} {closing}", folder)
    assert (3, f"Error: 'stdout': {reason}; {said}\n") == (done.returncode, done.stderr)
    added = log.read_text(encoding="utf-8").removeprefix(before)
    assert (written in added) if written else "" == added


@pytest.mark.parametrize(
    "line", ["add plans id=x owner=me deleted=true", "set plans plan-001 owner=me deleted=true"]
)
def test_a_new_field_is_told_once_it_is_there(line: str, call: Callable[..., Result]) -> None:
    """A write that is refused says why, and speaks of no new field; one that is made does."""
    done = call(*line.split())
    assert (2, 1) == (done.exit_code, done.stderr.count("\n"))
    assert "field 'deleted': true marks a deleted record" in done.stderr
    done = call(*line.split()[:-1])
    assert (0, "owner is a new field of plans") == (done.exit_code, done.stderr.split("\n")[0])


def test_a_dead_record_does_not_come_back_in_the_past(call: Callable[..., Result]) -> None:
    """`add` with a version that is older than the tombstone is a mistake, and not a busy store."""
    call("delete", "plans", "plan-001")
    done = call("add", "plans", "id=plan-001", "updated_at=1")
    assert 2 == done.exit_code
    assert done.stderr.endswith("leave updated_at out, or give a newer one\n")
    assert 0 == call("add", "plans", "id=plan-001").exit_code


def test_many_ids_that_begin_alike_are_not_all_named(call: Callable[..., Result]) -> None:
    """Of ids that begin with the given one three are named; of another collection's too."""
    call("add", "plans", "id=plan-004")
    call("add", "notes", "id=plan-000", "--new")
    begin = "; it begins 'plan-000', 'plan-001', 'plan-002' and others: which one do you mean?\n"
    done = call("log", "plan")
    assert (1, True) == (done.exit_code, done.stderr.endswith(begin))


def test_an_index_of_the_key_is_said_to_be_needless(call: Callable[..., Result]) -> None:
    """`indexes add` of id says that id needs no index."""
    done = call("indexes", "add", "plans", "id")
    assert (0, True) == (done.exit_code, "id is the key, and needs no index\n" in done.stderr)


def test_ctrl_c_ends_a_watch(folder: Path) -> None:
    """A watch prints what is committed as it comes; SIGINT ends it with 130 and a cursor."""
    watch = subprocess.Popen(
        [*INTERRUPTIBLE, "watch", "plans", "--since", "0", "--json", "--interval", "0.01"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    try:
        assert watch.stdout is not None
        first = [json.loads(watch.stdout.readline()) for _ in range(6)]
        with Store.open(folder / ".taskstore") as store:
            store.patch("plans", "plan-002", status="done")
        event = json.loads(watch.stdout.readline())
        watch.send_signal(signal.SIGINT)
        rest, stderr = watch.communicate(timeout=30)
    finally:
        with contextlib.suppress(ProcessLookupError):
            watch.kill()
        watch.wait()
    assert ["change"] * 4 + ["delete", "change"] == [event["event"] for event in first]
    assert ("plan-002", "done") == (event["id"], event["record"]["status"])
    assert (130, b"", b"") == (watch.returncode, rest, stderr)
    again = on_pipe("watch", "plans", "--since", event["cursor"], "--once", cwd=folder)
    assert ("", f"cursor: {event['cursor']}\n") == (again.stdout, again.stderr)


def test_an_output_that_is_full_is_said(folder: Path) -> None:
    """Where stdout cannot be written the command exits 3 and says why."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no /dev/full")
    with full.open("wb") as stdout:
        done = subprocess.run(
            warm("list", "plans"),
            cwd=folder,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=environment(),
            check=False,
        )
    assert 3 == done.returncode
    assert b"Error: No space left on device\n" == done.stderr


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_for_reading_only_is_read(folder: Path) -> None:
    """A store that may not be written is read, with its cache in memory."""
    directory = folder / ".taskstore"
    directory.chmod(0o500)
    try:
        assert "3\n" == on_pipe("list", "plans", "--count", cwd=folder).stdout
        assert 3 == on_pipe("set", "plans", "plan-001", "status=x", cwd=folder).status
    finally:
        directory.chmod(0o700)
