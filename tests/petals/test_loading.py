"""Checkpoints as they are found in practice: each is loaded, or refused with what is wrong with it."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
import torch
from petals.server import from_pretrained
from safetensors.torch import load_file

from plumised.ipc.job import EngineJob
from plumised.petals.failures import EngineError
from plumised.petals.loading import block_loader, load_config, repo_file_loader
from tests.devnet.model import drop_block, drop_weights, garble_weights, rename_model_type

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from transformers import PretrainedConfig

pytestmark = pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[Path], Path]:
    """Makes copies of checkpoints, to be damaged."""
    return lambda model: shutil.copytree(model, tmp_path / "model")


@pytest.fixture(autouse=True)
def _loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file loader in its place, as in an engine."""
    monkeypatch.setattr(from_pretrained, "_load_state_dict_from_repo_file", repo_file_loader(allow_pickle=False))


def config_of(model: Path | str) -> PretrainedConfig:
    return load_config(EngineJob("life-1", "/s", "/t", "/r", "/c", str(model), "/i", offline=True))


def load_block(model: Path, block: int, loaded: list[int] | None = None) -> torch.nn.Module:
    def count() -> None:
        if loaded is not None:
            loaded.append(block)

    load = block_loader(count)
    return load(str(model), block, config=config_of(model), torch_dtype=torch.float32, cache_dir=str(model / "cache"))


def config_refused(model: Path | str, code: str) -> str:
    with pytest.raises(EngineError) as raised:
        config_of(model)
    assert (raised.value.failure.code, raised.value.failure.permanent) == (code, True)
    assert str(model) in raised.value.failure.message
    return raised.value.failure.message


def block_refused(model: Path, block: int, code: str) -> str:
    loaded: list[int] = []
    with pytest.raises(EngineError) as raised:
        load_block(model, block, loaded)
    assert (raised.value.failure.code, raised.value.failure.permanent) == (code, True)
    assert loaded == []
    return raised.value.failure.message


@pytest.mark.parametrize("family", ["bloom", "llama"])
def test_a_whole_checkpoint_is_loaded_block_by_block(family: str, request: pytest.FixtureRequest) -> None:
    model: Path = request.getfixturevalue(family)
    loaded: list[int] = []
    blocks = [load_block(model, block, loaded) for block in range(int(config_of(model).num_hidden_layers))]
    assert loaded == [0, 1, 2]
    assert all(not parameter.is_meta for block in blocks for parameter in block.parameters())


def test_a_directory_that_does_not_exist_is_named(tmp_path: Path) -> None:
    assert "there is no such directory" in config_refused(tmp_path / "missing", "model-not-found")


def test_a_file_in_the_directory_s_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "there is no such directory" in config_refused(tmp_path / "file", "model-not-found")


def test_a_directory_without_a_configuration_is_named(bloom: Path, copy: Callable[[Path], Path]) -> None:
    model = copy(bloom)
    (model / "config.json").unlink()
    assert "no config.json" in config_refused(model, "model-not-found")


def test_a_directory_without_weights_is_named(bloom: Path, copy: Callable[[Path], Path]) -> None:
    model = copy(bloom)
    (model / "model.safetensors").unlink()
    assert "model.safetensors" in config_refused(model, "model-not-found")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b"[]", b"null", b""], ids=repr)
def test_a_configuration_that_is_no_json_object_is_damage(
    bloom: Path, copy: Callable[[Path], Path], content: bytes
) -> None:
    model = copy(bloom)
    (model / "config.json").write_bytes(content)
    assert "config.json" in config_refused(model, "model-damaged")


@pytest.mark.parametrize("model_type", ["abacus", "gpt2"])
def test_a_family_that_petals_does_not_serve_is_named(
    bloom: Path, copy: Callable[[Path], Path], model_type: str
) -> None:
    model = copy(bloom)
    rename_model_type(model, model_type)
    assert model_type in config_refused(model, "model-unsupported")


def test_a_configuration_without_a_family_is_not_supported(bloom: Path, copy: Callable[[Path], Path]) -> None:
    model = copy(bloom)
    (model / "config.json").write_text("{}")
    config_refused(model, "model-unsupported")


def test_a_name_that_is_not_in_the_cache_is_not_found_offline() -> None:
    assert "[engine] offline" in config_refused("tiny/nowhere", "model-not-found")


def test_a_tensor_that_is_missing_is_named(bloom: Path, copy: Callable[[Path], Path]) -> None:
    model = copy(bloom)
    drop_weights(model, 1, "mlp.dense_h_to_4h")
    load_block(model, 0)
    message = block_refused(model, 1, "model-incomplete")
    assert "block 1" in message
    assert "mlp.dense_h_to_4h.weight" in message


def test_a_block_that_is_missing_is_named(bloom: Path, copy: Callable[[Path], Path]) -> None:
    model = copy(bloom)
    drop_block(model, 2)
    assert "block 2" in block_refused(model, 2, "model-incomplete")


def test_an_index_that_lacks_a_block_is_named(llama: Path, copy: Callable[[Path], Path]) -> None:
    model = copy(llama)
    path = model / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"] = {
        name: file for name, file in index["weight_map"].items() if not name.startswith("model.layers.1.")
    }
    path.write_text(json.dumps(index))
    assert "block 1" in block_refused(model, 1, "model-incomplete")


def test_a_file_that_the_index_names_and_that_is_missing_is_named(llama: Path, copy: Callable[[Path], Path]) -> None:
    model = copy(llama)
    (model / "model-00002-of-00004.safetensors").unlink()
    assert "model-00002-of-00004.safetensors is missing" in block_refused(model, 0, "model-not-found")


@pytest.mark.parametrize("content", ["{", "{}", '{"weight_map": 3}', "[]"])
def test_an_index_that_is_no_index_is_damage(llama: Path, copy: Callable[[Path], Path], content: str) -> None:
    model = copy(llama)
    (model / "model.safetensors.index.json").write_text(content)
    block_refused(model, 0, "model-damaged")


def test_garbage_in_the_weights_is_damage(bloom: Path, copy: Callable[[Path], Path]) -> None:
    model = copy(bloom)
    garble_weights(model)
    assert "block 0" in block_refused(model, 0, "model-damaged")


def test_weights_that_were_cut_off_are_damage(bloom: Path, copy: Callable[[Path], Path]) -> None:
    model = copy(bloom)
    weights = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    block_refused(model, 0, "model-damaged")


def test_weights_of_another_shape_are_damage(bloom: Path, copy: Callable[[Path], Path]) -> None:
    model = copy(bloom)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"hidden_size": 128}))
    block_refused(model, 0, "model-damaged")


@pytest.fixture
def pickled(bloom: Path, copy: Callable[[Path], Path]) -> Path:
    model = copy(bloom)
    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    return model


def test_a_pickle_is_refused(pickled: Path) -> None:
    with pytest.raises(EngineError) as raised:
        load_block(pickled, 0)
    failure = raised.value.failure
    assert (failure.code, failure.permanent) == ("pickle-refused", True)
    assert "[engine] allow_pickle = true" in failure.remedy


def test_a_pickle_that_is_trusted_is_loaded(pickled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(from_pretrained, "_load_state_dict_from_repo_file", repo_file_loader(allow_pickle=True))
    assert list(load_block(pickled, 2).parameters())


def test_garbage_in_a_trusted_pickle_is_damage(pickled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(from_pretrained, "_load_state_dict_from_repo_file", repo_file_loader(allow_pickle=True))
    (pickled / "pytorch_model.bin").write_bytes(b"<html>429 Too Many Requests</html>\n" * 64)
    block_refused(pickled, 0, "model-damaged")
