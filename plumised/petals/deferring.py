"""Modules that petals imports and an engine seldom needs, left out until something is asked of them.

`defer` puts a stand-in for each into `sys.modules`, before petals is imported. A stand-in has the functions that are
called at any rate; asked for anything else it imports what it stands for.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Deferred:
    """One module.

    Attributes:
        name: of the module.
        reason: what its import takes.
        relies_on: dotted names of upstream code whose use of it is known.
        functions: names that are imported from it, as functions that import it when they are called.
        answers: functions that need not import it.
    """

    name: str
    reason: str
    relies_on: tuple[str, ...]
    functions: tuple[str, ...] = ()
    answers: Mapping[str, Callable[..., Any]] = field(default_factory=dict)


def _no_adapter(_active_adapter: str | None) -> contextlib.AbstractContextManager[None]:
    """Petals' `using_adapter`, for a server without adapters: handlers refuse what asks for one."""
    return contextlib.nullcontext()


DEFERRED: Final = (
    Deferred(
        "petals.utils.peft",
        "imports bitsandbytes and peft, and with these torch's compiler: more than all other imports together",
        (
            "petals.server.backend.TransformerBackend",
            "petals.server.handler.TransformerConnectionHandler._get_active_adapter",
            "petals.utils.convert_block.convert_block",
        ),
        answers={"using_adapter": _no_adapter},
    ),
    Deferred(
        "accelerate.utils.fsdp_utils",
        "imports torch's checkpoints of distributed training, a quarter of the time of all other imports",
        ("accelerate.utils.fsdp_utils",),
        functions=("load_fsdp_model", "load_fsdp_optimizer", "save_fsdp_model", "save_fsdp_optimizer"),
    ),
    Deferred(
        "torch._meta_registrations",
        "tells torch's compiler of what shapes results are, with 18 MB of further modules; loading a model, which makes"
        " tensors without data as well, does not ask it",
        ("petals.server.from_pretrained.load_pretrained_block", "accelerate.big_modeling.init_on_device"),
    ),
    Deferred(
        "scipy.optimize",
        "is for hivemind's averaging of gradients, which no server does",
        ("hivemind.averaging.load_balancing",),
    ),
)
"""What an engine does without. Adapters are none of the job's settings."""


class StandIn(ModuleType):
    """What is imported instead of a module until that is needed."""

    def __init__(self, deferred: Deferred) -> None:
        super().__init__(deferred.name)
        # Of what imports like a package or a module alike, and is never looked for.
        self.__spec__ = None
        self.__deferred = deferred
        self.__module: ModuleType | None = None
        for name in deferred.functions:
            setattr(self, name, functools.partial(self.__call, name))
        for name, answer in deferred.answers.items():
            setattr(self, name, answer)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            # The machinery of imports asks for these.
            raise AttributeError(name)
        return getattr(self.__loaded(), name)

    def __call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.__loaded(), name)(*args, **kwargs)

    def __loaded(self) -> ModuleType:
        if self.__module is None:
            if sys.modules.get(self.__name__) is self:
                del sys.modules[self.__name__]
            self.__module = importlib.import_module(self.__name__)
            for name in self.__deferred.answers:
                setattr(self, name, getattr(self.__module, name))
        return self.__module


def defer() -> None:
    """Put the stand-ins in place, for what has not been imported yet."""
    for deferred in DEFERRED:
        sys.modules.setdefault(deferred.name, StandIn(deferred))
