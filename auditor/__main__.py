"""`python -m auditor` and the console script."""

import os
import sys


def main() -> None:
    """Run the command; errors that a user can act on are one sentence and an exit code."""
    # Threads that spin while they wait cost several times the work when another program wants the
    # same cores; OpenMP reads this once, when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from auditor.cli import command

    sys.exit(command.run())


if __name__ == "__main__":
    main()
