"""The tools of `taskstore mcp`, and the server that offers them."""
