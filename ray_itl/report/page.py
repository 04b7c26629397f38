"""The page: one self-contained file of HTML, with its style, scripts and data inside."""

import base64
import hashlib
import os
import tempfile
from importlib.resources import files
from pathlib import Path

from ray_itl.report.charts import figure_texts, make_charts
from ray_itl.report.data import ReportData
from ray_itl.report.embed import inert
from ray_itl.report.optional import load
from ray_itl.report.table import table_text
from ray_itl.report.words import clip, facts, headline, percent, plain, tiles


def render(data: ReportData) -> str:
    """The report as HTML that opens offline and loads nothing.

    All text is escaped, and a content security policy lets only the page's own two scripts run.

    Raises:
        MissingReportDependencyError: plotly or jinja2 is not installed.
    """
    charts = make_charts(data)
    plotly_script = _script(load("plotly.offline").get_plotlyjs())
    page_script = _script(_resource("template.js"))
    markup = load("markupsafe").Markup
    return _template().render(
        data=data,
        headline=headline(data),
        warnings=[plain(warning) for warning in data.warnings],
        tiles=tiles(data),
        charts=charts,
        comparison=[
            {
                "name": clip(plain(row.name), 60),
                "left": percent(row.remaining_uncertainty),
                "wanted": f"{row.wanted:,}",
                "share": percent(row.share),
                "width": f"{row.share:.1%}",
            }
            for row in data.comparison
        ],
        facts=facts(data),
        style=markup(_resource("template.css")),
        policy=f"{_hash(plotly_script)} {_hash(page_script)}",
        plotly_script=markup(plotly_script),
        page_script=markup(page_script),
        figures={name: markup(inert(text)) for name, text in figure_texts(charts).items()},
        table=markup(table_text(data)),
    )


def write_report(data: ReportData, path: str | Path) -> Path:
    """Render `data` into the file `path`, which appears whole or not at all; returns the path.

    Raises:
        MissingReportDependencyError: plotly or jinja2 is not installed.
        OSError: the directory of `path` does not exist or cannot be written.
    """
    path = Path(path)
    # Ids may hold halves of surrogate pairs, which no file can: they become question marks.
    content = render(data).encode("utf-8", errors="replace")
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes files private; a report is for sharing, as far as the directory allows it.
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def _template():
    jinja2 = load("jinja2")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_resource("template.html.j2"))


def _resource(name: str) -> str:
    return (files("ray_itl.report") / name).read_text(encoding="utf-8")


def _script(source: str) -> str:
    """A script as the browser will see it: with bare newlines, so that its hash is the browser's hash."""
    return source.replace("\r\n", "\n").replace("\r", "\n")


def _hash(source: str) -> str:
    digest = hashlib.sha256(source.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
