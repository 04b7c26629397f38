"""A browser without a window, for the tests and for the picture of the README."""

import json
import re
import shutil
import subprocess
from pathlib import Path

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=10000",
]


def saved(text: str, page: Path) -> Path:
    """Write a page to a file, for a browser to open."""
    page.write_text(text, encoding="utf-8")
    return page


def drawn_page(page: Path, profile: Path) -> str:
    """The page as the browser holds it once its scripts have run, without the scripts."""
    command = [str(BROWSER), *FLAGS, "--dump-dom", f"--user-data-dir={profile}", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=400, check=True).stdout
    return re.sub(r"<script.*?</script>", "", dom, flags=re.DOTALL)


def hidden_width(page: Path, width: int, folder: Path) -> int:
    """By how many pixels the page is wider than a window of some width, in which it is opened."""
    frame = folder / "frame.html"
    text = json.dumps(page.read_text()).replace("<", "\\u003c")
    frame.write_text(
        f"<!doctype html><body><iframe id=f style='border:0;width:{width}px;height:900px'></iframe><script>"
        f"f.srcdoc = {text}; f.onload = () => setTimeout(() => {{"
        "const root = f.contentDocument.documentElement;"
        "document.title = root.scrollWidth - root.clientWidth; }, 3000);</script>"
    )
    drawn = drawn_page(frame, folder / "profile")
    found = re.search(r"<title>(-?\d+)</title>", drawn)
    assert found is not None, "the page was not laid out"
    return int(found[1])


def drawn_chart(drawn: str, name: str) -> str:
    """The part of a drawn page that is the chart of that name."""
    return drawn[drawn.index(f'id="{name}"') :].partition("</figure>")[0]
