"""A browser without a window, for the tests."""

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
    "--dump-dom",
]


def drawn_page(page: Path, profile: Path) -> str:
    """The page as the browser holds it once its scripts have run, without the scripts."""
    command = [str(BROWSER), *FLAGS, f"--user-data-dir={profile}", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    return re.sub(r"<script.*?</script>", "", dom, flags=re.DOTALL)


def drawn_chart(drawn: str, name: str) -> str:
    """The part of a drawn page that is the chart of that name."""
    return drawn[drawn.index(f'id="{name}"') :].partition("</figure>")[0]
