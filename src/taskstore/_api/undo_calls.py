"""The calls of a store that show who changed something, and undo it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskstore._api.read_calls import ReadCalls
from taskstore._api.time_calls import TimeCalls
from taskstore._api.write_calls import WriteCalls
from taskstore._format.names import check_id
from taskstore.errors import RecordNotFoundError

if TYPE_CHECKING:  # rarely called, so imported late
    from taskstore._api.blame import FieldBlame


class UndoCalls(ReadCalls, WriteCalls, TimeCalls):
    """Blame, restore and revert."""

    def blame(self, type: Any, id: str, /) -> list[FieldBlame]:
        """Return who last changed each field of a record, in the order of the fields.

        If a merge took a value from one of its sides, the commit on that side is returned. If no
        commit in the history has made the log shorter, only the commits that added lines of the
        record are read.

        Args:
            type: A record class, or a collection's name.
            id: The record's id.

        Raises:
            RecordNotFoundError: There is no such record.
            GitError: A git command failed.
        """
        from taskstore._api.blame import blame

        collection, id = self._named(type, id)
        found = blame(self._context.layout, collection, id, keep=not self._context.read_only)
        if not found and self.get(collection, id) is None:
            raise RecordNotFoundError(collection=collection, id=id)
        return found

    def restore(self, type: Any, id: str, /, *, at: Any = None) -> Any:
        """Bring a record back, as a new version.

        Args:
            type: A record class, or a collection's name.
            id: The record's id.
            at: The revision or time to take it from, as for `as_of`. Without it, a deleted record
                comes back as it was last; git's history is searched too.

        Returns:
            The record.

        Raises:
            RecordNotFoundError: There was no such record.
            RecordExistsError: The record is not deleted, and `at` was not given.
            StoreReadOnlyError: The store is read-only.
        """
        from taskstore._api.undoing import restore

        collection, id = self._named(type, id)
        restore(self, self._context.layout, collection, id, at)
        return self.get_one(type, id)

    def revert(self, commit: str, /) -> list[tuple[str, str]]:
        """Undo what a commit changed in records, by writing new versions: all of them or none.

        Fields that the commit did not change stay as they are now.

        Args:
            commit: Any name for the commit that git understands.

        Returns:
            The collection and the id of each record that was written.

        Raises:
            RevertConflictError: A value has changed again since.
            CommitNotFoundError: There is no such commit.
            GitError: The commit is a merge, or a git command failed.
            StoreReadOnlyError: The store is read-only.
        """
        from taskstore._api.undoing import revert

        self._check_present()
        return revert(self, self._context.layout, commit)

    def _named(self, type: Any, id: str) -> tuple[str, str]:
        self._check_present()
        collection = self._catalog.codec(type).collection
        return collection, check_id(id, collection)
