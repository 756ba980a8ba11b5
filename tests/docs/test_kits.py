"""The kits of workers/: their pages say the same in both languages, and their files fit the checkout."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "workers"
KITS = sorted(path.stem for path in PAGES.glob("*.md") if not path.stem.endswith(".ru"))
DOCKERFILE = (ROOT / "workers/runpod/Dockerfile").read_text(encoding="utf-8")


def blocks(page: str) -> list[str]:
    """Code that a reader copies, without its comments."""
    found = re.findall(r"^```\w*\n(.*?)^```$", page, re.M | re.S)
    return [re.sub(r"\s*#.*", "", block) for block in found]


@pytest.mark.parametrize("kit", KITS)
def test_a_page_has_a_twin_with_the_same_code(kit: str) -> None:
    english = (PAGES / f"{kit}.md").read_text(encoding="utf-8")
    russian = (PAGES / f"{kit}.ru.md").read_text(encoding="utf-8")

    assert blocks(english)
    assert blocks(english) == blocks(russian)
    assert len(re.findall(r"^#", english, re.M)) == len(re.findall(r"^#", russian, re.M))


@pytest.mark.parametrize("kit", KITS)
def test_every_path_of_a_page_exists(kit: str) -> None:
    page = (PAGES / f"{kit}.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:workers|configs|gifty_compute)/[\w./-]+\.\w+", page))

    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
    links = re.findall(r"\]\(([\w./-]+\.md)", page)
    assert [link for link in links if not (PAGES / link).resolve().exists()] == []


def test_the_runpod_image_copies_what_is_there_and_not_ignored() -> None:
    copied = [source for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.M) for source in line.split()[:-1]]
    ignore = (ROOT / "workers/runpod/Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line[1:] for line in ignore if line.startswith("!")}

    assert [source for source in copied if not list(ROOT.glob(source.rstrip("/")))] == []
    assert {source.split("/")[0] for source in copied} == allowed


def test_the_runpod_image_installs_the_runpod_that_is_tested() -> None:
    [wanted] = re.findall(r'"runpod(.*?)"', DOCKERFILE)

    assert f"    runpod {wanted}\n" in (ROOT / "setup.cfg").read_text(encoding="utf-8")


def test_the_module_that_the_image_runs_exists() -> None:
    [module] = re.findall(r'"-u", "-m", "([\w.]+)"', DOCKERFILE)

    assert (ROOT / (module.replace(".", "/") + ".py")).exists()
