"""The one way to run git: with a clean environment, and without trusting names or messages."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import attrs

from taskstore._log.lines import split_lines
from taskstore.errors import GitError, GitObjectMissingError

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
"""The variables that name a repository. A hook inherits them; they are wrong for any other one."""

ANSWER_BYTES = 64 * 2**20
"""The maximum size of git's output, in bytes, unless it is the content of a log."""

LOG_BYTES = 2**30
"""The maximum size of a version of a log from git, in bytes. It is held in memory."""

_MESSAGE_BYTES = 64 * 1024
_CHUNK = 64 * 1024

# A user may configure what `git log` leaves out, and how it spells names. We need every line of
# every commit of one file, in UTF-8.
_AS_IT_IS = (
    "-c",
    "log.follow=false",
    "-c",
    "log.showRoot=true",
    "-c",
    "log.diffMerges=separate",
    "-c",
    "i18n.logOutputEncoding=UTF-8",
    "-c",
    f"diff.orderFile={os.devnull}",
)

# The configuration of a repository could start these programs while we only read: a monitor of the
# work tree, a pager, a program that checks signatures. Git would wait for a pipe called .mailmap,
# and we show names as they are in commits. A bare repository inside a work tree came with a clone,
# and git would trust its configuration. Filters stay: they come from the user's configuration, and
# git itself runs them in every checkout.
_SAFE = (
    "--no-pager",
    "-c",
    "safe.bareRepository=explicit",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "log.showSignature=false",
    "-c",
    "log.mailmap=false",
    "-c",
    "core.alternateRefsCommand=true",
    *_AS_IT_IS,
)
# An empty value would name the working directory.
_NO_HOOKS = ("-c", f"core.hooksPath={os.devnull}")
_ASKS_FOR_HOOKS = ("config", "rev-parse")
"""The commands that show where the hooks are, and run none."""

# Messages that we may pass on stay in one language, nothing prompts or pages, and reading the
# work tree does not write the index.
_QUIET = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "LC_ALL": "C",
    "LANGUAGE": "C",
}

# Variables that start a program, or change the form of the output that we parse.
# GIT_CONFIG_COUNT and similar ones are kept: they bring a hook its `git -c`, and a container its
# safe.directory. Our own settings come after them.
_DROPPED = re.compile(
    r"""
    GIT_(?: EXTERNAL_DIFF | DIFF_OPTS | PAGER | PAGER_IN_USE | EDITOR | SEQUENCE_EDITOR | ASKPASS
      | SSH | SSH_COMMAND | SSH_VARIANT | PROXY_COMMAND | CONFIG | TEMPLATE_DIR | ATTR_SOURCE
      | (?:LITERAL|GLOB|NOGLOB|ICASE)_PATHSPECS | REDIRECT_.* | TRACE.* | TEST_.* )
    | SSH_ASKPASS
    """,
    re.VERBOSE,
)

_REMOTE = (
    "GIT_ALLOW_PROTOCOL",
    "GIT_ASKPASS",
    "GIT_PROXY_COMMAND",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSH_VARIANT",
    "SSH_ASKPASS",
)
"""What says how a remote is reached; it holds only where one is asked."""

_LOOK = 0.05
"""How often to look whether a call of a remote has ended or is to end, in seconds."""

_GRACE = 2.0
"""How long git may take to end when it is told to, in seconds."""

_MISSING = re.compile(r"(?:could not fetch|unable to read(?: tree)?) \(?([0-9a-f]{40,64})\b")
_OWNED = re.compile(r"dubious ownership in repository at '(.*)'\n")


@attrs.frozen
class Answer:
    """The result of a git command.

    Attributes:
        status: Its exit status.
        data: Its output.
        message: Its messages on stderr.
    """

    status: int
    data: bytes
    message: str

    @property
    def text(self) -> str:
        """The output as text, without the last newline and with surrogates for other bytes."""
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
        environment: Variables that differ from those of this process; None removes one.
    """

    directory: Path
    environment: Mapping[str, str | None] = attrs.field(factory=dict)

    @classmethod
    def elsewhere(cls, directory: Path) -> Git:
        """Return a git that finds the repository around a directory and ignores the environment."""
        return cls(directory, dict.fromkeys(PLACES))

    def ask(
        self,
        *call: str,
        stdin: bytes = b"",
        literal: bool = True,
        limit: int = ANSWER_BYTES,
        timeout: float | None = None,
    ) -> Answer:
        """Run git and return its result, whatever its exit status is.

        Args:
            call: The arguments.
            stdin: Its input.
            literal: Whether paths are taken literally; otherwise they may be patterns.
            limit: The maximum size of its output, in bytes.
            timeout: How long it may take, in seconds; None for any time.

        Raises:
            GitError: It could not be started, its output is too large, or it did not end.
        """
        with self._running(call, stdin, literal=literal) as (process, messages):
            with _ended_after(process, timeout) as is_late:
                data = _read(process, limit)
            if data is None:
                reason = (
                    f"it answers with more than {limit} bytes, which is all that is read at once"
                )
                raise GitError(_named(call), reason=f"{reason}: look at it with git itself")
            if is_late.is_set():
                reason = f"no answer in {timeout:g} s: a pipe or a device may be in the place of "
                raise GitError(_named(call), reason=f"{reason}a file of the repository")
            return Answer(process.wait(), data, _text(messages))

    def run(
        self, *call: str, stdin: bytes = b"", literal: bool = True, limit: int = ANSWER_BYTES
    ) -> Answer:
        """Run git, which has to succeed. The arguments are those of `ask`.

        Raises:
            GitError: It could not be started, its output is too large, or it failed.
        """
        answer = self.ask(*call, stdin=stdin, literal=literal, limit=limit)
        if answer.status != 0:
            raise refused(call, answer)
        return answer

    def ask_remote(self, *call: str, timeout: float, stopped: threading.Event) -> Answer:
        """Run git for a command that talks to a remote; return what it says.

        It has no terminal to ask for a password, and the programs that it starts end with it.

        Args:
            call: The arguments.
            timeout: How long it may take, in seconds.
            stopped: Ends it when it is set.

        Raises:
            GitError: It could not be started, or did not end in time.
        """
        reached = {name: os.environ.get(name) for name in _REMOTE}
        git = attrs.evolve(self, environment={**self.environment, **reached})
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as messages:
            # A program that git leaves behind would keep a pipe open.
            process = git._started(call, subprocess.DEVNULL, messages, output, literal=True)
            try:
                is_ended = _ends(process, timeout, stopped)
            finally:
                _end_all(process)
            if not is_ended:
                reason = "it was stopped" if stopped.is_set() else f"no answer in {timeout:g} s"
                raise GitError(_named(call), reason=f"{reason}: the remote will be asked again")
            output.seek(0)
            return Answer(process.returncode, output.read(_MESSAGE_BYTES), _text(messages))

    def tracked(self, name: str, limit: int = ANSWER_BYTES) -> bytes | None:
        """Return a tracked file as it would be checked out; None if there is none.

        It comes from the index, or from HEAD if there is no index or a conflict.

        Args:
            name: Its path from the root of the work tree.
            limit: Its maximum size, in bytes.

        Raises:
            GitError: Git could not be started, or the file is too large.
        """
        for place in (":0", "HEAD"):
            answer = self.ask("cat-file", "--filters", f"{place}:{name}", limit=limit)
            if answer.status == 0:
                return answer.data
        return None

    def lines(self, *call: str) -> Iterator[bytes]:
        """Run git and yield the lines of its output as they come, without line ends.

        Lines that are too long for a log are left out.

        Raises:
            GitError: It could not be started, or it failed.
        """
        with self._running(call) as (process, messages):
            for line in split_lines(_chunks(process)):
                if line.raw is not None:
                    yield line.raw
            if process.wait() != 0:
                raise refused(call, Answer(process.returncode, b"", _text(messages)))

    @contextlib.contextmanager
    def _running(
        self, call: Sequence[str], stdin: bytes = b"", *, literal: bool = True
    ) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
        """Run git for a block, with its output as a pipe, and its messages in a file."""
        with tempfile.TemporaryFile() as messages, contextlib.ExitStack() as stack:
            read: IO[bytes] | int = subprocess.DEVNULL
            if stdin:
                read = stack.enter_context(tempfile.TemporaryFile())
                read.write(stdin)
                read.seek(0)
            with self._started(call, read, messages, literal=literal) as process:
                try:
                    yield process, messages
                except BaseException:
                    process.kill()
                    raise

    def _started(
        self,
        call: Sequence[str],
        stdin: IO[bytes] | int,
        messages: IO[bytes],
        output: IO[bytes] | None = None,
        *,
        literal: bool,
    ) -> subprocess.Popen[bytes]:
        """Start git, with a pipe for its output; with a file for it, in a session of its own."""
        paths = "--literal-pathspecs" if literal else "--no-literal-pathspecs"
        hooks = () if call[0] in _ASKS_FOR_HOOKS else _NO_HOOKS
        try:
            return subprocess.Popen(  # noqa: S603 - no shell
                [_program(), *_SAFE, *hooks, paths, *call],
                cwd=self.directory,
                env=self._variables(),
                stdin=stdin,
                stdout=subprocess.PIPE if output is None else output,
                stderr=messages,
                start_new_session=output is not None,
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
        kept = {name: value for name, value in os.environ.items() if not _DROPPED.fullmatch(name)}
        variables = {**kept, **_QUIET}
        for name, value in self.environment.items():
            if value is None:
                variables.pop(name, None)
            else:
                variables[name] = value
        return variables


def is_installed() -> bool:
    """Return whether git is installed."""
    try:
        _program()
    except FileNotFoundError:
        return False
    return True


def _program() -> str:
    """Return git's path. A relative entry of the PATH would look for it in the work tree.

    Raises:
        FileNotFoundError: No absolute entry has it.
    """
    name = "git.exe" if os.name == "nt" else "git"
    for folder in os.get_exec_path():
        path = os.path.join(folder, name)
        if os.path.isabs(folder) and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise FileNotFoundError


@contextlib.contextmanager
def _ended_after(
    process: subprocess.Popen[bytes], timeout: float | None
) -> Iterator[threading.Event]:
    """End a process that does not end by itself, and report it."""
    is_late = threading.Event()

    def end() -> None:
        is_late.set()
        process.kill()

    timer = None if timeout is None else threading.Timer(timeout, end)
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        yield is_late
    finally:
        if timer is not None:
            timer.cancel()


def _ends(process: subprocess.Popen[bytes], timeout: float, stopped: threading.Event) -> bool:
    """Wait for the end of a process; say whether it came in time."""
    deadline = time.monotonic() + timeout
    while not stopped.is_set() and time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_LOOK)
            return True
    return False


def _end_all(process: subprocess.Popen[bytes]) -> None:
    """End a process that has a session of its own, and what it has started."""
    if process.poll() is not None:
        return
    if os.name == "nt":
        process.kill()
    else:
        # Git takes its lock files away at the first of these.
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
    process.wait()


def _read(process: subprocess.Popen[bytes], limit: int) -> bytes | None:
    """Return the output of a process. If it is too large, end the process and return None."""
    data = bytearray()
    for chunk in _chunks(process):
        data += chunk
        if len(data) > limit:
            process.kill()
            return None
    return bytes(data)


def _chunks(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    assert process.stdout is not None
    while chunk := os.read(process.stdout.fileno(), _CHUNK):
        yield chunk


def _text(messages: IO[bytes]) -> str:
    messages.seek(0)
    return messages.read(_MESSAGE_BYTES).decode(errors="replace").strip()


def refused(call: Sequence[str], answer: Answer) -> GitError:
    """Return the error for a failed command."""
    # On one line, as all our messages are.
    lines = [line.strip() for line in answer.message.splitlines()]
    reason = "; ".join(filter(None, lines)) or f"exit status {answer.status}"
    if owned := _OWNED.search(answer.message):
        trust = f"git config --global --add safe.directory {shlex.quote(owned[1])}"
        reason = f"{owned[1]} belongs to another user: if you trust it, run `{trust}`"
    if missing := _MISSING.search(answer.message):
        return GitObjectMissingError(missing[1], command=_named(call), status=answer.status)
    return GitError(_named(call), reason=reason, status=answer.status)


def _named(call: Sequence[str]) -> str:
    return f"git {call[0]}" if call else "git"


def shown(path: str | os.PathLike[str]) -> str:
    """Return a path as text that any output can show."""
    return os.fsencode(path).decode(errors="backslashreplace")
