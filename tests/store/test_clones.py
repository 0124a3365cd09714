"""Clones that bring files of a store: none of them is believed, or followed anywhere.

Each test starts from a real `git clone` or `git pull` of files that were forced into a commit.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import zlib
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from sqlalchemy.exc import DatabaseError

from taskstore import Store, StoreAccessError, StoreOwnerError
from taskstore._log.trust import Mark
from tests.store.plans import Plan
from tests.warm import warm

LOG = '{"id":"plan-001","title":"true","updated_at":1}\n'
PRECIOUS = b"12345678 precious\n"


def git(folder: Path, *call: str) -> None:
    names = ["-c", "user.name=Eve", "-c", "user.email=eve@example.org"]
    subprocess.run(["git", *names, *call], cwd=folder, check=True, capture_output=True)


def run(folder: Path, *call: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        warm(*call),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A stranger's repository with a store of one record."""
    folder = tmp_path / "theirs"
    (folder / ".taskstore").mkdir(parents=True)
    (folder / ".taskstore" / "plans.jsonl").write_text(LOG)
    Store.open(folder / ".taskstore").close()
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "a store")
    return folder


def pushed(theirs: Path) -> None:
    git(theirs, "add", "-f", "-A", ".")
    git(theirs, "commit", "-q", "-m", "more")


@pytest.fixture
def clone(theirs: Path, tmp_path: Path) -> Path:
    """A clone of it, made before the attack."""
    git(tmp_path, "clone", "-q", str(theirs), "clone")
    return tmp_path / "clone"


def release_connections() -> None:
    """Close all idle connections, as the start of another process does."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def titles(store: Store) -> list[str]:
    return [plan.title for plan in store.list(Plan)]


def lie(path: Path) -> None:
    """Make a cache return a false title, and set a trap for programs that write to it."""
    with closing(sqlite3.connect(path)) as cache:
        cache.execute("UPDATE records SET data_json = replace(data_json, 'true', 'false')")
        cache.execute("CREATE TABLE trap (x)")
        cache.execute(
            "CREATE TRIGGER sprung AFTER UPDATE ON records BEGIN INSERT INTO trap VALUES (1); END"
        )
        cache.commit()


def test_a_committed_cache_is_not_believed(theirs: Path, tmp_path: Path) -> None:
    """A cache that fits the log's size and checksum, and lies, is rebuilt."""
    cache = theirs / ".taskstore" / "taskstore.db"
    Store.open(theirs / ".taskstore", types=[Plan]).close()
    lie(cache)
    pushed(theirs)
    git(tmp_path, "clone", "-q", str(theirs), "clone")

    with Store.open(tmp_path / "clone" / ".taskstore", types=[Plan]) as store:
        assert ["true"] == titles(store)
        store.patch(Plan, "plan-001", priority=3)
        assert ["true"] == titles(store)
        assert store.verify().ok

    with closing(sqlite3.connect(tmp_path / "clone" / ".taskstore" / "taskstore.db")) as ours:
        assert [] == ours.execute("SELECT name FROM sqlite_master WHERE name = 'trap'").fetchall()


def test_a_pulled_cache_is_not_believed_by_an_open_store(theirs: Path, clone: Path) -> None:
    """A pull that replaces the cache under an open store changes no answer."""
    Store.open(theirs / ".taskstore", types=[Plan]).close()
    lie(theirs / ".taskstore" / "taskstore.db")
    pushed(theirs)

    with Store.open(clone / ".taskstore", types=[Plan]) as store:
        assert ["true"] == titles(store)
        git(clone, "pull", "-q")
        assert ["true"] == titles(store)
        store.patch(Plan, "plan-001", priority=3)
        assert store.verify().ok


@pytest.mark.parametrize("kind", ["empty", "database"])
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_a_link_in_the_caches_place_is_not_followed(
    theirs: Path, tmp_path: Path, kind: str, suffix: str
) -> None:
    """What a committed link leads to stays as it is, and the store works."""
    target = tmp_path / "target"
    if kind == "empty":
        target.touch()
    else:
        with closing(sqlite3.connect(target)) as other:
            other.execute("CREATE TABLE theirs (x)")
    before = target.read_bytes()
    link = theirs / ".taskstore" / f"taskstore.db{suffix}"
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    pushed(theirs)
    git(tmp_path, "clone", "-q", str(theirs), "clone")

    for call in (["list", "plans"], ["add", "plans", "id=plan-002"], ["list", "plans"]):
        done = run(tmp_path / "clone", *call)
        assert 0 == done.returncode, done.stderr
        assert before == target.read_bytes()
    assert "plan-002" in done.stdout


@pytest.mark.parametrize("is_open", [False, True])
def test_a_pulled_write_ahead_log_is_not_believed(
    theirs: Path, clone: Path, tmp_path: Path, is_open: bool
) -> None:
    """A write-ahead log that fits our very cache, and changes a record, is not read."""
    directory = clone / ".taskstore"
    ours = Store.open(directory, types=[Plan])
    if is_open:
        assert ["true"] == titles(ours)
        release_connections()
    else:
        ours.close()
    copy = tmp_path / "copy.db"
    shutil.copy(directory / "taskstore.db", copy)
    with closing(sqlite3.connect(copy)) as forged:
        forged.execute("UPDATE records SET data_json = replace(data_json, 'true', 'false')")
        forged.commit()
        shutil.copy(f"{copy}-wal", theirs / ".taskstore" / "taskstore.db-wal")
    # So that the attack is one: SQLite itself reads it.
    probe = tmp_path / "probe.db"
    shutil.copy(directory / "taskstore.db", probe)
    shutil.copy(theirs / ".taskstore" / "taskstore.db-wal", f"{probe}-wal")
    with closing(sqlite3.connect(probe)) as believer:
        assert "false" in believer.execute("SELECT data_json FROM records").fetchone()[0]
    pushed(theirs)
    git(clone, "pull", "-q")

    if is_open:
        assert ["true"] == titles(ours)
        ours.close()
    with Store.open(directory, types=[Plan]) as store:
        assert ["true"] == titles(store)


@pytest.mark.parametrize("then", ["open", "in a thread", "after a kill"])
def test_files_pulled_beside_a_cache_in_use_are_not_believed(
    theirs: Path, clone: Path, tmp_path: Path, then: str
) -> None:
    """A commit of a store that is open vouches for its own files, not for those at their names."""
    code = (
        "import sys, threading; from taskstore import Store\n"
        "store = Store.open(sys.argv[1])\n"
        "def show(): print([row['title'] for row in store.list('plans')], flush=True)\n"
        "for word in sys.stdin:\n"
        "    if 'create' in word: store.create({'id': word, 'title': 'b'}, collection='plans')\n"
        "    thread = threading.Thread(target=show); thread.start(); thread.join()\n"
    )
    ours = clone / ".taskstore" / "taskstore.db"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(ours.parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as user:

        def ask(word: str) -> str:
            assert user.stdin
            assert user.stdout
            print(word, file=user.stdin, flush=True)
            return user.stdout.readline().strip()

        assert "['b', 'true']" == ask("create 1")
        for suffix in ("", "-wal"):
            shutil.copy(f"{ours}{suffix}", f"{tmp_path / 'copy.db'}{suffix}")
        with closing(sqlite3.connect(tmp_path / "copy.db")) as forged:
            forged.execute("UPDATE records SET data_json = replace(data_json, 'true', 'false')")
            forged.commit()
            for suffix in ("-wal", "-shm"):
                shutil.copy(
                    f"{tmp_path / 'copy.db'}{suffix}", theirs / f".taskstore/taskstore.db{suffix}"
                )
        pushed(theirs)
        git(clone, "pull", "-q")

        if then == "in a thread":
            assert "['b', 'true']" == ask("list")
        assert "['b', 'b', 'true']" == ask("create 2")
        if then == "after a kill":
            user.kill()
            user.wait()
        with Store.open(ours.parent, types=[Plan]) as store:
            assert ["b", "b", "true"] == sorted(titles(store))
            assert store.verify().ok
        user.kill()


@pytest.mark.parametrize("user", ["none", "connected", "idle"])
def test_a_pulled_rollback_journal_is_not_applied(
    theirs: Path, clone: Path, tmp_path: Path, user: str
) -> None:
    """A hot journal beside our cache, whose pages hold a false record, is not rolled back.

    Not by a store that is open either, whether it has a connection just then or not.
    """
    directory = clone / ".taskstore"
    Store.open(directory, types=[Plan]).close()
    copy = tmp_path / "copy.db"
    shutil.copy(directory / "taskstore.db", copy)
    with closing(sqlite3.connect(copy, isolation_level=None)) as forged:
        forged.execute("PRAGMA journal_mode = DELETE")
        forged.execute("UPDATE records SET data_json = replace(data_json, 'true', 'false')")
        forged.execute("PRAGMA cache_spill = 1")
        forged.execute("PRAGMA cache_size = 1")
        forged.execute("BEGIN")
        forged.execute("UPDATE records SET data_json = replace(data_json, 'false', 'other')")
        forged.execute("CREATE TABLE filler (x)")
        forged.execute("INSERT INTO filler VALUES (zeroblob(100000))")
        shutil.copy(f"{copy}-journal", theirs / ".taskstore" / "taskstore.db-journal")
    assert os.stat(theirs / ".taskstore" / "taskstore.db-journal").st_size
    pushed(theirs)

    with ExitStack() as stack:
        if user != "none":
            # Nobody is to wait until this one ends.
            ours = stack.enter_context(Store.open(directory, types=[Plan], lock_timeout=1.0))
            ours.create(Plan("plan-003", title="true"))
            connected = ours.engine.connect()
            if user == "idle":
                connected.close()
                release_connections()
            else:
                stack.enter_context(connected)
        git(clone, "pull", "-q")
        if user != "none":
            with ExitStack() as used, pytest.raises(DatabaseError, match="did not make it"):
                for _ in range(5):
                    used.enter_context(ours.engine.connect())
            assert ["true"] * 2 == titles(ours)
            ours.create(Plan("plan-002", title="true"))
        store = stack.enter_context(Store.open(directory, types=[Plan], lock_timeout=1.0))
        assert {"true"} == set(titles(store))


def test_a_cache_whose_state_cannot_be_noted_is_used(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk, say, a store goes on with the files that it has left itself."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Mark, "write", refuse)
    with Store.open(clone / ".taskstore", types=[Plan]) as store:
        made = (clone / ".taskstore" / "taskstore.db").stat().st_ino
        for turn in range(2):
            release_connections()
            store.create(Plan(f"new-{turn}", title="true"))
        assert ["true"] * 3 == titles(store)
        assert made == (clone / ".taskstore" / "taskstore.db").stat().st_ino


@pytest.mark.parametrize("closes", ["close", "collect", "exit"])
def test_who_closes_a_store_leaves_its_cache_in_order(clone: Path, closes: str) -> None:
    """However the last connection ends, the next open finds the cache as it was left."""
    end = {"close": "store.close()", "collect": "del store; import gc; gc.collect()", "exit": ""}
    code = (
        "import sys; from taskstore import Store\n"
        "store = Store.open(sys.argv[1])\n"
        "store.create({'id': 'new'}, collection='plans')\n" + end[closes]
    )
    subprocess.run([sys.executable, "-c", code, str(clone / ".taskstore")], check=True)
    before = (clone / ".taskstore" / "taskstore.db").stat().st_ino
    with Store.open(clone / ".taskstore") as store:
        assert 2 == store.count("plans")
    assert before == (clone / ".taskstore" / "taskstore.db").stat().st_ino


def test_a_cache_that_another_program_wrote_to_is_made_anew(clone: Path) -> None:
    """Bytes that change under a closed store change no answer."""
    directory = clone / ".taskstore"
    Store.open(directory, types=[Plan]).close()
    with closing(sqlite3.connect(directory / "taskstore.db")) as cache:
        cache.execute("UPDATE records SET data_json = replace(data_json, 'true', 'false')")
        cache.commit()
    with Store.open(directory, types=[Plan]) as store:
        assert ["true"] == titles(store)


def old_journal(collection: str, base: int, created: bool, planned: bytes) -> bytes:
    """A journal in the form that had no mark, with valid checksums."""
    facts = {
        "journal": 1,
        "checksum": zlib.crc32(planned),
        "files": [
            {
                "collection": collection,
                "base": base,
                "checksum": zlib.crc32(LOG.encode()[:base]),
                "created": created,
                "length": len(planned),
            }
        ],
    }
    text = json.dumps(facts, separators=(",", ":")).encode() + b"\n"
    return b"%08x %b%b" % (zlib.crc32(text), text, planned)


@pytest.mark.parametrize(
    ("collection", "base", "created", "planned"),
    [
        ("../precious", 0, True, PRECIOUS),
        ("/tmp/precious", 0, True, PRECIOUS),
        ("plans", 0, True, LOG.encode()),
        ("plans", 1, False, LOG.encode()[1:]),
    ],
)
def test_a_committed_journal_is_set_aside(
    theirs: Path, tmp_path: Path, collection: str, base: int, created: bool, planned: bytes
) -> None:
    """A journal that no write of this clone left changes no file, in the store or outside."""
    (theirs / "precious.jsonl").write_bytes(PRECIOUS)
    path = theirs / ".taskstore" / "taskstore.journal"
    path.write_bytes(old_journal(collection, base, created, planned))
    pushed(theirs)
    git(tmp_path, "clone", "-q", str(theirs), "clone")
    clone = tmp_path / "clone"

    done = run(clone, "sync")

    assert "not written by this clone" in done.stderr + done.stdout
    assert PRECIOUS == (clone / "precious.jsonl").read_bytes()
    assert LOG == (clone / ".taskstore" / "plans.jsonl").read_text()
    [aside] = (clone / ".taskstore").glob("taskstore.journal-*")
    assert path.read_bytes() == aside.read_bytes()


def test_a_store_directory_that_is_a_link_is_refused(theirs: Path, tmp_path: Path) -> None:
    """A committed `.taskstore` that leads elsewhere is not read, and nothing is written there."""
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.move(theirs / ".taskstore" / "plans.jsonl", outside / "plans.jsonl")
    shutil.rmtree(theirs / ".taskstore")
    (theirs / ".taskstore").symlink_to(outside)
    pushed(theirs)
    git(tmp_path, "clone", "-q", str(theirs), "clone")
    clone = tmp_path / "clone"

    for call in (["list", "plans"], ["init"], ["add", "plans", "id=x"], ["doctor"]):
        done = run(clone, *call)
        assert 0 != done.returncode, call
        assert "symbolic link" in done.stderr + done.stdout, call
        assert "Traceback" not in done.stderr
    with pytest.raises(StoreAccessError, match="symbolic link"):
        Store.open(clone / ".taskstore")
    assert ["plans.jsonl"] == os.listdir(outside)


def seal(cache: Path) -> int:
    """A number in the header of a cache that is another one in each clone."""
    with closing(sqlite3.connect(cache)) as connection:
        [number] = connection.execute("PRAGMA application_id").fetchone()
    return int(number)


@pytest.mark.parametrize("in_git", [True, False])
def test_a_copied_working_tree_costs_one_quiet_rebuild(
    theirs: Path, clone: Path, tmp_path: Path, in_git: bool
) -> None:
    """A copy, cache and all, opens without a word; its cache is rebuilt once, and then kept."""
    if not in_git:
        shutil.rmtree(clone / ".git")
    with Store.open(clone / ".taskstore", types=[Plan]) as store:
        store.create(Plan("plan-002", title="new"))
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(clone), str(copy)], check=True)
    cache = copy / ".taskstore" / "taskstore.db"
    copied = seal(cache)

    done = run(copy, "list", "plans", "--json")

    assert (0, "") == (done.returncode, done.stderr)
    assert {"plan-001", "plan-002"} == {row["id"] for row in json.loads(done.stdout)}
    assert copied != seal(cache)
    made = cache.stat().st_ino
    run(copy, "list", "plans")
    assert made == cache.stat().st_ino


def test_a_moved_clone_keeps_its_cache(clone: Path, tmp_path: Path) -> None:
    """The mark of a repository moves along with it."""
    Store.open(clone / ".taskstore").close()
    before = (clone / ".taskstore" / "taskstore.db").stat().st_ino
    moved = tmp_path / "moved"
    clone.rename(moved)
    Store.open(moved / ".taskstore").close()
    assert before == (moved / ".taskstore" / "taskstore.db").stat().st_ino


def test_state_is_as_private_as_the_most_private_log(clone: Path) -> None:
    """Nobody may read in cache or journal what a log does not let them read."""
    directory = clone / ".taskstore"
    os.umask(0o022)
    Store.open(directory).close()
    (directory / "secret.jsonl").write_text("")
    (directory / "secret.jsonl").chmod(0o600)
    with Store.open(directory) as store:
        store.create_many([{"id": "a"}, {"id": "b"}], collection="secret")
        store.compact("secret")
        names = [path for path in directory.iterdir() if path.name.startswith("taskstore.")]
        open_to_others = {
            path.name for path in names if path.stat().st_size and path.stat().st_mode & 0o077
        }
    assert set() == open_to_others
    assert 0o600 == stat.S_IMODE((directory / "secret.jsonl").stat().st_mode)


root_only = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away"
)
OTHER = 4321


def give_away(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, OTHER, OTHER, follow_symlinks=False)


@root_only
def test_a_store_of_another_user_needs_trust(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that is found, and is another user's, is used where `safe.directory` names it."""
    settings = tmp_path / "gitconfig"
    settings.touch()
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    give_away(clone)
    below = clone / "below"
    below.mkdir()

    with pytest.raises(StoreOwnerError, match=r"safe\.directory") as caught:
        Store.find(below)
    assert OTHER == caught.value.owner
    done = run(below, "list", "plans")
    assert 0 != done.returncode
    assert "safe.directory" in done.stderr

    git(clone, "config", "--file", str(settings), "safe.directory", str(clone))
    with Store.find(below) as store:
        assert 1 == store.count("plans")
    assert 0 == run(below, "list", "plans").returncode


@root_only
def test_what_a_repository_says_of_safe_directories_does_not_count(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `safe.directory` in the configuration of the repository itself is not asked."""
    (tmp_path / "gitconfig").touch()
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    git(clone, "config", "safe.directory", "*")
    give_away(clone)
    with pytest.raises(StoreOwnerError):
        Store.find(clone)


@root_only
def test_root_gives_what_it_makes_to_the_owner(clone: Path) -> None:
    """Logs, cache and journal that root makes or compacts belong to whom the store belongs."""
    give_away(clone)
    with Store.open(clone / ".taskstore") as store:
        store.create_many([{"id": "a"}, {"id": "b"}], collection="new")
        store.compact("plans")
        owners = {path.name: path.stat().st_uid for path in store.path.iterdir()}
    assert {OTHER} == set(owners.values()), owners


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_read_only_store_writes_nowhere(clone: Path, tmp_path: Path) -> None:
    """A read-only store opens no file for writing, makes none, and removes none."""
    trace = tmp_path / "trace"
    code = (
        "import sys; from taskstore import Store\n"
        "with Store.open(sys.argv[1], read_only=True) as store: assert store.count('plans') == 1"
    )
    call = ["strace", "-f", "-e", "trace=file", "-o", str(trace), sys.executable, "-B", "-c", code]
    subprocess.run([*call, str(clone / ".taskstore")], check=True)
    wrote = [
        line
        for line in trace.read_text(errors="replace").splitlines()
        if any(
            word in line for word in ("O_WRONLY", "O_RDWR", "O_CREAT", "unlink", "rename(", "mkdir")
        )
        and "/dev/" not in line
    ]
    assert [] == wrote
