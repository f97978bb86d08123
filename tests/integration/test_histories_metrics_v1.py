"""metrics-v1: whatever is killed, lost, delayed, doubled or set, in whatever order, booked is what was served."""

import pytest

from plumised.oracle import Dialect
from tests.integration.histories.blocks import BLOCKS, PER_BLOCK
from tests.integration.histories.machine import run_histories


@pytest.mark.timeout(0)
@pytest.mark.parametrize("block", BLOCKS)
def test_in_every_history_what_is_booked_is_what_was_served(block: int) -> None:
    run_histories(Dialect.METRICS_V1, block, PER_BLOCK)
