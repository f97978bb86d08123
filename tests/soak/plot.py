"""The samples of a soak as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from matplotlib.figure import Figure as Picture

from tests.soak.figures import FIGURES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.soak.outcome import Outcome
    from tests.soak.sampling import Sampler

_COLUMNS: Final = 3
_INCHES: Final = (6.0, 2.6)
"""Of one figure."""


def draw(outcome: Outcome, sampler: Sampler, file: Path) -> None:
    """Draw each figure of each node over time, with the faults in red and the calm in green; PNG."""
    rows = -(-len(FIGURES) // _COLUMNS)
    picture = Picture(figsize=(_COLUMNS * _INCHES[0], rows * _INCHES[1]), layout="constrained")
    for number, figure in enumerate(FIGURES, start=1):
        axes = picture.add_subplot(rows, _COLUMNS, number)
        for fault in outcome.faults:
            axes.axvspan(fault.began_s / 60, max(fault.ended_s, fault.began_s + 1) / 60, color="red", alpha=0.15)
        axes.axvspan(outcome.calm_s / 60, outcome.seconds / 60, color="green", alpha=0.1)
        for node in sampler.samples:
            points = sampler.points(node, figure)
            axes.plot(
                [point.at_s / 60 for point in points],
                [point.value for point in points],
                linewidth=0.8,
                marker=".",
                markersize=2,
                label=node,
            )
        axes.set_title(figure.name + (f" ({figure.unit})" if figure.unit else ""), fontsize=9)
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=7, loc="lower left")
        axes.set_xlabel("min", fontsize=7)
    picture.savefig(file, dpi=110)
