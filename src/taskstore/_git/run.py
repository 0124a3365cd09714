"""Running git: with a clean environment, and without trusting names or messages."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import attrs

from taskstore.errors import GitError

__all__ = ["PLACES", "Answer", "Git", "refused", "shown"]

PLACES = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_QUARANTINE_PATH",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
)
"""What says where a repository is. A hook inherits these, and they are wrong for any other one."""

# Messages that we may pass on stay in one language, nothing asks or pages, and a look at the
# work tree does not write the index.
_QUIET = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", "LANGUAGE": "C"}


@attrs.frozen
class Answer:
    """What git said.

    Attributes:
        status: Its exit status.
        data: Its output.
        message: What it wrote to stderr.
    """

    status: int
    data: bytes
    message: str

    @property
    def text(self) -> str:
        """The output as text, with bytes that are no UTF-8 as surrogates, and its end cut off."""
        return os.fsdecode(self.data.removesuffix(b"\n"))

    @property
    def fields(self) -> list[str]:
        """The output of a command with `-z`: its parts between NUL bytes, as file names."""
        return [os.fsdecode(part) for part in self.data.removesuffix(b"\0").split(b"\0") if part]


@attrs.frozen
class Git:
    """Git in one directory.

    Attributes:
        directory: Where it runs.
        environment: Variables that differ from this process's; None takes one away.
    """

    directory: Path
    environment: Mapping[str, str | None] = attrs.field(factory=dict)

    @classmethod
    def elsewhere(cls, directory: Path) -> Git:
        """Return a git that finds the repository of a directory, whatever the environment says."""
        return cls(directory, dict.fromkeys(PLACES))

    def ask(self, *call: str, stdin: bytes = b"", literal: bool = True) -> Answer:
        """Run git and return what it says, whatever its exit status is.

        Args:
            call: The arguments.
            stdin: What it reads.
            literal: Whether paths stand for themselves; otherwise they may be patterns.

        Raises:
            GitError: It could not be started.
        """
        paths = "--literal-pathspecs" if literal else "--no-literal-pathspecs"
        try:
            done = subprocess.run(  # noqa: S603 - no shell
                ["git", paths, *call],  # noqa: S607 - git is where the user's PATH has it
                cwd=self.directory,
                env=self._variables(),
                input=stdin,
                capture_output=True,
                check=False,
            )
        except OSError as error:
            raise self._not_started(call, error) from error
        return Answer(done.returncode, done.stdout, done.stderr.decode(errors="replace").strip())

    def run(self, *call: str, stdin: bytes = b"", literal: bool = True) -> Answer:
        """Run git, which has to succeed; the arguments are those of `ask`.

        Raises:
            GitError: It could not be started, or refused.
        """
        answer = self.ask(*call, stdin=stdin, literal=literal)
        if answer.status != 0:
            raise refused(call, answer)
        return answer

    def tracked(self, name: str) -> bytes | None:
        """Return a tracked file as it would be checked out; None where there is none.

        The index has the first word; HEAD the second, where there is no index, or a conflict.

        Args:
            name: Its path from the root of the work tree.

        Raises:
            GitError: Git could not be started.
        """
        for place in (":0", "HEAD"):
            answer = self.ask("cat-file", "--filters", f"{place}:{name}")
            if answer.status == 0:
                return answer.data
        return None

    def lines(self, *call: str) -> Iterator[bytes]:
        """Run git and yield the lines of its output, without their ends, as they come.

        Raises:
            GitError: It could not be started, or refused.
        """
        with (
            tempfile.TemporaryFile() as messages,
            self._started(call, messages) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                yield line.removesuffix(b"\n")
            if process.wait() != 0:
                messages.seek(0)
                text = messages.read().decode(errors="replace").strip()
                raise refused(call, Answer(process.returncode, b"", text))

    def _started(self, call: Sequence[str], messages: IO[bytes]) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(  # noqa: S603 - no shell
                ["git", "--literal-pathspecs", *call],  # noqa: S607
                cwd=self.directory,
                env=self._variables(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=messages,
            )
        except OSError as error:
            raise self._not_started(call, error) from error

    def _not_started(self, call: Sequence[str], error: OSError) -> GitError:
        if not self.directory.is_dir():
            reason = f"there is no directory {shown(self.directory)}"
        elif isinstance(error, FileNotFoundError):
            reason = "git is not installed, or not on the PATH"
        else:
            reason = error.strerror or str(error)
        return GitError(_named(call), reason=reason)

    def _variables(self) -> dict[str, str]:
        variables = {**os.environ, **_QUIET}
        for name, value in self.environment.items():
            if value is None:
                variables.pop(name, None)
            else:
                variables[name] = value
        return variables


def refused(call: Sequence[str], answer: Answer) -> GitError:
    """Return the error for an answer that is none."""
    reason = answer.message or f"exit status {answer.status}"
    return GitError(_named(call), reason=reason, status=answer.status)


def _named(call: Sequence[str]) -> str:
    return f"git {call[0]}" if call else "git"


def shown(path: str | os.PathLike[str]) -> str:
    """Return a path as text that any output can carry."""
    return os.fsencode(path).decode(errors="backslashreplace")
