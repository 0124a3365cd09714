"""The pages of the documentation, run as a reader would type them.

What is run, in the order of the page:

- `console` blocks: what follows `$ ` is typed into one shell, with `> ` before lines that go on.
  The lines after it are what it prints; a line `...` stands for any lines. `sh` blocks are not run.
- blocks whose first line is a comment with the name of a file, such as `# plans.py`, or that have a
  comment `<!-- file plans.json -->` before them: are written to it.
- other `python` blocks: are run. A `text` block right after one is what it prints.
- comments `<!-- $ command -->`: are typed, too, and their output does not matter.

Times, commits and the folder differ from run to run, and are made equal before they are compared.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import re
import shlex
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, TracebackType

import attrs

from tests.warm import warm

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
HOME = "/home/ada"
"""What the pages call the folder that they are run in."""

INSTALLING = re.compile(r"python3 -m venv |\. \.venv/bin/activate$|pip install ")
"""What a reader types before the package is installed."""

_PART = re.compile(
    r"^(?:<!-- file (?P<file>\S+) -->\n+)?```(?P<language>\w+)\n(?P<body>.*?)^```$"
    r"|^<!-- \$ (?P<hidden>.*?) -->$",
    re.MULTILINE | re.DOTALL,
)
_FILE = re.compile(r"# (?P<file>[\w./-]+\.\w+)\n")
_NAMES = (
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"), "<time>"),
    (re.compile(r"\b\d{13}\b"), "<time>"),
    (re.compile(r"\b\d+\.\d\ds\b"), "<seconds>"),
    (re.compile(r"\b[0-9a-f]{7,40}\b"), "<commit>"),
)


@attrs.frozen
class Block:
    """A part of a page that does something.

    Attributes:
        line: The line of the page it starts after.
        kind: "python", "console", "file" or "hidden".
        text: Its text.
        printed: For Python, what the page says that it prints; None if it says nothing.
        file: The file that it is to become.
    """

    line: int
    kind: str
    text: str
    printed: str | None = None
    file: str = ""

    def commands(self) -> Iterator[tuple[str, str]]:
        """The commands of a console block, each with what it prints."""
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            first, *rest = part.splitlines(keepends=True)
            more = [line for line in rest if line.startswith("> ")]
            typed = first + "".join(line.removeprefix("> ") for line in more)
            yield typed.rstrip("\n"), "".join(rest[len(more) :])


def blocks(page: Path) -> list[Block]:
    """Return what there is to run in a page."""
    text = page.read_text(encoding="utf-8")
    found: list[Block] = []
    end = -1
    for match in _PART.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        language, body = match["language"], match["body"]
        is_next = not text[end : match.start()].strip()
        end = match.end()
        if language is None:
            found.append(Block(line, "hidden", match["hidden"]))
        elif named := match["file"] or ((first := _FILE.match(body)) and first["file"]):
            found.append(Block(line, "file", body, file=named))
        elif language in ("python", "console"):
            found.append(Block(line, language, body))
        elif language == "text" and is_next and found and found[-1].kind == "python":
            found[-1] = attrs.evolve(found[-1], printed=body)
    return found


def same(expected: str, actual: str, place: Path) -> bool:
    """Whether a page says what was printed, but for what differs from run to run."""
    for pattern, name in _NAMES:
        expected, actual = pattern.sub(name, expected), pattern.sub(name, actual)
    pieces = [re.escape(piece) for piece in re.split(r"^\.\.\.\n", expected, flags=re.MULTILINE)]
    return re.fullmatch(r"(?:.*\n)*".join(pieces), actual.replace(str(place), HOME)) is not None


class Shell:
    """A shell that is typed into.

    Args:
        place: The folder it starts in, which is also the home of whoever types.
        programs: A folder that is looked into first for programs; None for whoever has installed
            nothing yet.
    """

    def __init__(self, place: Path, programs: Path | None) -> None:
        settings = place.parent / "gitconfig"
        settings.write_text(
            "[user]\nname = Ada\nemail = ada@example.org\n[init]\ndefaultBranch = main\n"
        )
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("GIT_", "PYTEST_", "TASKSTORE_", "VIRTUAL_ENV"))
            and not (name.startswith("PYTHON") and programs is None)
        }
        path = [] if programs is None else [str(programs)]
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            cwd=place,
            env={
                **kept,
                "PATH": os.pathsep.join([*path, os.environ["PATH"]]),
                "HOME": str(place),
                "EXAMPLES": str(ROOT / "docs" / "examples"),
                "GIT_CONFIG_GLOBAL": str(settings),
                "GIT_CONFIG_NOSYSTEM": "1",
                "LC_ALL": "C.UTF-8",
                "TZ": "UTC",
            },
        )
        self.folder = place

    def __enter__(self) -> Shell:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.close()
        self._bash.stdout.close()
        self._bash.wait()

    def type(self, command: str) -> str:
        """Type a command, and return what it prints."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        mark = f"=={uuid.uuid4().hex}=="
        self._bash.stdin.write(f'{{ {command}\n}} < /dev/null\necho "{mark}$PWD"\n')
        self._bash.stdin.flush()
        output = []
        for line in self._bash.stdout:
            before, found, folder = line.partition(mark)
            output.append(before)
            if found:
                self.folder = Path(folder.rstrip("\n"))
                return "".join(output)
        raise AssertionError(f"the shell ended at {command!r}: {''.join(output)}")


def programs_of_this_environment(folder: Path) -> Path:
    """Make `python` and `taskstore` of the environment under test, and return their folder."""
    folder.mkdir()
    for name, call in (("python", [sys.executable]), ("taskstore", warm())):
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec {shlex.join(call)} "$@"\n')
        program.chmod(0o755)
    return folder


@attrs.define
class Reader:
    """A reader who types the commands of a page.

    Attributes:
        shell: What is typed into.
        place: The folder in which the page starts.
        is_installing: Whether the commands that install the package are typed, too.
        module: Where Python blocks are run; None runs each as a program of its own.
        typed: Called before each command with the command, and after it with None.
    """

    shell: Shell
    place: Path
    is_installing: bool = False
    module: ModuleType | None = None
    typed: Callable[[str | None], None] = lambda _: None

    def read(self, page: Path) -> None:
        """Type a page, and compare what is printed with what it says."""
        for block in blocks(page):
            where = f"{page.relative_to(ROOT)}:{block.line}"
            if block.kind == "hidden":
                self.shell.type(block.text)
            elif block.kind == "file":
                path = self.shell.folder / block.file
                path.write_text(block.text, encoding="utf-8")
            elif block.kind == "console":
                for command, expected in block.commands():
                    if self.is_installing or not INSTALLING.match(command):
                        self._type(command, expected, where)
            else:
                self._run(block, page, where)

    def _type(self, command: str, expected: str, where: str) -> None:
        self.typed(command)
        actual = self.shell.type(command)
        self.typed(None)
        # What pip says is not ours.
        if not INSTALLING.match(command):
            self._compare(expected, actual, f"{where}: $ {command}")

    def _run(self, block: Block, page: Path, where: str) -> None:
        if self.module is None:
            program = self.place.parent / "block.py"
            program.write_text(block.text, encoding="utf-8")
            self._type(f"python '{program}'", block.printed or "", where)
            return
        # Leading newlines give tracebacks the page's own line numbers.
        code = compile("\n" * block.line + block.text, str(page), "exec")
        printed = io.StringIO()
        with contextlib.chdir(self.shell.folder), contextlib.redirect_stdout(printed):
            exec(code, self.module.__dict__)
        if block.printed is not None:
            self._compare(block.printed, printed.getvalue(), where)

    def _compare(self, expected: str, actual: str, where: str) -> None:
        if not same(expected, actual, self.place):
            lines = actual.replace(str(self.place), HOME).splitlines()
            difference = difflib.unified_diff(
                expected.splitlines(), lines, "the page", "what is printed", lineterm=""
            )
            raise AssertionError("\n".join([where, *difference]))
