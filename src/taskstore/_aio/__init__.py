"""The store for asyncio: its calls run in threads, and the event loop goes on."""
