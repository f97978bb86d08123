"""Renews upstream.json, the fingerprints of the upstream code that the patches rely on.

    python -m tests.petals.fingerprints

To be run with the engine's environment, after reading what has changed upstream and what that means for the patches.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from plumised.petals.compat import apply

STORE: Final = Path(__file__).with_name("upstream.json")


def read() -> dict[str, str]:
    """The fingerprints as they are stored."""
    stored: dict[str, str] = json.loads(STORE.read_text())
    return stored


def measure() -> dict[str, str]:
    """The fingerprints of what is installed."""
    # Imported when asked for: petals can be imported after compat.apply() only.
    from plumised.petals import closing  # noqa: PLC0415 -- see above
    from plumised.petals.deferring import DEFERRED  # noqa: PLC0415 -- see above
    from plumised.petals.patches import PATCHES, fingerprint  # noqa: PLC0415 -- see above

    names = {name for change in (*PATCHES, *DEFERRED) for name in change.relies_on} | {*closing.RELIES_ON}
    return {name: fingerprint(name) for name in sorted(names)}


if __name__ == "__main__":
    apply()
    measured = measure()
    STORE.write_text(json.dumps(measured, indent=2) + "\n")
    sys.stdout.write(f"{len(measured)} fingerprints in {STORE}\n")
