"""The hall in which log and cache meet: the unit of work, the session hook, sync and the store."""
