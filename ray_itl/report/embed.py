"""Data inside the page."""


def inert(text: str) -> str:
    """JSON that cannot end the script element around it, and means the same: markup characters escaped."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
