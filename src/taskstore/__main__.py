"""What `python -m taskstore` runs."""

import os
import sys

if __name__ == "__main__":
    # Python has put the working directory first, which may be the clone of a stranger.
    if not sys.flags.safe_path and sys.path[0] in ("", os.getcwd()):
        del sys.path[0]

    from taskstore.cli import main

    main(prog_name="taskstore")
