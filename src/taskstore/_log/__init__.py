"""The log: its directory, its locks, how it is read, and how a transaction gets into it durably."""
