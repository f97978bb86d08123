"""Lets petals 2.2.0.post1 import with hivemind 1.1.12.

That petals imports names from `hivemind` and `hivemind.utils` which later hiveminds define in submodules only.
`apply` re-exports them; it has to run before `import petals`.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import Final

REQUIRED: Final = {
    "petals": "2.2.0.post1",
    "hivemind": "1.1.12",
    "transformers": "4.34.1",
    "torch": "2.13",
    "pycryptodome": "3.",
}
"""Distributions whose internals this package relies on, with the versions it was made for (prefixes)."""

_REEXPORTS: Final = {
    "hivemind.p2p": ("P2P", "PeerID", "P2PContext", "ServicerBase", "StubBase"),
    "hivemind.utils.tensor_descr": ("BatchTensorDescriptor", "TensorDescriptor"),
    "hivemind.utils.asyncio": ("anext",),
    "hivemind.utils.nested": ("nested_compare", "nested_flatten", "nested_map", "nested_pack"),
    "hivemind.utils.logging": ("get_logger", "use_hivemind_log_handler"),
    "hivemind.utils.timed_storage": (
        "DHTExpiration",
        "MAX_DHT_TIME_DISCREPANCY_SECONDS",
        "TimedStorage",
        "ValueWithExpiration",
        "get_dht_time",
    ),
    "hivemind.utils.serializer": ("MSGPackSerializer",),
    "hivemind.compression": ("deserialize_tensor_stream", "deserialize_torch_tensor", "serialize_torch_tensor"),
    "hivemind.dht": ("DHT", "DHTNode"),
}
_SUBMODULES: Final = ("limits", "networking", "streaming")


def wrong_versions() -> dict[str, str | None]:
    """The required distributions whose installed version is another one, or None where it is missing."""
    wrong: dict[str, str | None] = {}
    for name, wanted in REQUIRED.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            wrong[name] = None
            continue
        if not found.startswith(wanted):
            wrong[name] = found
    return wrong


def apply() -> None:
    """Add the names that petals imports. Names that exist are left alone, so calling it again changes nothing."""
    targets = [importlib.import_module("hivemind"), importlib.import_module("hivemind.utils")]
    for submodule in _SUBMODULES:
        importlib.import_module(f"hivemind.utils.{submodule}")
    for source, names in _REEXPORTS.items():
        module = importlib.import_module(source)
        for name in names:
            for target in targets:
                if not hasattr(target, name):
                    setattr(target, name, getattr(module, name))
