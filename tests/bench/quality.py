"""What narrower weights do to a model's answers: build/env/engine/bin/python -m tests.bench.quality MODEL

MODEL is the directory of a Llama with its tokenizer.json; `make demo` leaves one in the cache. Prints, for the blocks'
weights in each form, how well the model foretells this project's documentation (perplexity), and how often its first
choice is that of float32.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from plumised.petals.fast.blocks import Linear
from plumised.petals.fast.quantizing import Kind, quantized, widen

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT: Final = Path(__file__).parents[2]
WINDOW: Final = 512
WINDOWS: Final = 16


def main(model: Path) -> None:
    """Measure and print."""
    text = "\n".join(page.read_text() for page in sorted((ROOT / "docs").glob("*.md")))
    ids = torch.tensor(Tokenizer.from_file(str(model / "tokenizer.json")).encode(text).ids[: WINDOW * WINDOWS])
    whole = AutoModelForCausalLM.from_pretrained(model, torch_dtype=torch.float32)
    reference, perplexity = answers(whole, ids)
    print(f"float32: perplexity {perplexity:.2f}")
    for name, form in FORMS.items():
        chosen, perplexity = answers(with_weights(whole, form), ids)
        print(
            f"{name}: perplexity {perplexity:.2f}, first choice as float32's {(chosen == reference).float().mean():.1%}"
        )


def answers(whole: Any, ids: torch.Tensor) -> tuple[torch.Tensor, float]:
    """The first choice at each place, and the perplexity."""
    chosen, loss = [], 0.0
    for window in ids.view(-1, WINDOW):
        with torch.inference_mode():
            logits = whole(window[None]).logits[0, :-1]
        chosen.append(logits.argmax(dim=-1))
        loss += float(torch.nn.functional.cross_entropy(logits, window[1:]))
    return torch.cat(chosen), float(torch.tensor(loss * WINDOW / len(ids)).exp())


def with_weights(whole: Any, form: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The model with other weights in its blocks."""
    changed = copy.deepcopy(whole)
    for module in changed.model.layers.modules():
        if isinstance(module, torch.nn.Linear):
            module.weight.data = form(module.weight.data)
    return changed


def by_groups(kind: Kind) -> Callable[[torch.Tensor], torch.Tensor]:
    """What the kernel computes with."""

    def form(weight: torch.Tensor) -> torch.Tensor:
        kept = quantized(Linear(weight, None), kind)
        return widen(kept.weight, kept.scales)

    return form


FORMS: Final[dict[str, Callable[[torch.Tensor], torch.Tensor]]] = {
    "bfloat16": lambda weight: weight.bfloat16().float(),
    "int8": by_groups(Kind.INT8),
    "nf4": by_groups(Kind.NF4),
}

if __name__ == "__main__":
    main(Path(sys.argv[1]))
