"""The fault matrix: what happens around a node, to its network, its Oracle and its chain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.faults import WORLD_ROWS
from tests.e2e.matrix import cluster, hardware, reference, stop_leaves_nothing, withstand

if TYPE_CHECKING:
    from tests.e2e.clients import Client
    from tests.e2e.cluster import Cluster
    from tests.e2e.faults import Row

__all__ = ["cluster", "hardware", "reference"]

pytestmark = pytest.mark.timeout(1200)


@pytest.mark.parametrize("row", WORLD_ROWS, ids=lambda row: row.fault.replace(" ", "-"))
def test_fault(cluster: Cluster, client: Client, reference: tuple[int, ...], row: Row) -> None:
    withstand(cluster, client, reference, row)


def test_after_all_of_it_a_stop_leaves_neither_process_nor_port(cluster: Cluster) -> None:
    stop_leaves_nothing(cluster, "faults-of-the-world")
