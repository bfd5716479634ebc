"""mkdocs hooks: the site is built from the Markdown that is also read on a code host."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

PROJECT = Path(__file__).parent.parent
FROM_THE_TOP = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
"""Pages of the project's top folder, which appear in the site as if they were in docs/."""

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")
_NUMBERED = re.compile(r"\d\. ")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name in FROM_THE_TOP:
        files.append(File.generated(config, name, content=(PROJECT / name).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    folder = PurePosixPath(page.file.src_uri).parent

    def linked(found: re.Match[str]) -> str:
        text, target = found.groups()
        return _link(text, target, folder, files, page.file.src_uri in FROM_THE_TOP)

    return _LINK.sub(linked, _indented(markdown))


def _link(text: str, target: str, folder: PurePosixPath, files: Files, from_the_top: bool) -> str:
    """Return the link as the site needs it: only its text if it leads to a file of the project."""
    path, _, anchor = target.partition("#")
    if not path or ":" in path:
        return f"[{text}]({target})"
    path = path.removeprefix("docs/") if from_the_top else path
    top = not from_the_top and path.startswith("../") and path.rpartition("/")[2] in FROM_THE_TOP
    path = "../" * len(folder.parts) + path.rpartition("/")[2] if top else path
    if not _exists(folder, path, files):
        outside = (PROJECT / ("" if from_the_top else "docs") / folder / path).exists()
        return _plain(text, path) if outside else f"[{text}]({target})"
    return f"[{text}]({path}#{anchor})" if anchor else f"[{text}]({path})"


def _plain(text: str, path: str) -> str:
    """Return the text, as code if it is the file's name."""
    return f"`{text}`" if path.rstrip("/").endswith(text.rstrip("/")) else text


def _exists(folder: PurePosixPath, path: str, files: Files) -> bool:
    parts: list[str] = []
    for part in (folder / path).parts:
        parts = parts[:-1] if part == ".." else [*parts, part]
    return files.get_file_from_path("/".join(parts)) is not None


def _indented(markdown: str) -> str:
    """Indent the contents of numbered items by four: Python-Markdown takes three for the text."""
    lines, inside = [], False
    for line in markdown.split("\n"):
        if line and not line.startswith("   "):
            inside = _NUMBERED.match(line) is not None
        lines.append(f" {line}" if inside and line.startswith("   ") else line)
    return "\n".join(lines)
