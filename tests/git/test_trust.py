"""Which modules that a clone names are imported, and where they are looked for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from taskstore._doctor.trust import trusted_modules
from taskstore._doctor.types import TypesError, load_types, place_of
from taskstore._log.layout import Layout
from tests.git.clones import Clone, new_clone

pytestmark = pytest.mark.usefixtures("cold_hooks")

EVIL = """
import pathlib
pathlib.Path({witness!r}).touch()
"""
MODELS = """
from taskstore import indexed, record

@record("plans")
class Plan:
    id: str
    rank: int = indexed(default=0, merge="max")
"""


@pytest.fixture
def witness(tmp_path: Path) -> Path:
    """A file that the clone's code makes if it is run."""
    return tmp_path / "witness"


@pytest.fixture
def clone(tmp_path: Path, witness: Path) -> Clone:
    """A real clone of a repository whose settings name a module beside them."""
    source = new_clone(tmp_path / "source", install=False)
    source.write('types = ["evil"]\n', ".taskstore/config.toml")
    source.write(EVIL.format(witness=str(witness)) + MODELS, "evil.py")
    source.commit("hostile")
    return source.clone(tmp_path / "clone", driver=False)


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """An environment in which a package of that name is installed elsewhere."""
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "evil.py").write_text(MODELS)
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": path}


def types_of(clone: Clone, **env: str) -> list[str]:
    """Return what `doctor` reports about the modules in the settings."""
    done = clone.run("doctor", "--json", **env)
    assert "Traceback" not in done.stderr
    findings = json.loads(done.stdout)["findings"]
    return [item["message"] for item in findings if item["code"] in ("types", "policies")]


def test_a_module_that_is_not_trusted_is_not_imported(
    clone: Clone, witness: Path, installed: dict[str, str]
) -> None:
    """A module that only the clone's settings name is not imported, and the remedy is said."""
    [message] = types_of(clone, **installed)
    assert "names modules that are not trusted in this clone: evil" in message
    assert "`taskstore trust evil`" in clone.run("doctor", **installed).stdout
    assert "rank" not in clone.read(".taskstore/config.toml")
    assert not witness.exists()


def test_a_module_that_is_trusted_is_imported(
    clone: Clone, witness: Path, installed: dict[str, str]
) -> None:
    """A module that the user trusts is imported from where packages are, until it is removed."""
    assert "evil\n" == clone.taskstore("trust", "evil")
    [message] = types_of(clone, **installed)
    assert "lacks the merge policies of plans: rank" in message
    assert ["evil"] == clone.json("trust", "--list")["trusted"]
    assert "" == clone.taskstore("trust", "--remove", "evil")
    [message] = types_of(clone, **installed)
    assert "not trusted" in message
    assert not witness.exists()


@pytest.mark.parametrize("safe", [True, False])
def test_the_working_directory_is_not_searched(clone: Clone, witness: Path, safe: bool) -> None:
    """A trusted module that is found in the working directory only is not imported."""
    clone.taskstore("trust", "evil")
    (clone.path / "below").mkdir()
    for folder in (clone.path, clone.path / "below"):
        done = subprocess.run(
            [sys.executable, *(["-P"] if safe else []), "-m", "taskstore", "doctor"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(["", *sys.path[1:], "", "."])},
            capture_output=True,
            check=False,
            encoding="utf-8",
        )
        assert "No module named 'evil'" in done.stdout, done.stderr
        assert not witness.exists()


def test_a_module_of_the_clone_does_not_stand_for_one_of_the_library(
    clone: Clone, witness: Path
) -> None:
    """`python -P -m taskstore` runs nothing of a clone that has modules of the library's names."""
    for name in ("click.py", "tomllib.py", "msgspec.py", "taskstore.py", "sitecustomize.py"):
        clone.write(EVIL.format(witness=str(witness)), name)
    for call in ("list plans", "doctor", "status", "diff"):
        assert "Traceback" not in clone.run(*call.split()).stderr
    assert not witness.exists()


def test_trust_shows_what_it_would_trust(
    clone: Clone, witness: Path, installed: dict[str, str]
) -> None:
    """Without a module the configured ones are shown with their place, and a person must agree."""
    done = clone.run("trust", **installed)
    assert 2 == done.returncode
    place = Path(installed["PYTHONPATH"].split(os.pathsep)[0], "evil.py")
    assert f"evil: {place}\n" in done.stderr
    assert "pass --yes" in done.stderr
    assert [] == clone.json("trust", "--list")["trusted"]
    done = clone.run("trust", "--yes")
    assert ("evil\n", "evil: not found\n") == (done.stdout, done.stderr)
    assert "names no module that is not trusted" in clone.run("trust").stderr
    assert not witness.exists()


def test_trust_is_not_carried_by_a_clone_or_an_archive(clone: Clone, tmp_path: Path) -> None:
    """What is trusted in one clone is trusted in no clone, copy or archive of it."""
    clone.taskstore("trust", "evil")
    assert ["evil"] == trusted_modules(Layout(clone.directory))
    again = clone.clone(tmp_path / "again", driver=False)
    assert [] == trusted_modules(Layout(again.directory))
    copy = Path(shutil.copytree(clone.path, tmp_path / "copy", symlinks=True))
    assert [] == trusted_modules(Layout(copy / ".taskstore"))
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        archive.add(clone.path, "unpacked")
    with tarfile.open(tmp_path / "all.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    unpacked = Layout(tmp_path / "unpacked" / ".taskstore")
    assert [] == trusted_modules(unpacked)
    # A mark of its own does not make the copied file valid.
    assert unpacked.mark.read("types") is not None
    assert [] == trusted_modules(Layout(unpacked.directory))


def test_init_trusts_what_it_is_given(clone: Clone) -> None:
    """`init --types` imports the named module, and trusts it."""
    clone.write(MODELS, "models.py")
    clone.taskstore("init", "--types", "models")
    assert ["models"] == clone.json("trust", "--list")["trusted"]


@pytest.mark.parametrize("name", ["test.__main__", "taskstore.__main__", "a b", "", "os/path"])
def test_what_is_no_module_is_neither_trusted_nor_imported(clone: Clone, name: str) -> None:
    """A program, and what is no name of a module, is refused with the reason."""
    done = clone.run("trust", name)
    assert 2 == done.returncode
    assert repr(name) in done.stderr
    with pytest.raises(TypesError, match="is a program|is not the name of a module"):
        load_types([name])


@pytest.mark.parametrize("name", ["json", "sys", "nowhere.at_all", "taskstore.models", "__main__"])
def test_a_place_is_found_without_an_import(name: str) -> None:
    """The place of a package is looked up, and its modules are not imported."""
    before = set(sys.modules)
    found = place_of(name)
    assert (found is None) == (name in ("nowhere.at_all", "__main__"))
    assert before == set(sys.modules)
