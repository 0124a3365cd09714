"""The store for asyncio. Its calls run in threads, so the event loop keeps running."""
