"""Every internal link, image, anchor and file name of the documentation exists; the site builds."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PAGES = sorted(
    page.relative_to(PROJECT).as_posix()
    for page in (*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md"), PROJECT / "data/README.md")
)
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"`((?:pipelines|dashboard|sandbox|tests|benchmarks|requirements)/[\w./-]+)`")


def anchors(page: Path) -> set[str]:
    """The anchors that code hosts make of a page's headings."""
    headings = re.findall(r"^#+ +(.+)$", page.read_text(), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)|`", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in plain}


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere in the repository."""
    found = []
    for link in LINK.findall(CODE.sub("", page.read_text())):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if ":" in path:
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_links_and_images_lead_to_existing_files_and_headings(page):
    assert broken(PROJECT / page) == []


@pytest.mark.parametrize("page", PAGES)
def test_the_files_that_a_page_names_exist(page):
    """Patterns such as pipelines/integrations/<kind>.py are no names."""
    named = set(PATH.findall((PROJECT / page).read_text()))
    assert sorted(name for name in named if not (PROJECT / name).exists()) == []


@pytest.mark.parametrize("page", PAGES)
def test_no_empty_line_splits_a_table(page):
    """The rows after it would be shown as text."""
    lines = CODE.sub("", (PROJECT / page).read_text()).splitlines()
    rows = [line.startswith("|") for line in lines] + [False, False]
    rules = [bool(re.fullmatch(r"\|[-: |]+\|", line)) for line in lines] + [False, False]
    split = [n for n in range(1, len(lines)) if not lines[n] and rows[n - 1] and rows[n + 1]]
    assert [n + 1 for n in split if not rules[n + 2]] == []


def test_the_journey_of_a_record_names_existing_files():
    page = (PROJECT / "docs/architecture.md").read_text()
    named = set(re.findall(r"`([\w./-]+\.(?:py|csv))`", page)) - {"okta.py", "okta.csv"}
    assert len(named) > 30
    roots = (PROJECT, PROJECT / "pipelines")
    assert sorted(n for n in named if not any((root / n).is_file() for root in roots)) == []


def test_every_page_of_the_folder_is_in_the_site(site):
    built = {path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html")}
    pages = {Path(page).relative_to("docs").with_suffix("").as_posix()
             for page in PAGES if page.startswith("docs/")}  # fmt: skip
    renamed = {page.replace("README", "index") for page in pages}
    assert renamed | {"CHANGELOG", "CONTRIBUTING", "SECURITY"} <= built


def test_no_page_of_the_site_loads_anything_from_elsewhere(site):
    loading = re.compile(r"<(?:script|img|iframe)[^>]*\ssrc=\"?https?:|<link[^>]*\shref=\"?https?:")
    pages = list(site.rglob("*.html"))
    assert len(pages) > 10
    assert [page.name for page in pages if loading.search(page.read_text())] == []


def test_lists_keep_their_code_blocks(site):
    """Numbered items are indented by three in our pages, and by four in the site's Markdown."""
    page = (site / "webhooks.html").read_text()
    assert "```" not in page
    assert page.count("<ol>") == 1


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=PROJECT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder
