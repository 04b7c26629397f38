"""Take the picture of the README: run the demo, and photograph its report (needs Chromium)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from tests.report.browser import BROWSER, FLAGS

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "report.png"
WIDTH = 1200
HEIGHT = 1686
"""In pixels: from the headline down to the end of the map."""
COLOURS = 128
LARGEST = 200_000
"""In bytes."""


def take(folder: Path) -> None:
    """Write the picture; `folder` is for the run and the browser's profile."""
    if BROWSER is None:
        sys.exit("no browser: install Chromium")
    demo = [
        sys.executable,
        "-m",
        "ray_itl",
        "curate",
        "cluster.num_shards=0",
        f"run.dir={folder / 'run'}",
        "run.log=quiet",
    ]
    subprocess.run(demo, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)  # seconds are shown
    photograph, page = folder / "page.png", (folder / "run" / "report.html").as_uri()
    size = ["--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}"]
    command = [BROWSER, *FLAGS, *size, f"--user-data-dir={folder / 'profile'}", f"--screenshot={photograph}", page]
    subprocess.run(command, check=True, timeout=120, stderr=subprocess.DEVNULL)
    with Image.open(photograph) as image:
        image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(PICTURE, optimize=True)


def main() -> None:
    """Take it in a temporary folder."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        take(Path(folder))
    if (size := PICTURE.stat().st_size) >= LARGEST:
        sys.exit(f"{PICTURE} has {size:,} bytes, {LARGEST:,} or more: lower COLOURS or HEIGHT")


if __name__ == "__main__":
    main()
