"""The house in numbers: `python -m tests.house [CHECKOUT]` prints its rooms, floors and arrows.

A room is a folder of the package or a file directly in it, an arrow an import from one room into another, and a room's
floor the longest way down from it. `tests/test_layers.py` holds the imports to the layers.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACES = ("ray_itl", "jobs", "benchmarks")


def modules_in(root: Path, places: tuple[str, ...] = PLACES) -> dict[str, Path]:
    """Return every module of some top folders by its dotted name."""
    found = {}
    for folder in places:
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(source: str, modules: set[str]) -> Iterator[str]:
    """Yield every import of a source, also inside functions; `from package import module` yields the module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide what is imported"
            base = str(node.module)
            full = [f"{base}.{alias.name}" for alias in node.names]
            yield from {name if name in modules else base for name in full}


def all_imports(modules: Mapping[str, Path]) -> dict[str, list[str]]:
    """Return what each module imports, in order."""
    return {name: sorted(set(imports_of(path.read_text(), set(modules)))) for name, path in modules.items()}


def arrows_between(imports: Mapping[str, list[str]]) -> set[tuple[str, str]]:
    """Return the pairs of rooms of the package of which the first imports the second."""
    arrows = set()
    for module, names in imports.items():
        for name in names:
            here, there = _room(module), _room(name)
            if here != there and module.startswith("ray_itl.") and name.startswith("ray_itl."):
                arrows.add((here, there))
    return arrows


def _room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def floors_of(arrows: set[tuple[str, str]]) -> dict[str, int]:
    """Return the longest way down from each room; an arrow that closes a circle is not followed."""
    below: dict[str, set[str]] = {}
    for here, there in arrows:
        below.setdefault(here, set()).add(there)
        below.setdefault(there, set())
    floors: dict[str, int] = {}

    def floor(room: str, trail: tuple[str, ...]) -> int:
        if room not in floors:
            ways = [floor(next_room, (*trail, room)) for next_room in below[room] if next_room not in (*trail, room)]
            floors[room] = 1 + max(ways, default=-1)
        return floors[room]

    for room in below:
        floor(room, ())
    return floors


def arrows_up(arrows: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the arrows into a room that is not below the one they come from: each is part of a circle of rooms."""
    floors = floors_of(arrows)
    return sorted((here, there) for here, there in arrows if floors[there] >= floors[here])


def main(root: Path) -> None:
    """Print the numbers of a checkout."""
    modules = modules_in(root, ("ray_itl",))
    lines = sorted(len(path.read_text().splitlines()) for name, path in modules.items())
    own = [len(path.read_text().splitlines()) for path in modules.values() if path.name != "__init__.py"]
    arrows = arrows_between(all_imports(modules_in(root)))
    floors = floors_of(arrows)
    top = [path for path in modules.values() if path.parent == root / "ray_itl"]
    sys.stdout.write(
        f"files directly in ray_itl/: {len(top)}\n"
        f"files: {len(lines)}, of which {len(lines) - len(own)} __init__; {sum(lines):,} lines\n"
        f"lines of a file: median {statistics.median(own):.0f}, 90% below {sorted(own)[int(0.9 * len(own))]}, "
        f"most {max(own)}\n"
        f"rooms: {len(floors)} on {1 + max(floors.values())} floors, {len(arrows)} arrows, "
        f"{len(arrows_up(arrows))} of them up\n"
    )
    for here, there in arrows_up(arrows):
        sys.stdout.write(f"  up: {here} -> {there}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
