"""What the site adds to docs/: README.md as its first page, and CONTRIBUTING.md."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig  # pyright: ignore[reportMissingImports] - in .venv-docs
from mkdocs.structure.files import File, Files  # pyright: ignore[reportMissingImports]

ROOT = Path(__file__).parents[2]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie beside docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=as_seen_from_docs((ROOT / source).read_text())))
    return files


def as_seen_from_docs(text: str) -> str:
    """Return a page of the project's folder with its links as from within docs/."""
    text = text.replace("](docs/", "](").replace('src="docs/', 'src="')
    for source, page in PAGES.items():
        text = text.replace(f"]({source}", f"]({page}")
    return text
