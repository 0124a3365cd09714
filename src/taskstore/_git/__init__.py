"""What we ask of git, and what we install in it."""
