"""`python -m auditor` and the console script."""

import os
import sys


def main() -> None:
    """Run the command; errors that a user can act on are one sentence and an exit code."""
    # Threads that wait spin for a moment only: by default they spin so long that another program on
    # the same cores slows both many times over. OpenMP reads this once, when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    # Large temporaries in huge pages: each page of a fresh block costs a fault. Read once, too.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    from auditor.cli import command

    sys.exit(command.run())


if __name__ == "__main__":
    if not sys.flags.safe_path:  # `python -m` has put the working directory first
        from auditor.system.import_path import forget_folder

        forget_folder(sys.path[0])
    main()
