"""The matrix of attacks in SECURITY.md, made from the tests: `python -m tests.integrity.matrix`."""

import importlib
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "SECURITY.md"
_BEGIN, _END = "<!-- attacks: made from the tests -->\n", "<!-- end of attacks -->\n"
_MODULES = (
    "tests.integrity.test_tampering",
    "tests.integrity.test_erasure",
    "tests.integrity.test_mappings",
    "tests.integrity.test_configuration",
    "tests.integrity.verifier.test_rollups",
    "tests.integrity.verifier.test_text_index",
    "tests.integrity.verifier.test_superseded",
    "tests.integrity.verifier.test_obstacles",
    "tests.promises.test_forged_pushes",
    "tests.integrity.test_evidence",
    "tests.integrity.verifier.test_witnesses",
    "tests.cli.test_integrity",
)
_AROUND = (
    "tests.dashboard.test_app",
    "tests.orchestration.test_webserver",
    "tests.sandbox.test_browser_guard",
    "tests.webhooks.test_receiver",
    "tests.settings.test_folders",
    "tests.extraction.test_rate_limit",
    "tests.lake.test_maintenance",
    "tests.lake.test_tables",
    "tests.integrity.test_keys",
)
"""Where pages in a local browser and other users of the machine attack."""
ROWS = "`verify`: rows and checkpoint"
OUTSIDE = "`verify`: a record outside the lake"
WITNESS = "`verify`: cosigned checkpoints"
AGAIN = "`verify`: computed again"
PACK = "`audit.py`"
HOST, ORIGIN, SITE = "`Host`", "`Origin`", "`Sec-Fetch-Site`"
JSON = "JSON in a POST only"
OWNER, LINKS, MODES = "owners", "no links followed", "modes of files"
CHECK = "check `same_content`, note of `verify`"


def attack(what, found, by):
    """Mark a test as carrying out an attack that is reported as `found`, by means of `by`."""
    return pytest.mark.attack(what, found, by)


def rows(modules=_MODULES):
    """Yield (attack, report, means, test) of all marked tests."""
    for name in modules:
        module = importlib.import_module(name)
        for test, function in vars(module).items():
            for mark in getattr(function, "pytestmark", ()):
                if mark.name == "attack" and test.startswith("test_"):
                    yield (*mark.args, test)


def tampering():
    """Yield such rows of the attacks on raw tables, which are parameters of one test."""
    module = importlib.import_module(_MODULES[0])
    test = module.test_an_attack_on_the_rows_is_reported_with_its_kind_and_first_row.__name__
    for function, (kind, _) in module.FOUND.items():
        yield function.__name__.replace("_", " "), kind.upper(), ROWS, test


def around():
    """Yield such rows of the attacks by pages and by other users."""
    return rows(_AROUND)


def table(header, attacks):
    lines = [f"| {header} | Test |", "|---|---|---|---|"]
    lines += [f"| {what} | {found} | {by} | `{test}` |" for what, found, by, test in attacks]
    return "".join(f"{line}\n" for line in lines)


def tables():
    tampered = "Attack, with the lake's files or a webhook's secret | Reported as | Found by"
    outer = "Attack by a page in a local browser, or by another user of the machine | Result | By"
    return "\n".join((table(tampered, (*tampering(), *rows())), table(outer, around())))


def page(text):
    """Return the page with the current matrix."""
    before, _, rest = text.partition(_BEGIN)
    return f"{before}{_BEGIN}{tables()}{_END}{rest.partition(_END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
