"""Options, each declared once.

Reading order: declare (`option`, the base class `Options`, walking over them), checks (what an option may be), text
(settings as YAML and from it), help (the text behind --help).

To add an option: one line in the settings of its wing. It decides whether a run may be resumed unless it says that it
does not.
"""
