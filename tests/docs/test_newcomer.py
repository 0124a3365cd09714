"""Somebody who has nothing yet installs the package, and types what README and tutorial say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import attrs
import pytest

from tests.docs.pages import ROOT, Reader, Shell

pytestmark = pytest.mark.slow


def pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Call the pip of a Python that knows nothing of the tests' environment."""
    return subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", *arguments],
        capture_output=True,
        check=False,
        text=True,
    )


@pytest.fixture(scope="module")
def constraints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What makes `pip install taskstore` install a wheel of this checkout."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    if not (ROOT / "src").is_dir():
        pytest.skip("this is no checkout")
    folder = tmp_path_factory.mktemp("wheel")
    if pip("download", "--no-deps", "--dest", str(folder / "index"), "hatchling").returncode:
        pytest.skip("no package index can be reached")
    built = pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT))
    assert 0 == built.returncode, built.stderr
    (wheel,) = folder.glob("*.whl")
    path = folder / "constraints.txt"
    path.write_text(f"taskstore @ {wheel.as_uri()}\n", encoding="utf-8")
    return path


@attrs.define
class Stopwatch:
    """Counts from the command that installs to the end of the first that lists."""

    commands: list[str] = attrs.field(factory=list)
    started: float = 0.0
    seconds: float = 0.0

    def __call__(self, command: str | None) -> None:
        if self.seconds:
            return
        if command is None:
            if self.commands and self.commands[-1].startswith("taskstore list"):
                self.seconds = time.monotonic() - self.started
        elif command.startswith("pip install"):
            self.started = time.monotonic()
        elif command.startswith("taskstore"):
            self.commands.append(command)


def test_the_tutorial_and_the_readme_from_nothing(
    constraints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tutorial, and then the README, print what they say in an environment made by them.

    Three commands after the installation the first record is listed. How long that takes is
    printed: a minute is what it may take.
    """
    monkeypatch.setenv("PIP_CONSTRAINT", str(constraints))
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    monkeypatch.setenv("PATH", os.defpath)
    python3 = tmp_path / "programs" / "python3"
    python3.parent.mkdir()
    # Not the link itself: an environment made from that one would be within the tests'.
    python3.symlink_to(Path(sys.base_prefix, "bin", "python3"))
    monkeypatch.setenv("PATH", os.pathsep.join([str(python3.parent), os.environ["PATH"]]))
    place = tmp_path / "home"
    place.mkdir()
    watch = Stopwatch()
    with Shell(place, None) as shell:
        reader = Reader(shell, place, is_installing=True, typed=watch)
        reader.read(ROOT / "docs/tutorial/index.md")
        shell.type(f"mkdir '{place}/empty'; cd '{place}/empty'")
        reader.read(ROOT / "README.md")
    print(
        f"from `pip install` to the first record listed: {watch.seconds:.1f} s, "
        f"{len(watch.commands)} commands after it: {watch.commands}"
    )
    assert 3 == len(watch.commands)
