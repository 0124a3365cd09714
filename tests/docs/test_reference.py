"""The reference pages and the files beside them agree with the package."""

from __future__ import annotations

import re
from pathlib import Path

import taskstore
from taskstore import errors

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
