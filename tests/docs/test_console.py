"""What the documentation types at a prompt prints what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.public

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Those whose commands need git are not about what is printed.
PAGES = ["docs/tutorial/index.md", "docs/how-to/command-line.md"]


def commands(block: str) -> list[tuple[str, str]]:
    """The commands of a console block that begin without git, each with what it prints."""
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    pairs = [part.partition("\n")[::2] for part in parts]
    return [(command, output) for command, output in pairs if not command.startswith("git ")]


@pytest.mark.parametrize("name", PAGES)
def test_the_page_prints_what_it_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks of a page, Python and shell, run in their order in an empty folder."""
    programs, place = tmp_path / "bin", tmp_path / "place"
    programs.mkdir()
    place.mkdir()
    program = programs / "taskstore"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m taskstore "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("TASKSTORE_DIR", raising=False)
    monkeypatch.chdir(place)
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    ran = 0
    for language, block in BLOCK.findall((ROOT / name).read_text(encoding="utf-8")):
        if language == "python":
            exec(compile(block, name, "exec"), module.__dict__)
            continue
        for command, output in commands(block):
            done = subprocess.run(
                ["bash", "-c", command],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
                text=True,
            )
            assert (command, output) == (command, done.stdout)
            ran += 1
    assert ran
