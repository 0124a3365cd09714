"""A client of the server, in this process or by a process of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import attrs
import mcp_types as types
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from taskstore.cli._mcp.server import build_server
from tests.cli.programs import CALL, environment

T = TypeVar("T")

_PATIENCE = 120.0


@attrs.frozen
class Answer:
    """What a tool answered.

    Attributes:
        data: Its structured answer; empty for an error.
        text: Its text: the same as JSON, or the message of an error.
        failed: Whether it is an error.
    """

    data: dict[str, Any]
    text: str
    failed: bool

    @classmethod
    def of(cls, result: types.CallToolResult) -> Answer:
        """The answer in a result of the SDK."""
        (content,) = result.content
        assert isinstance(content, types.TextContent)
        return cls(result.structured_content or {}, content.text, bool(result.is_error))


def with_client(
    directory: Path, talk: Callable[[Client], Awaitable[T]], *, read_only: bool = False
) -> T:
    """Talk to a server in this process."""

    async def run() -> T:
        server = build_server(directory, read_only=read_only)
        async with Client(server, mode="legacy") as client:
            return await talk(client)

    return asyncio.run(run())


def ask(directory: Path, tool: str, *, read_only: bool = False, **arguments: Any) -> Answer:
    """Call a tool of a server in this process."""

    async def talk(client: Client) -> Answer:
        return Answer.of(await client.call_tool(tool, arguments))

    return with_client(directory, talk, read_only=read_only)


def refusal(directory: Path, tool: str, **arguments: Any) -> str:
    """Call a tool, and return the message of its error."""
    answer = ask(directory, tool, **arguments)
    assert answer.failed, answer
    return answer.text


@asynccontextmanager
async def started(folder: Path, *options: str) -> AsyncIterator[Client]:
    """Start `taskstore mcp` in a folder, and connect to it over its stdin and stdout."""
    call = StdioServerParameters(
        command=sys.executable, args=[*CALL[1:], "mcp", *options], cwd=folder, env=environment()
    )
    async with Client(stdio_client(call), read_timeout_seconds=_PATIENCE) as client:
        yield client
