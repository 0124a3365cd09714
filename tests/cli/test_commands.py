"""What single commands do beyond what they print."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from taskstore import Store
from taskstore._log.layout import Layout
from taskstore._store.seal import CacheSeal
from taskstore._text import visible
from taskstore.cli import main
from taskstore.cli._output import age, size
from tests.cli.programs import CALL, environment, on_pipe, on_terminal

SLOW = """
import sys, time
from taskstore.cli._progress import progress
from taskstore.cli import _progress
_progress._PATIENCE = float(sys.argv[1])
with progress("Reading") as update:
    for done in range(5):
        update(done, 5)
update(5, 5)
"""


def test_a_difference_is_the_answer_no(folder: Path) -> None:
    """`verify` exits 1 if the cache differs, names the record, and `--repair` makes it right."""
    assert 0 == on_pipe("verify", cwd=folder).status
    cache = sqlite3.connect(folder / ".taskstore/taskstore.db")
    with cache:
        cache.execute("UPDATE records SET data_json = replace(data_json, 'Ship', 'Skip')")
    cache.close()
    # Otherwise the next open would rebuild it.
    CacheSeal(Layout(folder / ".taskstore")).note()
    found = on_pipe("verify", cwd=folder)
    assert 1 == found.status
    assert "plans/plan-001: different" in found.stdout
    assert "`taskstore verify --repair` rebuilds the cache" in found.stderr
    as_json = on_pipe("verify", "--json", cwd=folder)
    assert (1, False) == (as_json.status, json.loads(as_json.stdout)["ok"])
    assert 0 == on_pipe("verify", "--repair", cwd=folder).status
    again = on_pipe("verify", cwd=folder)
    assert (0, "") == (again.status, again.stdout)


def test_an_unusable_cache_stops_no_command(folder: Path) -> None:
    """A cache that is garbled or gone is rebuilt by whatever comes next."""
    cache = folder / ".taskstore/taskstore.db"
    for wreck in (lambda: cache.write_bytes(b"x" * 5000), lambda: cache.unlink(missing_ok=True)):
        wreck()
        assert "3\n" == on_pipe("list", "plans", "--count", cwd=folder).stdout


def test_a_record_is_added_from_stdin(folder: Path) -> None:
    """JSON from stdin is taken as it is, text that looks like a number too; ids are made."""
    given = json.dumps({"title": "5", "labels": ["a"], "priority": 3})
    id = on_pipe("add", "plans", "-", cwd=folder, stdin=given).stdout.strip()
    found = json.loads(on_pipe("get", "plans", id, "--json", cwd=folder).stdout)
    assert ("5", ["a"], 3) == (found["title"], found["labels"], found["priority"])
    changed = on_pipe("set", "plans", id, "-", "--json", cwd=folder, stdin='{"priority": "high"}')
    assert "high" == json.loads(changed.stdout)["priority"]


def test_the_first_claim_of_all_needs_no_field(folder: Path) -> None:
    """--if may name a field that the same command sets, though no record has it yet."""
    first = on_pipe("set", "plans", "plan-001", "owner=ada", "--if", "!owner", cwd=folder)
    second = on_pipe("set", "plans", "plan-001", "owner=bob", "--if", "!owner", cwd=folder)
    assert (0, 1) == (first.status, second.status)
    stored = on_pipe("get", "plans", "plan-001", "--json", cwd=folder).stdout
    assert "ada" == json.loads(stored)["owner"]


def test_a_claim_has_one_winner(folder: Path) -> None:
    """Of several `set --if` at the same time one exits 0, and the others 1."""
    call = [*CALL, "set", "plans", "plan-001", "--if", "!assignee"]
    racers = [
        subprocess.Popen(
            [*call, f"assignee=w{n}"], cwd=folder, env=environment(), stderr=subprocess.DEVNULL
        )
        for n in range(4)
    ]
    assert [0, 1, 1, 1] == sorted(racer.wait() for racer in racers)


def test_a_collection_is_a_view(folder: Path) -> None:
    """In SQL a collection has its fields as columns, odd names and duplicates of case included."""
    with Store.open(folder / ".taskstore") as store:
        row = {"id": "x", "it's": 1, "Id": "other", "a b": [1, 2], "t": True}
        store.create(row, collection="odd-name")
    sql = 'SELECT id, "it\'s", "a b", t FROM "odd-name"'
    [found] = json.loads(on_pipe("sql", sql, "--json", cwd=folder).stdout)
    assert {"it's": 1, "a b": "[1,2]", "t": 1} == {key: found[key] for key in ("it's", "a b", "t")}


def test_ctrl_c_ends_a_query(folder: Path) -> None:
    """A query that would take for ever ends with 130 on SIGINT."""
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT max(x) FROM c"
    ready = "SELECT 1 AS ready"
    assert "ready\n1\n" == on_pipe("sql", ready, cwd=folder).stdout
    script = (
        "import os, signal, sys, threading\n"
        "from taskstore.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "threading.Timer(2, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "main(sys.argv[1:])\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, "sql", endless],
        cwd=folder,
        env=environment(),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (130, b"", b"") == (done.returncode, done.stdout, done.stderr)


def test_a_question_can_be_answered_no(folder: Path) -> None:
    """`delete --where` asks on a terminal; without a yes it exits 1 and deletes nothing."""
    done = on_terminal("delete", "plans", "-w", "status=open", cwd=folder, typed="n\n")
    assert (1, True) == (done.status, "Error: nothing was deleted" in done.stdout)
    assert "3\n" == on_pipe("list", "plans", "--count", cwd=folder).stdout


def test_an_export_goes_where_a_name_leads(folder: Path) -> None:
    """A link stays a link, a file keeps its permissions, and a device is written to."""
    real = folder / "real.csv"
    real.write_text("old")
    real.chmod(0o600)
    (folder / "link.csv").symlink_to(real.name)
    assert 0 == on_pipe("export", "plans", "-o", "link.csv", cwd=folder).status
    assert (True, 0o600) == ((folder / "link.csv").is_symlink(), real.stat().st_mode & 0o777)
    assert "plan-001" in real.read_text(encoding="utf-8")
    assert 0 == on_pipe("export", "plans", "-o", os.devnull, cwd=folder).status
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_a_query_gives_json_that_others_can_read(folder: Path) -> None:
    """Columns of one name are told apart, and infinities, for which JSON has no word, are text."""
    run = on_pipe("sql", "SELECT 1 a, 2 a, 9e999 b, -9e999 c", "--json", cwd=folder)
    expected = [{"a": 1, "a:1": 2, "b": "Infinity", "c": "-Infinity"}]
    assert expected == json.loads(run.stdout, parse_constant=pytest.fail)


def test_an_export_needs_no_suffix(folder: Path) -> None:
    """A file without a suffix gets JSON Lines; with --format any name will do."""
    for words in (["-o", "plain"], ["-o", "plans.txt", "-f", "jsonl"], ["-o", "plans.ndjson"]):
        assert 0 == on_pipe("export", "plans", *words, cwd=folder).status
        assert (folder / words[1]).read_text(encoding="utf-8").startswith('{"id":"plan-001"')


def test_an_export_that_cannot_be_written_names_its_file(folder: Path) -> None:
    """What the system says of the draft is said of the file that it would have become."""
    if not Path("/proc/self").exists():
        pytest.skip("there is no folder in which nobody can make a file")
    done = on_pipe("export", "plans", "-o", "/proc/x.csv", cwd=folder)
    said = "Error: '/proc/x.csv': No such file or directory\n"
    assert (3, said) == (done.status, done.stderr)


def test_an_export_may_have_the_longest_name(folder: Path) -> None:
    """A name that the file system takes is taken, though the draft has one of its own."""
    name = "x" * 251 + ".csv"
    assert 0 == on_pipe("export", "plans", "-o", name, cwd=folder).status
    assert (folder / name).read_bytes().startswith(b"\xef\xbb\xbfid,")


def test_an_export_replaces_a_file_when_it_is_whole(folder: Path) -> None:
    """A file keeps what it has if the export fails, and nothing is left beside it."""
    target = folder / "out.csv"
    target.write_text("old")
    assert 2 == on_pipe("export", "plans", "-o", "out.csv", "-c", "nope", cwd=folder).status
    assert "old" == target.read_text()
    assert 0 == on_pipe("export", "plans", "-o", "out.csv", cwd=folder).status
    assert target.read_bytes().startswith(b"\xef\xbb\xbfid,title,")
    assert [".taskstore", "out.csv"] == sorted(path.name for path in folder.iterdir())


def test_progress_is_for_people_who_wait(folder: Path) -> None:
    """A bar appears on a terminal once its time has come, and never in a pipe."""
    call = [sys.executable, "-P", "-c", SLOW]
    for patience, expected in (("0", True), ("60", False)):
        read, write = os.openpty()
        subprocess.run([*call, patience], stderr=write, env=environment(), check=True)
        os.close(write)
        os.set_blocking(read, False)
        try:
            shown = os.read(read, 65536)
        except OSError:
            shown = b""
        os.close(read)
        assert expected == (b"Reading" in shown)
    script = SLOW.replace("import progress", "import waiting")
    script = script.replace("with progress", "with waiting").replace(" as update", "")
    script = script.partition("    for")[0] + "    time.sleep(0.3)\n"
    run = subprocess.run([*call[:-1], script, "0"], capture_output=True, check=True)
    assert (b"", b"") == (run.stdout, run.stderr)
    piped = subprocess.run([*call, "0"], capture_output=True, check=True)
    assert (b"", b"") == (piped.stdout, piped.stderr)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["li"], ["list"]),
        (["list", "pl"], ["plans"]),
        (["get", "plans", "plan-00"], ["plan-001", "plan-002", "plan-003"]),
        (["indexes", "add", "plans", "pri"], ["priority"]),
        (["list", "--store", "elsewhere", "pl"], []),
    ],
)
def test_tab_completes(words: list[str], expected: list[str], folder: Path) -> None:
    """Tab completes commands, collections, ids and fields."""
    done = on_pipe(
        cwd=folder,
        _TASKSTORE_COMPLETE="bash_complete",
        COMP_WORDS=" ".join(["taskstore", *words]),
        COMP_CWORD=str(len(words)),
    )
    assert expected == [line.partition(",")[2] for line in done.stdout.split()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_each_shell(shell: str, folder: Path) -> None:
    """The script names the program's own variable; a shell that is here understands it."""
    script = on_pipe("completion", shell, cwd=folder).stdout
    assert f"_TASKSTORE_COMPLETE={shell}_complete" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def test_a_command_that_is_not_called_costs_nothing() -> None:
    """The list of commands and the help of one import neither SQLAlchemy nor rich."""
    code = (
        "import sys\nfrom taskstore.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'rich', 'sqlalchemy', 'alembic'} & set(sys.modules)))"
    )
    for words in (["--help"], ["list", "--help"], ["watch", "--help"]):
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, *words], capture_output=True, check=True, text=True
        )
        assert "[]" == done.stdout.splitlines()[-1]


def test_people_read_sizes_and_ages() -> None:
    """Sizes are in powers of 1024, ages in the greatest unit, controls as escapes."""
    assert ["5 B", "1.5 KiB", "2.0 MiB", "3.0 GiB"] == [
        size(count) for count in (5, 1536, 2 << 20, 3 << 30)
    ]
    assert "9999-12-31T23:59:59.999Z" == age(253_402_300_799_999)
    assert r"a\tb\nc\x1b[0m\x9b\u202e" == visible("a\tb\nc\x1b[0m\x9b\u202e")


def test_commands_are_listed_by_what_they_are_about() -> None:
    """`--help` has every command once."""
    text = on_pipe("--help", cwd=Path.cwd()).stdout
    for name in main.list_commands(None):  # type: ignore[arg-type]
        assert 1 == text.count(f"\n  {name} "), name
