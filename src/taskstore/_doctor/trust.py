"""The modules with record types that the user trusts in this clone.

`types` in config.toml names modules, and importing a module runs its code. The file comes with a
clone, so only modules that the user trusts are imported. The list of them is kept outside the
working tree, where a clone cannot put one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable

from taskstore._format.config import check_module_name
from taskstore._log.layout import Layout
from taskstore._log.trust import Mark

_NAME = "types"
_MOST = 1000
"""The maximum number of trusted modules in a clone."""


def trusted_modules(layout: Layout) -> list[str]:
    """Return the sorted names of the modules that are trusted in this clone.

    Raises:
        StoreAccessError: The file of trusted modules cannot be read.
    """
    return _decoded(Mark.of_reader(layout.directory, own=True))


def trust_modules(layout: Layout, modules: Iterable[str]) -> list[str]:
    """Trust modules in this clone; return all that are trusted now.

    Raises:
        ValueError: One is not the name of a module, or there are too many.
        StoreAccessError: The file of trusted modules cannot be read or written.
    """
    names = {check_module_name(name) for name in modules}
    mark = Mark.of(layout.directory, own=True)
    known = _decoded(mark)
    wanted = sorted({*known, *names})
    if len(wanted) > _MOST:
        raise ValueError(f"at most {_MOST} modules can be trusted: first remove some")
    if wanted != known:
        _write(mark, wanted)
    return wanted


def forget_modules(layout: Layout, modules: Iterable[str]) -> list[str]:
    """Stop trusting modules; return those that are still trusted.

    Raises:
        StoreAccessError: The file of trusted modules cannot be read or written.
    """
    mark = Mark.of(layout.directory, own=True)
    wanted = [name for name in _decoded(mark) if name not in set(modules)]
    _write(mark, wanted)
    return wanted


def _write(mark: Mark, modules: list[str]) -> None:
    text = json.dumps(modules).encode()
    mark.write(_NAME, b"%b\n%b\n" % (_seal(mark, text), text))


def _decoded(mark: Mark) -> list[str]:
    """Return the content if this mark wrote it. An archive may contain a git directory."""
    seal, _, rest = (mark.read(_NAME) or b"").partition(b"\n")
    text = rest.removesuffix(b"\n")
    if not hmac.compare_digest(seal, _seal(mark, text)):
        return []
    found: list[str] = json.loads(text)
    return found


def _seal(mark: Mark, text: bytes) -> bytes:
    return hashlib.blake2b(text, key=mark.key(_NAME), digest_size=32).hexdigest().encode()
