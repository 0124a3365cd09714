"""The history of records as tables, in a database of their own beside the mark of the clone."""
