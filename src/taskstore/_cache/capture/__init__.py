"""The notes that a database takes of changed rows."""
