"""A Petals server as upstream has it, for comparison: the arguments are those of petals.cli.run_server.

To be run in the engine's environment. Changed are only what keeps it from starting there (`plumised.petals.compat`) and
its question for a newer release to a public website.
"""

from __future__ import annotations

import warnings

from plumised.petals.compat import apply


def main() -> None:
    warnings.simplefilter("ignore")
    apply()
    # Import what needs the compatibility layer.
    from petals.cli import run_server  # noqa: PLC0415 -- see above

    run_server.validate_version = lambda: None
    run_server.main()


if __name__ == "__main__":
    main()
