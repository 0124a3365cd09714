"""Fixtures that any test may want, and the profiles of the property tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.warm import COLD

# A red run must be repeatable from its output alone: all print the blob of a failing example. `ci`
# tries the same examples each time, so that what it refuses is the change; `dev` and `long` look
# for what nobody has met.
settings.register_profile("dev", deadline=None, print_blob=True, max_examples=50)
settings.register_profile(
    "ci",
    deadline=None,
    print_blob=True,
    max_examples=50,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
# `nox -s properties` looks for what the usual run has not met.
settings.register_profile("long", settings.get_profile("dev"), max_examples=2500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "dev"))


@pytest.fixture(autouse=True, scope="session")
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the marks of stores outside of any repository in a folder of the run."""
    home = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TASKSTORE_STATE_HOME", str(home))
        # Otherwise hundreds of processes spend a third of their time compiling the library.
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        yield home


def pytest_collection_finish() -> None:
    """Keep what was collected, a large heap, out of each collection of garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def cold_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let git start an interpreter for each hook and merge, as it does for users."""
    monkeypatch.setenv(COLD, "1")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The path of a store directory that does not exist yet."""
    return tmp_path / ".taskstore"


@pytest.fixture
def repository_root() -> Path:
    """The root of the source tree, for tests that read the project's own files."""
    return Path(__file__).resolve().parent.parent
