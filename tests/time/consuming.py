"""A consumer that notes each change that it sees, until it is killed; run by test_changes."""

from __future__ import annotations

import sys

from taskstore import Store


def main() -> None:
    """Consume."""
    with Store.open(sys.argv[1]) as store:
        consumer = store.consumer("noter", collections=["plans"])
        for event in consumer.follow(interval=0.01):
            with store.transaction():
                if event.kind == "change":
                    # It raises if the change was seen and acknowledged before.
                    store.create({"id": f"{event.id}-{event.updated_at}"}, collection="seen")
                consumer.acknowledge(event)
            print(event.id, flush=True)


if __name__ == "__main__":
    main()
