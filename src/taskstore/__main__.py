"""What `python -m taskstore` runs."""

from taskstore.cli import main

if __name__ == "__main__":
    main(prog_name="taskstore")
