"""`taskstore diff`: changes by record and field, between commits and as git's textconv."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from taskstore._diff.changes import compare_logs, compare_records
from taskstore._diff.report import to_html, to_markdown
from taskstore._diff.text import describe, render_log
from taskstore._text import visible
from tests.git.clones import Clone, new_clone
from tests.merge.repositories import line


def told(old: str, new: str) -> list[str]:
    """The lines that tell what differs between two lines of one record."""
    change = compare_records("a", old.encode(), new.encode())
    assert change is not None
    return [f"{sign} {text}" for field in change.fields for sign, text in describe(field)]


def test_changes_are_told_by_record_and_field(clone: Clone) -> None:
    """What is not committed is told as created, changed and deleted records with their fields."""
    clone.put("a", status="done", labels=["y"])
    clone.put("c", title="C")
    clone.delete("b")
    assert (
        "plans/a: changed\n"
        '    status: "open" -> "done"\n'
        '  - labels[]: "x"\n'
        '  + labels[]: "y"\n'
        "plans/b: deleted\n"
        "plans/c: created\n"
        '  + title: "C"\n'
    ) == clone.taskstore("diff")
    found = clone.json("diff")
    assert [("a", "changed"), ("b", "deleted"), ("c", "created")] == [
        (item["id"], item["kind"]) for item in found
    ]
    assert {"field": "status", "old": "open", "new": "done"} == found[0]["fields"][0]
    assert "" == clone.git("diff", "--name-only", "--cached").stdout


def test_commits_are_compared(clone: Clone) -> None:
    """One REV is compared with the work tree, two with each other, and A...B from their base."""
    clone.git("switch", "-qc", "other")
    clone.change("a", title="Other")
    clone.git("switch", "-q", "main")
    clone.change("b", title="Main")

    def ids(*revisions: str) -> list[str]:
        return [item["id"] for item in clone.json("diff", *revisions)]

    assert [] == ids()
    assert ["b"] == ids("HEAD~1")
    assert ["a", "b"] == ids("main", "other")
    assert ["a", "b"] == ids("main..other")
    assert ["a"] == ids("main...other")
    assert ["b"] == ids("other...")


def test_exit_codes(clone: Clone) -> None:
    """It exits with 0, with --exit-code with 1 if something differs, and names a missing commit."""
    clone.taskstore("diff", "--exit-code")
    clone.put("a", title="New")
    clone.taskstore("diff")
    clone.taskstore("diff", "--exit-code", status=1)
    done = clone.run("diff", "nonsense")
    assert 3 == done.returncode
    assert "no commit is called 'nonsense'" in done.stderr
    clone.taskstore("diff", "a", "b", "c", status=2)


def test_a_new_repository_is_compared_with_nothing(clone: Clone) -> None:
    """Without a commit every record is new."""
    fresh = new_clone(clone.path.parent / "fresh")
    fresh.git("update-ref", "-d", "HEAD")
    assert ["created", "created"] == [item["kind"] for item in fresh.json("diff")]


def test_git_diff_shows_records_and_fields(clone: Clone) -> None:
    """`git diff` and `git log -p` show a line for each field, with the record's id in it."""
    clone.put("a", status="done", note="one\ntwo")
    added = [row for row in clone.git("diff").stdout.splitlines() if row[:1] in "+-"][2:]
    assert '-a: status: "open"' in added
    assert '+a: status: "done"' in added
    assert "+a: note| two" in added
    clone.commit()
    assert "+a: note| one" in clone.git("log", "-p", "-1").stdout
    # What git makes for machines stays as it is.
    assert '{"id":"a"' in clone.git("format-patch", "--stdout", "-1").stdout


def test_a_file_that_is_no_log_is_shown_all_the_same(clone: Clone) -> None:
    """The textconv prints lines that are no records as they are, also undecodable ones."""
    clone.write(b"\xff{\n" + line("z", 1).encode(), "odd")
    assert "z\nz: updated_at: 1\n(unusable) \\xff{\n" == clone.taskstore("diff", "--textconv=odd")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('{"id":"a","m":{"x":1,"y":2}}', '{"id":"a","m":{"x":1,"y":3}}', ["  m.y: 2 -> 3"]),
        ('{"id":"a","n":1}', '{"id":"a","n":true}', ["  n: 1 -> true"]),
        ('{"id":"a","n":1}', '{"id":"a"}', ["- n: 1"]),
        ('{"id":"a"}', '{"id":"a","n":null}', ["+ n: null"]),
        ('{"id":"a","l":[1,2]}', '{"id":"a","l":[2,1]}', ["  l: [1, 2] -> [2, 1]"]),
        ('{"id":"a","l":[1,1]}', '{"id":"a","l":[1]}', ["  l: [1, 1] -> [1]"]),
        (
            '{"id":"a","l":[{"id":7,"t":"x"}]}',
            '{"id":"a","l":[{"id":7,"t":"y"},{"id":8}]}',
            ['  l[7].t: "x" -> "y"', '+ l[]: {"id": 8}'],
        ),
        (
            '{"id":"a","t":"one\\ntwo"}',
            '{"id":"a","t":"one\\n2"}',
            ["  t:", "-     two", "+     2"],
        ),
    ],
)
def test_values_are_compared_by_their_parts(old: str, new: str, expected: list[str]) -> None:
    """Objects are told by key, lists by element, texts by line, and true is not 1."""
    assert expected == told(old, new)


def test_what_means_the_same_is_no_change() -> None:
    """Another order of keys, white space or spelling, and superseded lines, are no difference."""
    old = '{"id":"a","x":{"p":1,"q":[1.0]},"updated_at":5}\n'
    new = '{"updated_at":4,"id":"a"}\n{"id":"\\u0061","updated_at":5,"x":{"q":[1.0], "p":1}}\n'
    assert [] == list(compare_logs(old.encode(), new.encode()))
    touched = '{"id":"a","x":{"p":1,"q":[1.0]},"updated_at":6}\n'
    (change,) = compare_logs(old.encode(), touched.encode())
    assert ("changed", 6, ()) == (change.kind, change.updated_at, change.fields)


def test_a_record_that_was_deleted_and_made_again_is_created() -> None:
    """What a tombstone hid is not compared with what came after it."""
    dead = b'{"id":"a","deleted":true,"updated_at":2}'
    made = compare_records("a", dead, b'{"id":"a","t":1,"updated_at":3}')
    assert made is not None
    assert ("created", 1) == (made.kind, len(made.fields))
    assert compare_records("a", None, dead) is None


def test_every_line_of_the_text_says_where_it_belongs() -> None:
    """The text of a log has one line per value, in the order of the ids, dead records too."""
    log = (
        '{"id":"b\\n","t":[1,{"k":2}],"m":{"n":{}},"updated_at":1}\n'
        '{"id":"a","t":1}\n{"id":"a","deleted":true,"updated_at":2}\n'
    )
    assert [
        "a: deleted",
        "b\\n",
        "b\\n: t[]: 1",
        'b\\n: t[]: {"k": 2}',
        "b\\n: m.n: {}",
        "b\\n: updated_at: 1",
    ] == list(render_log(log.encode()))


def test_control_characters_do_not_reach_the_terminal(clone: Clone) -> None:
    """What is in a record cannot steer the terminal of who looks at a difference."""
    clone.put("a", title="\x1b]0;x\x07\u202e\x9b")
    assert not set("\x1b\x07\u202e\x9b") & set(clone.taskstore("diff") + clone.git("diff").stdout)
    assert json.loads(clone.taskstore("diff", "--json"))[0]["fields"][0]["new"].startswith("\x1b")


def test_counts_are_of_records_and_fields(clone: Clone) -> None:
    """`--stat` says how many records of a collection differ, and in how many values."""
    clone.put("a", status="done", title="B")
    clone.put("c", title="C")
    clone.delete("b")
    assert [
        {"collection": "plans", "created": 1, "changed": 1, "deleted": 1, "fields": 3}
    ] == clone.json("diff", "--stat")
    text = clone.taskstore("diff", "--stat")
    assert "collection\tcreated\tchanged\tdeleted\tfields\nplans\t1\t1\t1\t3\n" == text
    assert "" == clone.taskstore("diff", "HEAD", "HEAD", "--stat").partition("\n")[2]


HOSTILE = (
    "<script>alert(1)</script>",
    "| a | b |",
    "`x`</code>",
    "[x](javascript:y)",
    "@everybody #1 http://x.example",
    "![x](y)",
    "&#60;",
    "\x1b[41m\u202e\n# x",
    "'\" onload=x",
)


@pytest.mark.parametrize("value", HOSTILE)
def test_values_stay_text_in_reports(value: str) -> None:
    """Markup, scripts, links, mentions and escape codes are shown as they are, as is no markup."""
    old, new = line("a", 1, x=value), line(f"b{value}", 2, **{value: [value]})
    changes = [("plans", change) for change in compare_logs(old.encode(), new.encode())]
    page = "\n".join(to_html(changes))
    found = _Page()
    found.feed(page)
    assert {"html", "head", "meta", "title", "style", "body", "table", "tr", "th", "td", "h3"} | {
        "code"
    } == found.tags
    assert visible(json.dumps([value], ensure_ascii=False)) in found.texts
    for text in to_markdown(changes):
        assert visible(text) == text
        for cell in re.findall(r"<code>(.*?)</code>", text):
            # Nothing in a value that Markdown, or a forge, would read as more than text.
            assert not re.search(r"[^\w\s&#;]", re.sub("[^ -~]", "", cell))
        assert not re.search(r"<(?!/?code>)", text)


def test_reports_name_what_differs() -> None:
    """The table of counts, and each value, before and after; long ones are cut."""
    old, new = line("a", 1, x=1, y="z" * 1000), line("a", 2, x=2)
    changes = [("plans", change) for change in compare_logs(old.encode(), new.encode())]
    text = "\n".join(to_markdown(changes))
    assert "| <code>plans</code> | 0 | 1 | 0 |" in text
    assert "| <code>x</code> | <code>1</code> | <code>2</code> |" in text
    assert len(text) < 700
    assert "No record differs." == "\n".join(to_markdown([]))
    assert "zzz" not in "\n".join(to_html(changes, only_counts=True))


class _Page(HTMLParser):
    """The tags and texts of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.texts.add(data)
