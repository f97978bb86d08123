"""Finds and loads the model's files: with progress, an end to every retry, and errors that say what is wrong."""

from __future__ import annotations

import errno
import json
import logging
import time
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Final

import safetensors
from huggingface_hub import get_hf_file_metadata, hf_hub_url
from huggingface_hub.file_download import OfflineModeIsEnabled
from huggingface_hub.utils import (
    EntryNotFoundError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from petals.server import from_pretrained
from petals.server.from_pretrained import load_pretrained_block
from petals.utils.auto_config import AutoDistributedConfig
from petals.utils.disk_cache import allow_cache_reads, allow_cache_writes, free_disk_space_for
from requests import RequestException
from transformers.utils import get_file_from_repo, is_offline_mode

from plumised.petals.failures import EngineError, model_damaged, model_incomplete, model_not_found

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch
    from transformers import PretrainedConfig

    from plumised.ipc.job import EngineJob

logger = logging.getLogger(__name__)

_ATTEMPTS: Final = 4
_FIRST_DELAY_S: Final = 2.0


def load_config(job: EngineJob) -> PretrainedConfig:
    """The model's configuration, in the class that petals has for its type.

    Raises:
        EngineError: it is not there, cannot be read, or is of a type that petals does not serve.
    """
    if Path(job.model).is_absolute():
        _check_directory(Path(job.model))
    try:
        # Without a cache_dir, as petals asks for it a second time: from where the variables of `settings` say.
        return AutoDistributedConfig.from_pretrained(job.model, revision=job.revision)
    except OSError as error:
        raise _file_trouble(job.model, error) from error
    except (ValueError, KeyError) as error:
        raise EngineError(
            "model-unsupported",
            f"model {job.model}: {_one_line(error)}",
            "Choose a model of a family that Petals serves: BLOOM, Llama or Falcon.",
            permanent=True,
        ) from error


def block_loader(loaded: Callable[[], None]) -> Callable[..., torch.nn.Module]:
    """Petals' `load_pretrained_block`, with its failures named.

    Args:
        loaded: called after each block.
    """

    def load(model_name: str, block_index: int, **kwargs: Any) -> torch.nn.Module:
        try:
            block: torch.nn.Module = load_pretrained_block(model_name, block_index, **kwargs)
        except Exception as error:
            if (trouble := _block_trouble(model_name, block_index, error)) is None:
                raise
            raise trouble from error
        loaded()
        return block

    return load


def repo_file_loader(*, allow_pickle: bool) -> Callable[..., Any]:
    """What replaces petals' `_load_state_dict_from_repo_file`, which hides a damaged local file and retries for ever.

    A file of a local directory, or of the cache, is read as it is; a download is tried a few times with growing
    delays, then the failure is reported and the daemon decides when to try again.

    Args:
        allow_pickle: whether checkpoints may be pickles, which can do more than hold numbers.
    """

    def load(
        model_name: str,
        filename: str,
        *,
        block_prefix: str | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str,
        max_disk_space: int | None = None,
        delay: float = _FIRST_DELAY_S,
    ) -> Any:
        if filename.endswith(".bin") and not allow_pickle:
            raise EngineError(
                "pickle-refused",
                f"model {model_name}: {filename} is a pickle, which can run code when it is loaded",
                "Use a checkpoint in safetensors, or trust this one with [engine] allow_pickle = true.",
                permanent=True,
            )
        find = {"revision": revision, "use_auth_token": token, "cache_dir": cache_dir}
        with allow_cache_reads(cache_dir):
            path = get_file_from_repo(model_name, filename, local_files_only=True, **find)
        if path is None:
            if Path(model_name).is_absolute():
                raise model_not_found(model_name, f"{filename} is missing")
            path = _download(model_name, filename, find, max_disk_space=max_disk_space, first_delay_s=delay)
        with allow_cache_reads(cache_dir):
            return from_pretrained._load_state_dict_from_local_file(path, block_prefix=block_prefix)  # noqa: SLF001 -- the part of petals that stays

    return load


def _download(
    model: str, filename: str, find: dict[str, Any], *, max_disk_space: int | None, first_delay_s: float
) -> str:
    cache_dir = find["cache_dir"]
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with allow_cache_writes(cache_dir):
                url = hf_hub_url(model, filename, revision=find["revision"])
                size = get_hf_file_metadata(url, token=find["use_auth_token"]).size
                if size is not None:
                    free_disk_space_for(size, cache_dir=cache_dir, max_disk_space=max_disk_space)
                path: str | None = get_file_from_repo(model, filename, local_files_only=False, **find)
        except OSError as error:
            trouble = _file_trouble(model, error)
            if trouble.failure.permanent or attempt == _ATTEMPTS:
                raise trouble from error
            logger.warning("Fetching %s failed, attempt %d of %d: %s", filename, attempt, _ATTEMPTS, _one_line(error))
            time.sleep(first_delay_s * 2 ** (attempt - 1))
            continue
        if path is None:
            raise model_not_found(model, f"{filename} is missing")
        return path
    raise AssertionError("unreachable: the last attempt returns or raises")


def _check_directory(directory: Path) -> None:
    if not directory.is_dir():
        raise model_not_found(str(directory), "there is no such directory")
    if not (directory / "config.json").is_file():
        raise model_not_found(str(directory), "the directory has no config.json")
    _read_object(directory, "config.json")
    present = [name for name in from_pretrained.INDEX_FILES if (directory / name).is_file()]
    if not present:
        raise model_not_found(str(directory), f"the directory has none of {', '.join(from_pretrained.INDEX_FILES)}")
    if present[0].endswith(".json") and not isinstance(_read_object(directory, present[0]).get("weight_map"), dict):
        raise model_damaged(str(directory), f"{present[0]} does not say which tensor is in which file")


def _read_object(directory: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((directory / name).read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise model_damaged(str(directory), f"{name}: {_one_line(error)}") from error
    if not isinstance(content, dict):
        raise model_damaged(str(directory), f"{name} does not hold a JSON object")
    return content


def _block_trouble(model: str, block: int, error: Exception) -> EngineError | None:
    """What it means that a block could not be loaded; None if that cannot be told."""
    text = _one_line(error)
    trouble = None
    match error:
        case AssertionError():
            trouble = model_incomplete(model, block, text)
        case RuntimeError() if "not found in the index" in text:
            trouble = model_incomplete(model, block, "the index names none of its tensors")
        case RuntimeError() if "size mismatch" in text:
            trouble = model_damaged(model, f"block {block}: {text}")
        case OSError():
            trouble = _file_trouble(model, error)
        case KeyError():
            trouble = model_damaged(model, f"its index has no {text}")
        case ValueError() if "does not contain weights" in text:
            trouble = model_not_found(model, text)
        case safetensors.SafetensorError() | UnpicklingError() | EOFError() | ValueError():
            trouble = model_damaged(model, f"block {block}: {text}")
    return trouble


def _file_trouble(model: str, error: OSError) -> EngineError:
    """What it means that a file of the model could not be had.

    transformers tells about it in prose, in an OSError; the reason is the exception that it was handling.
    """
    chain = list(_chain(error))
    if any(isinstance(link, OfflineModeIsEnabled | LocalEntryNotFoundError) for link in chain) and is_offline_mode():
        return model_not_found(model, "not in the cache, and [engine] offline forbids to fetch it")
    if any(isinstance(link, LocalEntryNotFoundError) for link in chain):
        return _hub_unreachable(model, _unanswered(chain))
    for link in chain:
        if isinstance(link, EntryNotFoundError | RepositoryNotFoundError | RevisionNotFoundError):
            return model_not_found(model, _one_line(link))
    if any(isinstance(link, ValueError) and not isinstance(link, RequestException) for link in chain):
        return model_damaged(model, _one_line(error))
    if any(link.errno == errno.ENOSPC for link in chain if isinstance(link, OSError)):
        return EngineError(
            "disk-full", f"model {model}: {_one_line(error)}", "Free space in [node] cache_dir.", permanent=False
        )
    return _hub_unreachable(model, _one_line(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _unanswered(chain: list[BaseException]) -> str:
    """What was asked for, and why there was no answer; the hub's client itself only says that there is no file."""
    urls = [str(link.request.url) for link in chain if isinstance(link, RequestException) and link.request is not None]
    return ": ".join([*urls[:1], _one_line(chain[-1])])


def _hub_unreachable(model: str, detail: str) -> EngineError:
    return EngineError(
        "hub-unreachable",
        f"model {model}: {detail}",
        "Check the network and [engine] hub_url; the node goes on trying. Without a hub, use a directory as the model.",
        permanent=False,
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:400]
