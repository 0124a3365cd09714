"""`taskstore mcp` as a process that a client starts."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from taskstore import Store
from tests.agents.asking import Answer, started
from tests.cli.programs import CALL, INTERRUPTIBLE, environment, on_pipe

PATIENCE = 60.0

OPENING = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


async def call(client: Client, tool: str, **arguments: Any) -> Answer:
    """Call a tool."""
    return Answer.of(await client.call_tool(tool, arguments))


def test_a_client_talks_to_a_process(store: Path) -> None:
    """Every tool answers over stdin and stdout, and git's history is read by the server, too."""
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    for words in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "Plans"]):
        subprocess.run(["git", *words], cwd=store.parent, check=True, capture_output=True)

    async def talk() -> None:
        async with started(store.parent) as client:
            assert "data" in (client.instructions or "")
            names = [tool.name for tool in (await client.list_tools()).tools]
            one: dict[str, Any] = {"collection": "plans", "id": "plan-001"}
            calls: dict[str, dict[str, Any]] = {
                "collections": {},
                "list": {"collection": "plans"},
                "get": {"collection": "plans", "ids": ["plan-001"]},
                "history": one,
                "changes": {},
                "add": {"collection": "plans", "fields": {"title": "記録 \x1b[31m \u202e"}},
                "set": {**one, "fields": {"title": "x"}, "only_if": ["title=Ship it"]},
            }
            assert sorted(names) == sorted(calls)
            for tool, arguments in calls.items():
                answer = await call(client, tool, **arguments)
                assert not answer.failed, answer.text
                assert answer.data == json.loads(answer.text)
            refused = await call(client, "set", **calls["set"])
            assert refused.failed
            listed = await call(client, "list", collection="plans", where=["title~記録"])
            assert ["記録 \x1b[31m \u202e"] == [one["title"] for one in listed.data["records"]]
            old = await call(client, "get", collection="plans", ids=["plan-001"], at="HEAD")
            assert ["Ship it"] == [record["title"] for record in old.data["records"]]

    asyncio.run(talk())


def test_two_clients_write_to_one_store(store: Path) -> None:
    """Of two clients that claim a record one succeeds, and all that both add is there."""

    async def work(client: Client, name: str) -> bool:
        for number in range(10):
            fields = {"id": f"{name}-{number}", "title": name}
            assert not (await call(client, "add", collection="plans", fields=fields)).failed
        claim: dict[str, Any] = {"collection": "plans", "id": "plan-001", "only_if": ["!assignee"]}
        return not (await call(client, "set", **claim, fields={"assignee": name})).failed

    async def talk() -> tuple[bool, bool]:
        async with started(store.parent) as ada, started(store.parent) as grace:
            return await asyncio.gather(work(ada, "ada"), work(grace, "grace"))

    won = asyncio.run(talk())
    assert [False, True] == sorted(won)
    with Store.open(store) as opened:
        assert ("ada" if won[0] else "grace") == opened.get_one("plans", "plan-001")["assignee"]
        ids = {record["id"] for record in opened.list("plans")}
    assert {f"{name}-{number}" for name in ("ada", "grace") for number in range(10)} <= ids


def test_calls_of_one_client_may_overlap(store: Path) -> None:
    """Calls that are made at once are all answered, each with its own answer."""

    async def talk() -> list[Answer]:
        async with started(store.parent) as client:
            adding = [
                call(client, "add", collection="plans", fields={"id": f"p{number}"})
                for number in range(10)
            ]
            return await asyncio.gather(*adding)

    assert [f"p{number}" for number in range(10)] == [one.data["id"] for one in asyncio.run(talk())]


def test_a_process_outlives_its_store(store: Path) -> None:
    """While the store is away calls are refused, and a store that comes in its place is used."""

    async def talk() -> None:
        async with started(store.parent, "--store", str(store)) as client:
            store.rename(store.with_name("away"))
            gone = await call(client, "list", collection="plans")
            assert gone.failed
            assert "create one with `taskstore init`" in gone.text
            with Store.open(store) as opened:
                opened.create({"id": "n1"}, collection="others")
            found = await call(client, "list", collection="others", columns=["id"])
            assert [{"id": "n1"}] == found.data["records"]

    asyncio.run(talk())


def test_read_only_leaves_out_what_writes(store: Path) -> None:
    """The option takes away the tools that write, and refuses a call of one."""

    async def talk() -> None:
        async with started(store.parent, "--read-only") as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
            assert {"collections", "list", "get", "history", "changes"} == names
            assert (await call(client, "add", collection="plans", fields={"id": "p1"})).failed

    asyncio.run(talk())


def test_nothing_but_messages_is_on_stdout(store: Path) -> None:
    """Notes go to stderr, a line of garbage does no harm, and the end of stdin is the end."""
    requests: list[Any] = [
        OPENING,
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {
            "jsonrpc": "2.0",
            "id": 2,
            "method": "tools/call",
            "params": {"name": "add", "arguments": {"collection": "others", "fields": {"id": "a"}}},
        },
    ]
    server = subprocess.Popen(
        [*CALL, "mcp"],
        cwd=store.parent,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    with server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stderr is not None
        lines = [json.dumps(request) for request in requests]
        server.stdin.write("\n".join(["garbage", *lines, ""]))
        server.stdin.flush()
        answers: list[Any] = []
        while 2 not in [answer.get("id") for answer in answers]:
            answers.append(json.loads(server.stdout.readline()))
        assert False is answers[-1]["result"].get("isError", False)
        server.stdin.close()
        assert "" == server.stdout.read()
        assert "others is a new collection\n" in server.stderr.read()
        assert 0 == server.wait(PATIENCE)


def test_ctrl_c_ends_the_process(store: Path) -> None:
    """An interrupt ends the process at once, though it is reading stdin."""
    server = subprocess.Popen(
        [*INTERRUPTIBLE, "mcp"],
        cwd=store.parent,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stderr is not None
        server.stdin.write(json.dumps(OPENING).encode() + b"\n")
        server.stdin.flush()
        assert b"taskstore" in server.stdout.readline()
        server.send_signal(signal.SIGINT)
        assert -signal.SIGINT == server.wait(PATIENCE)
        assert b"" == server.stderr.read()


def test_there_must_be_a_store(tmp_path: Path) -> None:
    """Without a store the command ends with exit code 3, and says how to make one."""
    run = on_pipe("mcp", "--store", str(tmp_path / "none"), cwd=tmp_path)
    assert (3, "") == (run.status, run.stdout)
    assert "create one with `taskstore init`" in run.stderr


@pytest.mark.parametrize("name", ["mcp", "mcp_types"])
def test_without_the_sdk_the_remedy_is_told(store: Path, name: str) -> None:
    """Where the SDK is missing, or is an older one, the message says what to install."""
    code = f"import sys; sys.modules[{name!r}] = None; from taskstore.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "mcp"],
        cwd=store.parent,
        env=environment(),
        capture_output=True,
        check=False,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert (2, "") == (done.returncode, done.stdout)
    assert "pip install 'taskstore[mcp]'" in done.stderr


def test_the_other_commands_do_without_the_sdk(store: Path) -> None:
    """No command but `mcp` imports the SDK, and the help of that one does not either."""
    code = """import sys
from taskstore.cli import main
main(sys.argv[1:], standalone_mode=False)
assert not {"mcp", "mcp_types", "anyio", "pydantic"} & set(sys.modules)
"""
    for words in (["list", "plans"], ["mcp", "--help"]):
        call = [sys.executable, "-P", "-c", code, *words]
        subprocess.run(call, cwd=store.parent, env=environment(), capture_output=True, check=True)
