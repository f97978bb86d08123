"""Draws what `tests.bench.engine` measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SYSTEMS: Final = {
    "bare": "bare Petals",
    "one_process": "transformers, one process",
    "f32_stock_client": "ours, Petals' client",
    "f32_own_client": "ours, own client",
    "bf16_own_client": "ours, own client, bfloat16",
}
_KINDS: Final = {"one": "1 session", "long": "1, after 512 tokens", "sessions4": "4 at once", "sessions8": "8 at once"}


def draw(figures: Mapping[str, float], path: Path) -> None:
    """Write an SVG of the rates, as far as there are any."""
    import matplotlib as mpl  # noqa: PLC0415 -- takes a second that runs without a plot need not
    from matplotlib.figure import Figure  # noqa: PLC0415 -- see above

    kinds = [kind for kind in _KINDS if f"bare_{kind}_tokens_s" in figures]
    # The same figures give the same file.
    with mpl.rc_context({"svg.hashsalt": "plumised", "font.size": 9}):
        figure = Figure(figsize=(8, 3.6), layout="constrained")
        axes = figure.subplots()
        width = 0.8 / len(_SYSTEMS)
        for place, (system, label) in enumerate(_SYSTEMS.items()):
            rates = [figures.get(f"{system}_{kind}_tokens_s", 0.0) for kind in kinds]
            bars = axes.bar([x + (place - 2) * width for x in range(len(kinds))], rates, width, label=label)
            axes.bar_label(bars, [f"{rate:.0f}" if rate else "" for rate in rates], fontsize=7)
        axes.set_xticks(range(len(kinds)), [_KINDS[kind] for kind in kinds])
        axes.set_ylabel("tokens/s, all sessions together")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
        figure.savefig(path, metadata={"Date": None})
