"""One self-contained, inert file of HTML: a template with its style, scripts, charts and data inside.

Pages are text; whoever makes one writes it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import NamedTuple

from ray_itl.report.figures import Chart, figure_texts, load_library


def inert(text: str) -> str:
    """Return JSON that cannot end the script element around it, and means the same: markup characters escaped."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


class Tile(NamedTuple):
    """One key figure: a short label, its value, and a note that may be empty."""

    label: str
    value: str
    note: str


def assemble(
    template: str,
    charts: Sequence[Chart],
    values: Mapping[str, object],
    *,
    styles: Sequence[str],
    scripts: Sequence[str],
) -> str:
    """Return the page as HTML that opens offline and loads nothing.

    All text is escaped, and a content security policy lets only the page's own scripts run. The page can be written as
    UTF-8, whatever its values hold.

    Args:
        template: resource of the page, which extends the base template; one of another package as "package/name".
        charts: drawn by the script, each in the element of its name; without any, plotly is not in the page.
        values: what the template shows, besides the charts.
        styles: resources that make up the style sheet, in order.
        scripts: resources that make up the page's script, in order; plotly runs before them.

    Raises:
        MissingExtraError: jinja2, or plotly where there are charts, is not installed.
    """
    plotly_script = _script(load_library("plotly.offline").get_plotlyjs()) if charts else ""
    page_script = _script("\n".join(_resource(name) for name in scripts))
    markup = load_library("markupsafe").Markup
    page = _template(template).render(
        **values,
        charts=charts,
        style=markup("".join(_resource(name) for name in styles)),
        policy=" ".join(_hash(script) for script in (plotly_script, page_script) if script),
        plotly_script=markup(plotly_script),
        page_script=markup(page_script),
        figures={name: markup(inert(text)) for name, text in figure_texts(charts).items()},
    )
    # Ids may hold halves of surrogate pairs, which no file can: they become question marks.
    return page.encode("utf-8", errors="replace").decode()


def _template(name: str):
    jinja2 = load_library("jinja2")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_resource),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def _resource(name: str) -> str:
    """Read a template: of this package, or of another one's folder `templates` as "package/name"."""
    package, _, file = name.rpartition("/")
    return (files(package or "ray_itl.report") / "templates" / file).read_text(encoding="utf-8")


def _script(source: str) -> str:
    """Return a script as the browser will see it: with bare newlines, so that its hash is the browser's hash."""
    return source.replace("\r\n", "\n").replace("\r", "\n")


def _hash(source: str) -> str:
    digest = hashlib.sha256(source.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
