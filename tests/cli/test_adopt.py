"""`taskstore adopt` says what adopting an application takes, and changes nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli import shop
from tests.cli.programs import on_pipe


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with an application, and no store."""
    shutil.copy(shop.__file__, tmp_path / "shop.py")
    return tmp_path


def test_what_is_printed_works(place: Path) -> None:
    """The printed calls open a store that logs each printed collection."""
    run = on_pipe("adopt", "shop:Base", "--json", cwd=place)
    assert 1 == run.status
    told = json.loads(run.stdout)
    program = "\n".join(
        [
            "from sqlalchemy import create_engine",
            "from sqlalchemy.orm import sessionmaker",
            "import shop",
            "engine = create_engine('sqlite:///app.db')",
            "shop.metadata.create_all(engine)",
            "Session = sessionmaker(engine)",
            *told["calls"],
            "with Session.begin() as session:",
            "    book = shop.Book(id='b', pages=1)",
            "    user = shop.User(token='t', basket=[], deleted=True, items=[book])",
            "    session.add(user)",
            "store.close(); engine.dispose()",
        ]
    )
    (place / "program.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "program.py"],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (0, "") == (done.returncode, done.stderr)
    logs = {path.stem: path for path in (place / ".taskstore").glob("*.jsonl")}
    models = {model["collection"]: model for model in told["models"] if model["collection"]}
    assert set(models) == set(logs)
    for name, path in logs.items():
        keys = {key for line in path.read_text().splitlines() for key in json.loads(line)}
        assert keys == {"id", *models[name]["fields"]}


def test_nothing_is_changed(place: Path) -> None:
    """Neither a store nor a database is made, nor compiled code of the module."""
    on_pipe("adopt", "shop:Base", cwd=place)
    assert ["shop.py"] == sorted(path.name for path in place.iterdir())


def test_what_was_fixed_is_not_refused(place: Path) -> None:
    """With the arguments that it names, nothing is refused any more."""
    told = json.loads(on_pipe("adopt", "shop:Base", "--json", cwd=place).stdout)
    fixes = {fix["fix"] for model in told["models"] for fix in model["refused"]}
    assert {'exclude=["records"]', 'local=["items.shelf_id"]'} == fixes
    options = ["--exclude", "records", "--local", "items.shelf_id"]
    run = on_pipe("adopt", "shop:Base", *options, "--json", cwd=place)
    assert 0 == run.status
    again = json.loads(run.stdout)
    assert [] == [model for model in again["models"] if model["refused"]]
    assert [call for call in told["calls"] if "mirror_all(" in call] == [
        call for call in again["calls"] if "mirror_all(" in call
    ]


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("shop", "Name a module and a base in it"),
        ("shop:Bass", "there is no 'Bass'; did you mean 'Base'?"),
        ("shopp:Base", "No module named 'shopp'"),
        ("leaves:Base", "SystemExit: 3"),
        ("shop:User.token", "takes a declarative base"),
    ],
)
def test_what_is_no_base(place: Path, base: str, message: str) -> None:
    """A name that means no base is an error of the command line."""
    (place / "leaves.py").write_text("raise SystemExit(3)", encoding="utf-8")
    run = on_pipe("adopt", base, cwd=place)
    assert message in run.stderr
    assert (2 if "takes" not in message else 3) == run.status
