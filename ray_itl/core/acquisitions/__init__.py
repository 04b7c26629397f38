"""The sequential rules by name. Another one: a file here, a line below, its dense definition in core/reference.py.

base (the contract), information_gain (ITL), variance_reduction (VTL, SIFT), uncertainty (undirected).
"""

RULES: dict[str, str] = {
    "itl": "ray_itl.core.acquisitions.information_gain:InformationGain",
    "vtl": "ray_itl.core.acquisitions.variance_reduction:VarianceReduction",
    "uncertainty": "ray_itl.core.acquisitions.uncertainty:Uncertainty",
}
"""Name -> "module:Class". Options know the names without loading torch."""
