"""`python -m plumised.cli` is `plumised`."""

import sys

from plumised.cli import main

sys.exit(main())
