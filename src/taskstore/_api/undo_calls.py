"""The calls of a store that ask who did something, and undo it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskstore._api.read_calls import ReadCalls
from taskstore._api.time_calls import TimeCalls
from taskstore._api.write_calls import WriteCalls
from taskstore._format.names import check_id
from taskstore.errors import RecordNotFoundError

if TYPE_CHECKING:  # what is rarely called is imported then
    from taskstore._api.blame import FieldBlame


class UndoCalls(ReadCalls, WriteCalls, TimeCalls):
    """Blame, restore and revert."""

    def blame(self, type: Any, id: str, /) -> list[FieldBlame]:
        """Return who last changed each field of a record, in the order of the fields.

        A merge changed nothing that one of its sides has: that side did. In a history where no
        commit has made the log shorter, only the commits that brought lines of the record are
        read.

        Args:
            type: A record class, or a collection's name.
            id: The record's id.

        Raises:
            RecordNotFoundError: There is no such record.
            GitError: Git refused.
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
            at: The revision or time to bring it back from, as for `as_of`. Without it a deleted
                record comes back as it last was; git's history is searched, too.

        Returns:
            The record.

        Raises:
            RecordNotFoundError: There was no such record.
            RecordExistsError: It is not deleted, and `at` was not given.
            StoreReadOnlyError: The store is for reading.
        """
        from taskstore._api.undoing import restore

        collection, id = self._named(type, id)
        restore(self, self._context.layout, collection, id, at)
        return self.get_one(type, id)

    def revert(self, commit: str, /) -> list[tuple[str, str]]:
        """Undo what a commit changed in records, with new versions, all or nothing.

        Fields that were not changed by the commit stay as they are now.

        Args:
            commit: Any name of the commit that git understands.

        Returns:
            The collection and the id of each record that was written.

        Raises:
            RevertConflictError: A value was changed again since.
            CommitNotFoundError: There is no such commit.
            GitError: It is a merge, or git refused.
            StoreReadOnlyError: The store is for reading.
        """
        from taskstore._api.undoing import revert

        self._check_present()
        return revert(self, self._context.layout, commit)

    def _named(self, type: Any, id: str) -> tuple[str, str]:
        self._check_present()
        collection = self._catalog.codec(type).collection
        return collection, check_id(id, collection)
