"""What is installed in a clone, beside what is there already, and taken out again."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from taskstore._git.launcher import script
from tests.git.clones import Clone, files_of, new_clone

HOOKS = ("post-checkout", "post-merge", "post-rewrite", "pre-commit")


@pytest.fixture
def plain(tmp_path: Path) -> Clone:
    """A repository with a store and nothing installed."""
    return new_clone(tmp_path / 'it\'s a "plain" one\n$HOME', install=False)


def snapshot(clone: Clone) -> dict[str, tuple[int, bytes | str]]:
    """All files of a clone but those that git writes by itself at every command."""
    return {
        name: facts
        for name, facts in files_of(clone.path).items()
        if not name.startswith((".git/objects", ".git/logs", ".git/index", ".git/refs"))
        and not name.startswith(".taskstore/taskstore.")
        and name not in (".git/COMMIT_EDITMSG", ".git/ORIG_HEAD")
    }


def script_at(path: Path, text: str, mode: int = 0o755) -> None:
    """Write a script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    path.chmod(mode)


def shell_hook(clone: Clone) -> None:
    """A hook that is a shell script, with its own way to end."""
    script_at(clone.path / ".git/hooks/post-merge", "#!/usr/bin/env bash\nset -eu\nexit 0", 0o750)
    script_at(clone.path / ".git/hooks/pre-commit", "#!/bin/sh\n")


def other_hooks(clone: Clone) -> None:
    """Hooks that are a Python script, switched off, a link, and with Windows line ends."""
    hooks = clone.path / ".git/hooks"
    script_at(hooks / "post-merge", f"#!{sys.executable}\nprint('hello')\n")
    script_at(hooks / "post-rewrite", "#!/bin/sh\necho off\n", 0o644)
    script_at(clone.path / "tools/hook.sh", "#!/bin/sh\necho linked\n")
    (hooks / "post-checkout").symlink_to("../../tools/hook.sh")
    script_at(hooks / "pre-commit", "#!/bin/sh\r\nexit 0\r\n", 0o700)


def linked_hooks(clone: Clone) -> None:
    """One program under the names of several hooks, linked in several ways, with a folder."""
    hooks = clone.path / ".git/hooks"
    script_at(hooks / "post-merge", f"#!{sys.executable}\nprint('hello')\n")
    (hooks / "pre-commit").symlink_to("./post-merge")
    (hooks / "post-checkout").symlink_to(clone.path / ".git/hooks/dispatch")
    (hooks / "post-rewrite").symlink_to("dispatch")
    script_at(hooks / "dispatch", "#!/bin/sh\n")
    script_at(hooks / "post-merge.d/one", "#!/bin/sh\n")


def own_settings(clone: Clone) -> None:
    """Settings of the same names, written as a person writes them, without a last newline."""
    config = clone.path / ".git/config"
    text = '[merge  "union"]  ; mine\n  driver = mine %O %A %B\n[diff "taskstore"]\n\ttextconv=cat'
    config.write_text(config.read_text() + text)


def unended_settings(clone: Clone) -> None:
    """Settings whose last line has no newline, and permissions of their own."""
    config = clone.path / ".git/config"
    config.write_text(config.read_text().rstrip("\n"))
    config.chmod(0o600)


def own_attributes(clone: Clone) -> None:
    """Attributes in the store directory, whose last line has no newline."""
    (clone.directory / ".gitattributes").write_bytes(b"*.jsonl -diff\n*.bin binary")


def hooks_path(clone: Clone) -> None:
    """A directory of hooks in the work tree that is not there yet."""
    clone.git("config", "core.hooksPath", "my hooks/here")


def used_hooks_path(clone: Clone) -> None:
    """A directory of hooks in the work tree with a hook in it."""
    clone.git("config", "core.hooksPath", "tools")
    script_at(clone.path / "tools/post-merge", "#!/bin/sh\necho merged\n")


WORLDS: list[Callable[[Clone], None]] = [
    lambda clone: None,
    shell_hook,
    other_hooks,
    linked_hooks,
    own_settings,
    unended_settings,
    own_attributes,
    hooks_path,
    used_hooks_path,
]


@pytest.mark.parametrize("prepare", WORLDS, ids=lambda world: world.__name__)
def test_uninstalling_restores_every_byte(plain: Clone, prepare: Callable[[Clone], None]) -> None:
    """Install, install again, uninstall: bytes, permissions and links are what they were."""
    prepare(plain)
    before = snapshot(plain)
    assert plain.json("git", "install")["status"]["ok"]
    installed = snapshot(plain)
    assert [] == plain.json("git", "install")["changed"]
    assert installed == snapshot(plain)
    plain.json("git", "uninstall")
    assert before == snapshot(plain)
    plain.json("git", "uninstall")
    assert before == snapshot(plain)


@pytest.mark.parametrize(
    "text",
    [
        "",
        '[merge "union"] name = mine # kept\n',
        '[merge "union"]\n\tdriver = one ; 1\n# and\n\tdriver = "two"\n[a]\n\tb = c\n',
        '[diff "taskstore"]\n\ttextconv = cat\n[diff "taskstore"]\n\ttextconv=tac\n\tbinary = 1\n',
    ],
    ids=["none", "comment", "twice", "sections"],
)
def test_settings_that_others_change_meanwhile_are_kept(plain: Clone, text: str) -> None:
    """Values, comments and changes of git's configuration since the installation stay."""
    config = plain.path / ".git/config"
    before = config.read_text() + text
    config.write_text(before)
    plain.taskstore("git", "install")
    plain.git("config", "x.y", "z")
    plain.git("config", "--unset", "merge.union.driver", "taskstore/run")
    assert plain.json("git", "install")["status"]["ok"]
    plain.taskstore("git", "uninstall")
    assert before + "[x]\n\ty = z\n" == config.read_text()


def test_a_setting_that_an_older_version_replaced_is_written_back(plain: Clone) -> None:
    """Where ours took the place of a value, that value is there again."""
    plain.taskstore("git", "install")
    state = plain.path / ".git/taskstore/state.json"
    kept = json.loads(state.read_text())
    state.write_text(json.dumps({**kept, "settings": {"merge.union.driver": "mine"}}))
    plain.git("config", "x.y", "z")
    plain.taskstore("git", "uninstall")
    assert "mine\n" == plain.git("config", "--get-all", "merge.union.driver").stdout


def test_a_fresh_clone_merges_with_what_is_installed(plain: Clone, tmp_path: Path) -> None:
    """In a fresh clone one command makes git merge by record, and drops neither side."""
    plain.taskstore("git", "install")
    plain.commit("install")
    plain.git("switch", "-qc", "other")
    plain.change("a", title="Theirs")
    plain.git("switch", "-q", "main")
    plain.change("a", status="ours")
    fresh = plain.clone(tmp_path / "fresh")
    fresh.git("merge", "-q", "origin/other")
    assert ("Theirs", "ours") == tuple(fresh.plans()["a"][key] for key in ("title", "status"))


def test_an_inert_driver_is_named_with_the_command_that_mends_it(
    plain: Clone, tmp_path: Path
) -> None:
    """A fresh clone has the attributes and no driver: status and doctor say so, and what to do."""
    plain.taskstore("git", "install")
    plain.commit("install")
    fresh = plain.clone(tmp_path / "fresh", driver=False)
    found = fresh.json("git", "status", status=1)
    assert (True, False) == (found["attributes"]["ok"], found["driver"]["ok"])
    (finding,) = (
        item for item in fresh.json("doctor", status=1)["findings"] if item["code"] == "driver"
    )
    assert "taskstore git install" == finding["remedy"]
    fresh.taskstore("git", "install")
    assert fresh.json("doctor")["ok"]


@pytest.mark.parametrize("prepare", [shell_hook, other_hooks, used_hooks_path])
def test_a_hook_that_was_there_still_does_its_work(
    plain: Clone, prepare: Callable[[Clone], None]
) -> None:
    """A hook gets its arguments and input, its exit status counts, and ours runs beside it."""
    prepare(plain)
    place = plain.path / plain.git("rev-parse", "--git-path", "hooks").stdout.strip()
    (place / "pre-commit").unlink(missing_ok=True)  # one of them no system can run
    out = plain.path / "out"
    python = f"#!{sys.executable}\nimport sys\nprint(sys.argv[1:], file=open({str(out)!r}, 'a'))\n"
    shell = "#!/bin/sh\nset -eu\necho \"[$*] $(cat)\" >>'out'\nexit 3\n"
    script_at(place / "post-merge", python)
    script_at(place / "post-rewrite", shell)
    plain.taskstore("git", "install", "--hooks")
    plain.commit("install")
    plain.git("switch", "-qc", "other")
    plain.change("a", title="Theirs")
    plain.git("switch", "-q", "main")
    plain.plans()
    plain.git("merge", "-q", "other")
    assert "['0']\n" == out.read_text()
    assert not plain.is_stale()
    before = plain.git("rev-parse", "HEAD").stdout.strip()
    plain.git("commit", "-q", "--amend", "-m", "again")
    after = plain.git("rev-parse", "HEAD").stdout.strip()
    assert f"['0']\n[amend] {before} {after}\n" == out.read_text()


DISPATCHER = f"""#!{sys.executable}
import pathlib, runpy, sys
hook = pathlib.Path(sys.argv[0])
with open("out", "a") as out:
    print(hook.name, [path.name for path in hook.with_name("x.d").iterdir()], file=out)
"""


@pytest.mark.parametrize("program", ["post-merge", "dispatch", "../tools/dispatch"])
def test_a_program_that_is_linked_as_several_hooks_knows_which_it_is(
    plain: Clone, program: str
) -> None:
    """A hook goes by its own name, and finds what lies beside it, as before."""
    place = plain.path / ".git/hooks"
    script_at(place / program, DISPATCHER)
    script_at(place / "x.d/one", "#!/bin/sh\n")
    for hook in set(HOOKS) - {program}:
        (place / hook).symlink_to(program)
    plain.taskstore("git", "install")
    plain.write("", "out")
    plain.commit("install")
    plain.git("switch", "-qc", "other")
    out = [row.split(" ") for row in plain.read("out").splitlines()]
    assert ["pre-commit", "post-checkout"] == [row[0] for row in out]
    assert {"['one']"} == {row[-1] for row in out}


def test_hooks_that_an_older_version_put_aside_are_put_back(plain: Clone) -> None:
    """A hook that lies aside as NAME.before-taskstore moves to the new place, and to its own."""
    hook = plain.path / ".git/hooks/pre-commit"
    script_at(hook, f"#!{sys.executable}\n", 0o750)
    before = snapshot(plain)
    for migrate in (False, True):
        plain.taskstore("git", "install")
        (hook.parent / "before-taskstore/pre-commit").rename(f"{hook}.before-taskstore")
        (hook.parent / "before-taskstore").rmdir()
        rows = hook.read_bytes().splitlines(keepends=True)
        rows[-2] = b'before="$0.before-taskstore"\n'
        hook.write_bytes(b"".join(rows))
        if migrate:
            plain.taskstore("git", "install")
            assert (hook.parent / "before-taskstore/pre-commit").is_file()
        plain.taskstore("git", "uninstall")
        assert before == snapshot(plain)


def test_a_hook_that_refuses_still_refuses(plain: Clone) -> None:
    """A pre-commit hook that was there decides as before."""
    script_at(plain.path / ".git/hooks/pre-commit", "#!/bin/sh\ntest ! -f refused\n")
    plain.taskstore("git", "install")
    plain.commit("install")
    plain.write("", "refused")
    plain.git("add", "-A")
    plain.git("commit", "-qm", "no", status=1)


def test_a_folder_in_the_place_of_a_hook_stops_no_other(plain: Clone) -> None:
    """What cannot be a hook is told and left, and the others are put in and taken out."""
    (plain.path / ".git/hooks/post-checkout").mkdir()
    before = snapshot(plain)
    found = plain.json("git", "install")
    assert 1 == len(found["left"])
    assert found["left"][0].startswith("the hook post-checkout: ")
    assert {hook: hook != "post-checkout" for hook in HOOKS} == (
        found["status"]["hooks"]["installed"]
    )
    assert [] == plain.json("git", "uninstall")["left"]
    assert before == snapshot(plain)


def test_lines_that_were_added_to_a_hook_later_stay(plain: Clone) -> None:
    """Uninstalling takes our lines alone out of a hook that somebody has changed since."""
    plain.taskstore("git", "install")
    hook = plain.path / ".git/hooks/post-merge"
    hook.write_bytes(hook.read_bytes() + b"echo mine\n")
    plain.taskstore("git", "uninstall")
    assert b"#!/bin/sh\necho mine\n" == hook.read_bytes()


def test_committed_attributes_stay(plain: Clone) -> None:
    """Attributes that are committed belong to the repository, and one clone leaves them there."""
    plain.taskstore("git", "install")
    plain.commit("install")
    assert ["log attributes, which are committed"] == (plain.json("git", "uninstall")["left"])
    assert "" == plain.git("status", "--porcelain").stdout


@pytest.mark.parametrize("place", ["../linked", "linked"], ids=["beside", "inside"])
def test_the_attributes_of_another_work_tree_stay(plain: Clone, place: str) -> None:
    """Uninstalling in one work tree changes no file in another, wherever that lies."""
    linked = Clone((plain.path / place).resolve())
    plain.git("worktree", "add", "-q", "-b", "linked", str(linked.path))
    linked.taskstore("git", "install")
    linked.commit("install")
    plain.taskstore("git", "install")
    (left,) = plain.json("git", "uninstall")["left"]
    assert left.startswith("the attributes in ")
    assert "" == linked.git("status", "--porcelain").stdout
    assert not (plain.directory / ".gitattributes").exists()


@pytest.mark.parametrize(
    ("tool", "file", "place"),
    [
        ("husky", ".husky/pre-commit", ".husky/post-merge"),
        ("lefthook", "lefthook.yml", "lefthook.yml"),
        ("pre-commit", ".pre-commit-config.yaml", ".pre-commit-config.yaml"),
    ],
)
def test_hooks_that_a_tool_owns_are_left_to_it(
    plain: Clone, tool: str, file: str, place: str
) -> None:
    """Nothing is written to the hooks of husky, lefthook or pre-commit; the lines are printed."""
    plain.write("", file)
    before = files_of(plain.path / ".git/hooks")
    found = plain.json("git", "install")
    assert before == files_of(plain.path / ".git/hooks")
    hooks = found["status"]["hooks"]
    assert (tool, False) == (hooks["owner"], hooks["ok"])
    by_hook = {item["hook"]: item for item in hooks["to_add"]}
    assert set(HOOKS) == set(by_hook)
    assert place == by_hook["post-merge"]["file"]
    for item in hooks["to_add"]:
        path = plain.path / item["file"]
        old = path.read_text() if path.exists() else ""
        plain.write(old + item["text"] + "\n", item["file"])
    assert plain.json("git", "status")["ok"]


@pytest.mark.parametrize("suffix", ["toml", "json"])
def test_lines_for_lefthook_have_the_form_of_its_file(plain: Clone, suffix: str) -> None:
    """What is printed for a lefthook.toml or .json can be put there, and is recognised then."""
    file = f"lefthook.{suffix}"
    plain.write("", file)
    text = plain.taskstore("git", "install")
    plain.write(text if suffix == "toml" else f"{{{text}}}", file)
    parse = tomllib.loads if suffix == "toml" else json.loads
    found = parse(plain.read(file))
    assert set(HOOKS) == set(found)
    assert found["post-merge"]["commands"]["taskstore"]["run"].endswith("hook post-merge")
    assert plain.json("git", "status")["ok"]


def test_what_to_add_for_a_tool_is_printed_for_people(plain: Clone) -> None:
    """The lines go to stdout, to be piped; which file they belong to is told on lines of stderr."""
    plain.write("", ".pre-commit-config.yaml")
    done = plain.run("git", "install")
    rows = done.stderr.splitlines()
    start = rows.index("add to .pre-commit-config.yaml:")
    assert "" == rows[start - 1] == rows[start + 1]
    assert rows[start + 2].startswith("then run: pre-commit install --hook-type pre-commit")
    assert done.stdout.startswith("  - repo: local\n    hooks:\n")


def test_the_line_for_other_tools_works_as_a_hook(plain: Clone) -> None:
    """The printed line refuses a marker where we are installed, and is nothing where we are not."""
    plain.write("", ".husky/_/h")
    plain.git("config", "core.hooksPath", ".husky/_")
    line = plain.json("git", "install")["status"]["hooks"]["to_add"][0]["text"]
    script_at(plain.path / ".husky/_/pre-commit", f"#!/bin/sh -e\n{line}\n")
    plain.append("<<<<<<< ours\n")
    plain.git("add", "-A")
    plain.git("commit", "-qm", "no", status=1)
    plain.taskstore("git", "uninstall")
    plain.git("commit", "-qm", "yes")


def test_hooks_that_many_repositories_share_are_left_alone(
    plain: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A core.hooksPath of the user's own configuration is not written to, unless asked for."""
    shared = tmp_path / "shared"
    shared.mkdir()
    config = tmp_path / "config"
    config.write_text(f"[core]\n\thooksPath = {shared}\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    found = json.loads(plain.taskstore("git", "install", "--json", GIT_CONFIG_GLOBAL=str(config)))
    assert "core.hooksPath" == found["status"]["hooks"]["owner"]
    assert {} == files_of(shared)
    plain.taskstore("git", "install", "--hooks", GIT_CONFIG_GLOBAL=str(config))
    assert set(HOOKS) == set(files_of(shared))


def test_hooks_that_are_switched_off_stay_off(plain: Clone) -> None:
    """A core.hooksPath that names no directory is told, and left."""
    plain.git("config", "core.hooksPath", os.devnull)
    found = plain.json("git", "install")
    assert [f"the hooks, which core.hooksPath={os.devnull} switches off"] == found["left"]
    assert not found["status"]["ok"]


def test_a_submodule_is_a_clone_of_its_own(plain: Clone, tmp_path: Path) -> None:
    """In a submodule everything is installed in its own directory, and merges work."""
    outer = new_clone(tmp_path / "outer", install=False)
    outer.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(plain.path), "sub")
    sub = Clone(outer.path / "sub")
    before = snapshot(outer)
    sub.taskstore("git", "install")
    sub.commit("install")
    sub.git("switch", "-qc", "other")
    sub.change("a", title="Theirs")
    sub.git("switch", "-q", "main")
    sub.change("a", status="ours")
    sub.git("merge", "-q", "other")
    assert ("Theirs", "ours") == tuple(sub.plans()["a"][key] for key in ("title", "status"))
    outside = {name for name in snapshot(outer) if not name.startswith((".git/modules", "sub/"))}
    assert {name for name in before if not name.startswith((".git/modules", "sub/"))} == outside


@pytest.mark.parametrize("broken", [None, *(f"#!/bin/sh\nexit {n}\n" for n in (0, 1, 127))])
def test_a_missing_environment_never_blocks(plain: Clone, broken: str | None) -> None:
    """Without a working Python git commits, switches, merges by lines, and shows differences."""
    plain.taskstore("git", "install")
    plain.commit("install")
    fake = plain.path.parent / "gone/python"
    if broken is not None:
        script_at(fake, broken)
    (plain.path / ".git/taskstore/run").write_bytes(script(str(fake)))
    plain.git("switch", "-qc", "other")
    plain.change("a", title="Theirs")
    plain.git("switch", "-q", "main")
    plain.change("b", title="Ours")
    assert '+{"id":"b","title":"Ours"' in plain.git("log", "-p", "-1").stdout
    done = plain.git("merge", "-q", "other")
    assert "no Python environment at" in done.stderr
    assert ("Theirs", "Ours") == (plain.plans()["a"]["title"], plain.plans()["b"]["title"])
    (finding,) = plain.json("doctor", status=1)["findings"] if broken is None else [None]
    assert finding is None or "driver" == finding["code"]


def test_a_python_that_ends_before_it_merges_drops_neither_side(
    plain: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import that ends the program with success is no merge: git merges by lines."""
    plain.taskstore("git", "install")
    plain.commit("install")
    plain.git("switch", "-qc", "other")
    plain.change("a", title="Theirs")
    plain.git("switch", "-q", "main")
    plain.change("b", title="Ours")
    place = plain.path.parent / "ending"
    script_at(place / "taskstore/__init__.py", "raise SystemExit(0)\n")
    with monkeypatch.context() as patched:
        patched.setenv("PYTHONPATH", str(place))
        plain.git("merge", "-q", "other")
    assert ("Theirs", "Ours") == (plain.plans()["a"]["title"], plain.plans()["b"]["title"])


def test_a_lost_script_never_blocks(plain: Clone) -> None:
    """Without our script in git's directory hooks do nothing, and git merges by lines."""
    plain.taskstore("git", "install")
    plain.commit("install")
    plain.git("switch", "-qc", "other")
    (plain.path / ".git/taskstore/run").unlink()
    plain.change("a", title="Theirs")
    plain.git("switch", "-q", "main")
    plain.change("b", title="Ours")
    plain.git("merge", "-q", "other")
    assert ("Theirs", "Ours") == (plain.plans()["a"]["title"], plain.plans()["b"]["title"])
    assert "driver" in {item["code"] for item in plain.json("doctor", status=1)["findings"]}
    plain.taskstore("git", "install")
    assert plain.json("doctor")["ok"]


def test_a_repository_may_be_moved(plain: Clone, tmp_path: Path) -> None:
    """What is installed names no path in the repository, so it works where that is moved."""
    plain.taskstore("git", "install")
    plain.commit("install")
    moved = Clone(plain.path.rename(tmp_path / "moved"))
    assert moved.json("git", "status")["ok"]


def test_without_a_repository_there_is_nothing_to_install(tmp_path: Path) -> None:
    """Outside of a repository `init` makes the store alone, and `git install` exits with 3."""
    place = Clone(tmp_path)
    place.taskstore("init")
    assert place.directory.is_dir()
    done = place.run("git", "install")
    assert 3 == done.returncode
    assert "is not in a git repository" in done.stderr


@pytest.mark.parametrize("place", ["bare.git", "bare.git/refs", ".git", ".git/info"])
def test_no_store_is_made_in_a_directory_of_git(plain: Clone, place: str) -> None:
    """In a bare repository and inside .git `init` tells that from no repository, and refuses."""
    plain.git("init", "-q", "--bare", "bare.git")
    shutil.rmtree(plain.directory)
    (plain.path / ".git/info").mkdir(exist_ok=True)
    inside = Clone(plain.path / place)
    done = inside.run("init")
    assert 3 == done.returncode
    assert "inside a git directory (a bare repository, or .git)" in done.stderr
    assert not inside.directory.exists()
    inside.taskstore("init", "--no-git")
    assert "inside a git directory" in inside.run("git", "install").stderr
    (finding,) = (i for i in inside.json("doctor", status=1)["findings"] if i["code"] == "git")
    assert "warning" == finding["level"]


def test_init_in_a_folder_below_uses_the_store_above(plain: Clone) -> None:
    """In a fresh clone `init` finds the store from any folder, and installs it."""
    (plain.path / "src").mkdir()
    assert plain.json("init", "--store", ".")["git"]["status"]["ok"]
    below = Clone(plain.path / "src")
    found = below.json("init")
    assert (str(plain.directory), False, []) == (
        found["store"],
        found["created"],
        found["git"]["changed"],
    )
