"""Every relative link of every page points at a file that is there, and at a heading that is in it."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    *ROOT.glob("*.md"),
    *(p for d in ("docs", "benchmarks", "tests", "src") for p in (ROOT / d).rglob("*.md")),
]
FENCED = re.compile(r"^ *(```+|~~~+).*?^ *\1", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(`+)(?!`)(?:(?!\n *\n).)+?(?<!`)\1(?!`)", re.DOTALL)  # within a paragraph
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)|^\[[^\]]+\]:\s*<?([^\s>]+)|\b(?:src|href)=\"([^\"]+)\"", re.MULTILINE)
HEADING = re.compile(r"^ {0,3}#{1,6} +(.+?)(?: +#+)? *$", re.MULTILINE)
NAMED = re.compile(r"<a (?:id|name)=\"([^\"]+)\"")
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)  # https:, mailto:


def anchors(text):
    """What may follow a # after a page, as GitHub makes it of the headings."""
    plain = FENCED.sub("", text)
    titles = [re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in HEADING.findall(plain)]
    slugs = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
    seen, found = Counter(), set(NAMED.findall(plain))
    for slug in slugs:
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def broken(page, root):
    """The relative links of a page that lead nowhere."""
    text = INLINE.sub("", FENCED.sub("", page.read_text(encoding="utf-8")))
    targets = ["".join(found) for found in LINK.findall(text)]
    return [target for target in targets if not ELSEWHERE.match(target) and not leads(target, page, root)]


def leads(target, page, root):
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    if not file.exists() or not file.is_relative_to(root.resolve()):
        return False
    return not anchor or (file.suffix == ".md" and anchor in anchors(file.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page):
    assert broken(page, ROOT) == []


def test_links_that_lead_nowhere_are_found(tmp_path):
    (tmp_path / "there.md").write_text("# A `heading`, twice\n```\n# no heading\n```\n# A `heading`, twice\n")
    page = tmp_path / "page.md"
    good = [
        "there.md",
        "there.md#a-heading-twice",
        "there.md#a-heading-twice-1",
        "https://gone.example",
        "#top",
    ]
    bad = ["gone.md", "gone.md#x", "there.md#no-heading", "there.md#a-heading-twice-2", "#bottom", "../.."]
    links = [f"[words\nin two lines]({target})" for target in [*good, *bad]]
    page.write_text("\n".join(["# Top", "`[code](gone.md)`", "```", "[code](gone.md)", "```", *links]))
    assert broken(page, tmp_path) == bad
    page.write_text('<img src="gone.png">\n\n[name]: gone.md\n')
    assert broken(page, tmp_path) == ["gone.png", "gone.md"]


def test_a_decision_has_a_number_of_its_own_and_a_row_in_the_index():
    folder = ROOT / "docs" / "adr"
    rows = re.findall(r"^\| (\d+) \| \[.*?\]\((.+?)\)", (folder / "README.md").read_text(), re.MULTILINE)
    files = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert sorted(file for _, file in rows) == files
    numbers = [int(number) for number, _ in rows]
    assert len(numbers) == len(set(numbers))
    assert [int(file[:4]) for _, file in rows] == numbers
    titles = [(folder / file).read_text(encoding="utf-8").split(".")[0] for _, file in rows]
    assert titles == [f"# {number}" for number in numbers]
