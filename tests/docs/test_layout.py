"""The layout: a test file per module, no file too long, no folder too full."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("pipelines", "dashboard", "sandbox")
MOST_LINES, MOST_PACKAGES, MOST_MODULES, MOST_EXCEPTIONS = 450, 12, 8, 10

# Tables of a vendor's own events and mappings are long by nature.
MAY_BE_LONG = ("pipelines/integrations/*.py", "sandbox/services/*_events.py")

TESTED_ELSEWHERE = {
    "pipelines/errors.py": "tests/extraction/test_client.py",
}
"""Module -> the file that tests it, for modules without a test file of their own name."""

MODULES = [
    path.relative_to(ROOT)
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    if path.stem not in ("__init__", "__main__")
]
TESTS = {path.name for path in (ROOT / "tests").rglob("test_*.py")}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_every_module_has_a_test_file_of_its_own_name(module):
    own = f"test_{module.stem}.py"
    assert own in TESTS or str(module) in TESTED_ELSEWHERE, f"{module} has no {own} below tests/"


def test_the_exceptions_are_few_and_name_existing_files():
    assert len(TESTED_ELSEWHERE) <= MOST_EXCEPTIONS
    names = [*TESTED_ELSEWHERE, *TESTED_ELSEWHERE.values()]
    assert [name for name in names if not (ROOT / name).is_file()] == []


def test_no_exception_has_a_test_file_of_its_own_name():
    assert [name for name in TESTED_ELSEWHERE if f"test_{Path(name).stem}.py" in TESTS] == []


def test_no_file_is_longer_than_450_lines():
    lines = {
        str(path): len((ROOT / path).read_text().splitlines())
        for package in PACKAGES
        for path in (p.relative_to(ROOT) for p in (ROOT / package).rglob("*.py"))
        if not any(path.match(pattern) for pattern in MAY_BE_LONG)
    }
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}


def test_the_first_level_of_pipelines_is_seen_at_a_glance():
    packages = [p for p in (ROOT / "pipelines").iterdir() if (p / "__init__.py").is_file()]
    modules = [m for m in MODULES if m.parent == Path("pipelines")]
    assert len(packages) <= MOST_PACKAGES, sorted(p.name for p in packages)
    assert len(modules) <= MOST_MODULES, list(map(str, modules))
