"""Every link of the pages leads to a file, and to a heading in it. Nothing is fetched."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
BESIDE = [path for name in ("fixtures", "examples") for path in (ROOT / name).rglob("*.md")]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS, *sorted(BESIDE)]
FENCE = re.compile(r"^( *)(`{3,})[^\n]*\n.*?^\1\2 *$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!\\)\]\(([^)\s]+)\)")


def title(page):
    return page.relative_to(ROOT).as_posix()


def prose(page):
    """The text without blocks and spans of code."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text("utf-8")))


def anchors(page):
    """What the headings of a page are called in links, as GitHub and the site call them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


def links(page):
    return [link for link in LINK.findall(prose(page)) if "://" not in link]


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_links_of_a_page_lead_somewhere(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{title(page)} links to '{link}', and there is no such file"
        if anchor:
            assert anchor in anchors(target), f"'{link}' in {title(page)}: no such heading"


@pytest.mark.parametrize("page", DOCS, ids=title)
def test_a_page_of_the_docs_is_in_the_table_of_contents(page):
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    listed = "\n".join(re.findall(r"```\{toctree\}\n(.*?)```", index, re.DOTALL)).split()
    assert page.stem == "index" or page.stem in listed, "name it in a toctree of docs/index.md"


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_links_to_other_sites_are_whole(page):
    for link in LINK.findall(prose(page)):
        assert "://" not in link or re.fullmatch(r"https://[\w.-]+\.\w+(/\S*)?", link), link
