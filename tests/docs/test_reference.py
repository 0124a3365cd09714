"""The reference pages and the files beside them agree with the package."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import taskstore
from taskstore import errors
from taskstore._cache.schema.names import REVISIONS
from taskstore._format.config import POLICIES
from taskstore._log.layout import Layout
from taskstore.models import DEFAULT
from tests.docs.pages import PAGES, ROOT

DIRECTIVE = re.compile(
    r"^\.\. auto(?:class|function|data|exception):: (?:taskstore\.)?(\w+)$", re.MULTILINE
)


def test_the_reference_names_all_that_is_public(repository_root: Path) -> None:
    """The API page and the errors' module together list exactly what the package exports."""
    page = (repository_root / "docs/reference/api.md").read_text(encoding="utf-8")
    assert sorted(taskstore.__all__) == sorted([*DIRECTIVE.findall(page), *errors.__all__])


def test_ci_calls_the_test_command_of_the_readme(repository_root: Path) -> None:
    """The command in the README is the one that continuous integration ends with."""
    readme = (repository_root / "README.md").read_text(encoding="utf-8")
    _, _, section = readme.partition("## Run the tests")
    command = section.partition("```sh\n")[2].partition("\n```")[0]
    assert command
    assert command == (repository_root / ".ci/run").read_text(encoding="utf-8").splitlines()[-1]


def test_the_schema_has_every_table_column_and_revision(repository_root: Path) -> None:
    """The page of the schema names all tables, their columns, and the revisions in their order."""
    page = (repository_root / "docs/reference/schema.md").read_text(encoding="utf-8")
    tables = re.findall(r"^\| `(\w+)` \| [a-z_, ]+ \|", page, re.MULTILINE)
    assert sorted(DEFAULT.table_names) == sorted(tables)
    assert f"`{DEFAULT.version_table}`" in page
    said = set(re.findall(r"\w+", page))
    columns = {column for table in DEFAULT.metadata.tables.values() for column in table.columns}
    assert set() == {column.name for column in columns} - said
    revisions = re.findall(r"^\| `(\d{4})` \|", page, re.MULTILINE)
    assert [*REVISIONS] == revisions


def test_the_errors_that_are_also_pythons(repository_root: Path) -> None:
    """The table of errors has exactly those that are errors of Python, too, and as which."""
    page = (repository_root / "docs/reference/errors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`\w+Error`.*?) \| `(\w+)` \|$", page, re.MULTILINE)
    documented = {(name, base) for names, base in rows for name in re.findall(r"`(\w+)`", names)}
    kinds = [getattr(errors, name) for name in errors.__all__]
    assert {
        (kind.__name__, base.__name__)
        for kind in kinds
        if issubclass(kind, errors.TaskstoreError)
        for base in kind.__bases__
        if base.__module__ == "builtins" and base is not Exception
    } == documented


def test_the_files_of_a_store_are_documented(repository_root: Path) -> None:
    """The page of the format names every file that a store directory may have."""
    page = (repository_root / "docs/reference/file-format.md").read_text(encoding="utf-8")
    table = page.partition("## The store directory")[2].partition("\n## ")[0]
    layout = Layout("/x")
    paths = [
        value
        for value in (getattr(layout, name) for name in dir(Layout))
        if isinstance(value, Path)
    ]
    assert [] == [
        path.name for path in paths if path != layout.directory and f"`{path.name}`" not in table
    ]


def test_the_merge_policies_are_documented(repository_root: Path) -> None:
    """The page of config.toml and the one on merging name every policy."""
    for name in ("docs/reference/config.md", "docs/explanation/merging.md"):
        said = set(re.findall(r'`"?(\w+)"?`', (repository_root / name).read_text(encoding="utf-8")))
        assert set() == set(POLICIES) - said


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_points_to_is_there(page: Path) -> None:
    """Files that a page names, links to or shows exist, and each picture is described."""
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`((?:tests|docs|src|migrations)/[\w./-]+)`", text)
    assert [] == [name for name in named if not (ROOT / name).exists()]
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)
    targets += re.findall(r"\{(?:literal)?include\} (\S+)$", text, re.MULTILINE)
    assert [] == [target for target in targets if not (page.parent / target).exists()]
    pictures = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", text)
    assert [] == [target for description, target in pictures if len(description) < 20]
    for _, target in pictures:
        if target.endswith(".svg"):
            assert "{http://www.w3.org/2000/svg}svg" == ET.parse(page.parent / target).getroot().tag
