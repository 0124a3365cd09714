"""Chromium without a screen, steered over a pair of pipes by its DevTools protocol."""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ABOVE = 100
"""Descriptors that are surely not 3 or 4, those over which Chromium is steered."""

_PATIENCE = 120.0

_LAUNCH = """
import os, sys
os.dup2(int(sys.argv[1]), 3, inheritable=True)
os.dup2(int(sys.argv[2]), 4, inheritable=True)
os.execvp(sys.argv[3], sys.argv[3:])
"""


class BrowserError(Exception):
    """Chromium does not run, or not any more."""


def find() -> str | None:
    """The path of a Chromium, if there is one."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


@attrs.define
class Chromium:
    """A tab of a browser that runs."""

    _commands: int
    _answers: int
    _session: str = ""
    _rest: bytes = b""
    _numbers: Iterator[int] = attrs.field(factory=lambda: itertools.count(1))
    _events: list[dict[str, Any]] = attrs.field(factory=list)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command, and return its result."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        try:
            os.write(self._commands, json.dumps(message).encode() + b"\0")
        except BrokenPipeError as error:
            raise BrowserError("it has ended") from error
        while (answer := self._next()).get("id") != number:
            self._events.append(answer)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def attach(self) -> None:
        """Open a tab."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = found["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def open(self, url: str) -> list[str]:
        """Open a page, wait until it is there, and return what the browser complains of."""
        self._events.clear()
        found = self.call("Page.navigate", url=url)
        assert "errorText" not in found, found
        loader = found["loaderId"]
        while not any(_is_load(event, loader) for event in self._events):
            self._events.append(self._next())
        # What the page had to say so far has come before the answer to this.
        self.evaluate("1")
        return [_complaint(event) for event in self._events if _complaint(event)]

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript on the page; a promise is awaited."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def statuses(self, start: str) -> list[int]:
        """The statuses of the answers that the page has had so far, from a site."""
        found = [
            event["params"]["response"]
            for event in self._events
            if event.get("method") == "Network.responseReceived"
        ]
        return [answer["status"] for answer in found if answer["url"].startswith(start)]

    def show_as(self, width: int, height: int, scheme: str = "light") -> None:
        """Set the size of the window, and a light or dark scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme_feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[scheme_feature])

    def screenshot(self) -> bytes:
        """A picture of the window, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self._answers], [], [], _PATIENCE)[0]:
                raise BrowserError(f"no answer for {_PATIENCE} s")
            data = os.read(self._answers, 1 << 16)
            if not data:
                raise BrowserError("it has ended")
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


def _is_load(event: dict[str, Any], loader: str) -> bool:
    """Whether an event says that a page, by the number of its loading, is all there."""
    facts = event.get("params", {})
    is_its = event.get("method") == "Page.lifecycleEvent" and facts["loaderId"] == loader
    return is_its and facts["name"] == "load"


def _complaint(event: dict[str, Any]) -> str:
    """What an event says that should not be: a message of the console, a request that failed."""
    facts = event.get("params", {})
    if event.get("method") == "Log.entryAdded":
        return str(facts["entry"]["text"])
    if event.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
        return str(facts)
    if event.get("method") == "Network.loadingFailed":
        return str(facts["errorText"])
    return ""


@contextmanager
def running(path: str) -> Iterator[Chromium]:
    """Start a browser, and give a tab of it, in a block."""
    ends = [*os.pipe(), *os.pipe()]
    theirs_in, ours_out, ours_in, theirs_out = (
        fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _ABOVE) for end in ends
    )
    for end in ends:
        os.close(end)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = [
            *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking"),
            *("--remote-debugging-pipe", f"--user-data-dir={profile}"),
        ]
        process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, str(theirs_in), str(theirs_out), path, *options],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(Path(profile))},
        )
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            tab = Chromium(ours_out, ours_in)
            tab.attach()
            yield tab
        finally:
            process.kill()
            process.wait()
            os.close(ours_in)
            os.close(ours_out)
