"""The one thing that pyproject.toml cannot say: configs/, at the top for people to find, is installed as a package."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[
        *find_namespace_packages(include=["ray_itl", "ray_itl.*"]),
        "ray_itl.configs",
        *(f"ray_itl.configs.{name}" for name in find_namespace_packages("configs")),
    ],
    package_dir={"ray_itl.configs": "configs"},
)
