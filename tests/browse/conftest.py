"""A store with a history, and its pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from taskstore import Store
from tests.browse.sample import make
from tests.browse.site import Site, site_of


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store that no test changes."""
    folder = tmp_path_factory.mktemp("sample") / "repository"
    make(folder)
    return folder


@pytest.fixture(scope="module")
def store(sample: Path) -> Iterator[Store]:
    """The store, open."""
    with Store.open(sample / ".taskstore", create=False) as store:
        yield store


@pytest.fixture(scope="module")
def site(store: Store) -> Iterator[Site]:
    """The pages of the store."""
    with site_of(store) as site:
        yield site
