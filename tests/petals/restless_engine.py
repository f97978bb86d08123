"""An engine that finds its swarm imbalanced, once and soon after it serves; otherwise `python -m plumised.petals`.

Petals looks every two minutes on average, and exchanges blocks when other peers would gain a lot.
"""

import importlib
import itertools
import runpy

from plumised.petals.compat import apply

apply()
server = importlib.import_module("petals.server.server").Server
server.__init__.__kwdefaults__["mean_balance_check_period"] = 0.5
looks = itertools.count()
server._should_choose_other_blocks = lambda _server: next(looks) == 0

runpy.run_module("plumised.petals", run_name="__main__", alter_sys=True)
