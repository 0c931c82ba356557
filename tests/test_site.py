"""The documentation site: a page for every public name, paths that exist, rooms as they are."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def public_names():
    """Every public name as a dotted path."""
    for module in ("vrstc_jax", "vrstc_jax.evaluation", "vrstc_jax.data.datasets"):
        yield from (f"{module}.{name}" for name in importlib.import_module(module).__all__)
    yield from ("vrstc_jax.attention.nnx.TemporalAttention", "vrstc_jax.config.Config", "vrstc_jax.config.get")


def named(dotted):
    """What a dotted path names."""
    module, _, name = dotted.rpartition(".")
    return getattr(importlib.import_module(module), name)


def pages():
    """{heading of a page: the path that mkdocstrings documents}."""
    found = {}
    for page in (DOCS / "api").glob("*.md"):
        heading = re.search(r"^# `(.+)`$", page.read_text(encoding="utf-8"), re.MULTILINE)
        if heading:
            found[heading[1]] = (page, re.findall(r"^::: (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE))
    return found


def test_every_public_name_has_a_page_and_no_page_is_left_over():
    assert set(pages()) == set(public_names())


@pytest.mark.parametrize("name", sorted(public_names()))
def test_a_page_documents_its_name_and_is_in_the_index(name):
    page, documented = pages()[name]
    assert len(documented) == 1 and named(documented[0]) is named(name)
    assert inspect.getdoc(named(name))
    assert f"({page.name})" in (DOCS / "api" / "index.md").read_text(encoding="utf-8")


def test_the_menu_has_every_page_and_no_other():
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    listed = re.findall(r"[-:] ([\w/-]+\.md)$", menu, re.MULTILINE)
    assert sorted(listed) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def headings(page):
    """The anchors of a page's headings."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())
            for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


@pytest.mark.parametrize("page", [*(path.relative_to(ROOT).as_posix() for path in sorted(DOCS.rglob("*.md"))),
                                  "CONTRIBUTING.md", "README.md"])
def test_paths_and_links_of_a_page_exist(page):
    page = ROOT / page
    text = page.read_text(encoding="utf-8")
    paths = re.findall(r"`((?:vrstc_jax|experiments|tools|tests|docs|\.ci)/[\w./]*)`", text)
    assert not [path for path in paths if not (ROOT / path).exists()]
    for link, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]*)(?:#([\w-]+))?\)", text):
        target = page.parent / link if link else page
        assert target.exists(), link
        assert not anchor or anchor in headings(target), anchor


def test_links_and_paths_are_found():
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    assert "](architecture.svg)" in text and "`vrstc_jax/" in text


def test_the_picture_and_the_table_have_the_rooms_of_the_house():
    from test_house import FLOORS

    picture = re.findall(r'<text class="n"[^>]*>(\w+)</text>', (DOCS / "architecture.svg").read_text(encoding="utf-8"))
    assert picture == [room for floor in reversed(FLOORS) for room in floor]
    rows = re.findall(r"^\| (\d) \| (.+?) \|", (DOCS / "architecture.md").read_text(encoding="utf-8"), re.MULTILINE)
    table = [(int(floor), Path(path).stem) for floor, paths in rows for path in re.findall(r"`([\w./]+?)/?`", paths)]
    assert sorted(table) == sorted((number, room) for number, floor in enumerate(FLOORS, 1) for room in floor)
