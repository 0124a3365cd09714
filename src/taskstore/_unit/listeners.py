"""Listeners on sessions that can be taken off again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import attrs
from sqlalchemy import event
from sqlalchemy.orm import Session

Listener = Callable[..., Any]


@attrs.define(eq=False)
class SessionListeners:
    """Puts the same listeners on sessions, sessionmakers and scoped sessions.

    Each of them gets functions of its own: before 2.0.37, SQLAlchemy cannot remove a function that
    listens on two classes of sessions.

    Attributes:
        listeners: What listens, by event.
    """

    listeners: Mapping[str, Listener]
    _own: WeakKeyDictionary[Any, dict[str, Listener]] = attrs.field(
        factory=WeakKeyDictionary, init=False
    )

    def attach(self, target: Any) -> None:
        """Listen on a target; once, if called twice."""
        for name, listener in self._of(target).items():
            # What SQLAlchemy says of a session may be about another one that was there before, and
            # whose end was interrupted. A session takes a listener once, however often it is given.
            if isinstance(target, Session) or not event.contains(target, name, listener):
                event.listen(target, name, listener)

    def detach(self, target: Any) -> None:
        """Take the listeners off again."""
        for name, listener in self._of(target).items():
            if event.contains(target, name, listener):
                event.remove(target, name, listener)

    def _of(self, target: Any) -> dict[str, Listener]:
        factory = getattr(target, "session_factory", target)
        # Several factories may make sessions of one class, which is what is listened to.
        listened = getattr(factory, "class_", factory)
        if listened not in self._own:
            self._own[listened] = {name: _alias(one) for name, one in self.listeners.items()}
        return self._own[listened]


def _alias(listener: Listener) -> Listener:
    def listen(*arguments: Any) -> Any:
        return listener(*arguments)

    return listen
