"""An asyncio application that is killed at any instant: its tables and the log stay one."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from tests.aio import committer
from tests.mirror.test_kill import kill_again_and_again


@pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="no fork")
def test_killed_at_any_instant(tmp_path: Path, capsys: Any) -> None:
    """No row acknowledged by an AsyncSession is lost or there by half; log and tables agree."""
    kill_again_and_again(tmp_path, capsys, committer.commit_all_the_time)
