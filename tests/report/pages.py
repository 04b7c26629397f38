"""What a page holds, for the tests, and text that a page must not fall for."""

import json
from html.parser import HTMLParser

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    '"><img src=x onerror=alert(1)>',
    "'; alert(1) //",
    "{{ 7 * 7 }}{% raw %}",
    "<a href='javascript:alert(1)'>x</a>",
    "]]>&lt;b&gt;\u2028\u2029\x00",
]


class Page(HTMLParser):
    """The elements, attributes and script texts of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)
        elif "style" not in self._open:
            self.words.append(data)

    @property
    def text(self) -> str:
        """The words of the page, a space between them."""
        return " ".join(" ".join(self.words).split())

    @property
    def running(self) -> list[str]:
        """The scripts that a browser would run."""
        return [text for attributes, text in self.scripts if attributes.get("type") != "application/json"]

    @property
    def table(self) -> dict:
        return next(json.loads(text) for attributes, text in self.scripts if attributes.get("id") == "table")

    @property
    def rows(self) -> dict:
        """What a page for labelling has of its rows."""
        return next(json.loads(text) for attributes, text in self.scripts if attributes.get("id") == "rows")

    def cells(self, name: str) -> list[str]:
        column = next(column for column in self.table["columns"] if column["name"] == name)
        return [column["values"][k] for k in column["index"]] if "index" in column else column["values"]

    @property
    def shape(self) -> list[tuple[str, list[str]]]:
        """Every element with the names of its attributes."""
        return [(tag, sorted(attributes)) for tag, attributes in self.elements]

    @property
    def policy(self) -> str:
        """The content security policy."""
        (policy,) = [
            str(attributes["content"])
            for tag, attributes in self.elements
            if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
        ]
        return policy

    @property
    def loading(self) -> list[str]:
        """The elements that could load something."""
        links = {"src", "href", "srcset", "data", "action", "poster", "background"}
        tags = {"link", "iframe", "img", "object", "embed", "base"}
        return [tag for tag, attributes in self.elements if tag in tags or links & attributes.keys()]

    def figure(self, name: str) -> dict:
        """The figure of a chart."""
        return next(json.loads(text) for attributes, text in self.scripts if attributes.get("data-chart") == name)
