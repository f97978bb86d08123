"""`[engine]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from plumised.config import values
from plumised.config.sections.section import AbsolutePath, Seconds, Section, Url, scaled

BYTES_PER_GB: Final = 10**9


class EngineSettings(Section, frozen=True):
    """The engine: the Petals server that the daemon keeps running."""

    exclusive = (("blocks", "num_blocks"),)

    python: AbsolutePath = Field(
        Path("/usr/lib/plumise-engine/bin/python"), description="Python of the environment that holds Petals and torch."
    )
    model: Annotated[str, AfterValidator(values.model)] = Field(
        "bigscience/bloom-560m",
        description="Model to serve: a name on the hub, or the absolute path of a directory that holds the checkpoint.",
    )
    revision: Annotated[str, AfterValidator(values.revision)] | None = Field(
        None, description="Branch, tag or commit of the model's repository on the hub.", examples=["main"]
    )
    offline: bool = Field(False, description="Make no call to the hub at all; the model must be there already.")
    hub_url: Url | None = Field(
        None,
        description="Where to fetch models. By default the hub that the engine's libraries know.",
        examples=["https://hub.example.org"],
    )
    blocks: Annotated[values.Span, BeforeValidator(values.span)] | None = Field(
        None,
        description="Blocks to serve, as first:end, where end is the block after the last. Excludes num_blocks. "
        "Without either the engine serves as many blocks as fit.",
        examples=["0:12"],
    )
    num_blocks: int | None = Field(
        None,
        ge=1,
        le=values.MAX_BLOCK,
        description="How many blocks to serve; the swarm's need decides which. Excludes blocks.",
        examples=[12],
    )
    device: Annotated[str, AfterValidator(values.device)] = Field(
        "auto", description="Where to compute: auto (a GPU if there is one), cpu, cuda, cuda:N or mps."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Precision of the weights: auto (what suits model and device), float32, bfloat16 or float16.",
    )
    quantization: Literal["none", "int8", "nf4"] = Field(
        "none",
        description="Quantization of the weights: none, int8 or nf4 (4 bits); on a CPU with fast_path only. Changes"
        " what is answered, see docs/performance.md.",
    )
    handlers: int = Field(
        4, ge=1, le=32, description="Processes that handle connections. Each costs memory, see docs/operations.md."
    )
    threads: int | None = Field(
        None, ge=1, le=1024, description="Threads that compute on a CPU. By default one per core.", examples=[2]
    )
    fast_path: bool = Field(
        True,
        description="On a CPU, compute Llama, BLOOM and Falcon without Petals' own blocks: faster, and equal but for "
        "rounding; see docs/performance.md.",
    )
    attention_cache_tokens: int = Field(
        4096,
        ge=64,
        le=10**8,
        description="Tokens whose attention keys and values are kept, over all sessions together.",
    )
    max_batch_tokens: int = Field(2048, ge=1, le=10**7, description="Tokens that are computed in one batch at most.")
    cache_limit_gb: float = Field(
        50.0,
        gt=0,
        le=10**6,
        allow_inf_nan=False,
        description="Size of the model files in cache_dir beyond which the oldest are removed, in units of 10^9 bytes.",
    )
    throughput_rps: Annotated[float | None, BeforeValidator(values.throughput)] = Field(
        None, description='Throughput to announce, in requests per second; "auto" has the engine measure it.'
    )
    start_timeout_s: Seconds = Field(
        600.0, description="How long the engine may go without any progress before it serves, in seconds."
    )
    busy_limit_s: Seconds = Field(
        600.0,
        description="How long the engine may use the processor without finishing a single block before it counts as "
        "stuck, in seconds.",
    )
    stop_timeout_s: Seconds = Field(
        30.0, description="How long the engine may take to stop in order before it is killed, in seconds."
    )
    sandbox: Literal["auto", "required", "off"] = Field(
        "auto",
        description="Confine the engine: auto (with what the kernel has), required (not without all that confines "
        "files and system calls) or off; see docs/sandbox.md.",
    )
    allow_pickle: bool = Field(
        False, description="Load checkpoints in pickle format, which can run any code that their author put in."
    )

    @property
    def cache_limit_bytes(self) -> int:
        """`cache_limit_gb` in bytes."""
        return scaled(self.cache_limit_gb, BYTES_PER_GB)
