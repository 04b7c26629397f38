"""The Dockerfile cannot be built where tests run; what can be told from its text is checked."""

from __future__ import annotations

import fnmatch
import re

import pytest

from ray_itl.cli.main import COMMANDS
from tests.deploy.manifests import MANIFESTS, ROOT, found, walk
from tests.deploy.test_wheel import SOURCES

TEXT = (ROOT / "jobs" / "Dockerfile").read_text()
IGNORED = (ROOT / ".dockerignore").read_text().splitlines()
KNOWN = {"FROM", "RUN", "WORKDIR", "COPY", "USER", "ENV"}
PINNED = re.compile(r"(python:3\.1[1-9]\.\d+-slim-[a-z]+(?:@sha256:[0-9a-f]{64})?)(?: AS (\w+))?")
SECRET = re.compile("TOKEN|SECRET|PASSWORD|KEY|CREDENTIAL", re.IGNORECASE)


def instructions(text: str) -> list[tuple[str, str]]:
    """Return every instruction with what follows it, comments left out and continued lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    pairs = (line.partition(" ") for line in joined.splitlines())
    return [(name, rest.strip()) for name, _, rest in pairs]


def travels(path: str) -> bool:
    """Whether .dockerignore lets a file or folder into the build."""
    allowed = [line.removeprefix("!") for line in IGNORED if line.startswith("!")]
    return "*" in IGNORED and any(fnmatch.fnmatch(path, pattern) for pattern in allowed)


def problems(text: str) -> list[str]:
    """Say what is wrong with a Dockerfile; [] if nothing is."""
    steps = instructions(text)
    wrong = [f"{name} is not expected" for name, _ in steps if name not in KNOWN]
    stages = {f"--from={found[2]}" for name, rest in steps if name == "FROM" and (found := PINNED.fullmatch(rest))}
    for name, rest in steps:
        if name == "FROM" and not PINNED.fullmatch(rest):
            wrong.append(f"base image {rest} is not pinned")
        if name in ("ENV", "ARG") and SECRET.search(rest.split("=")[0]):
            wrong.append(f"{name} {rest} names a secret")
        if name == "COPY":
            *sources, _ = rest.split()
            if sources[0] in stages:
                continue
            wrong += [f"COPY of {source}: no such file" for source in sources if not (ROOT / source).exists()]
            wrong += [f"COPY of {source}: left out by .dockerignore" for source in sources if not travels(source)]
        if name == "RUN" and "pip install" in rest and "constraints.txt" not in rest:
            wrong.append(f"{rest} installs what is not pinned")
        if name == "RUN" and re.search(r"https?://.*\|\s*(ba)?sh|--trusted-host", rest):
            wrong.append(f"{rest} runs what it fetches")
    users = [rest for name, rest in steps if name == "USER"]
    if not users or users[-1] in ("root", "0"):
        wrong.append("it ends as root")
    return wrong


def test_nothing_is_wrong() -> None:
    assert problems(TEXT) == []


def test_it_builds_the_wheel_and_installs_nothing_else_of_this_project() -> None:
    bases = [PINNED.fullmatch(rest) for name, rest in instructions(TEXT) if name == "FROM"]
    assert [base and base[2] for base in bases] == ["build", None]
    assert len({base and base[1] for base in bases}) == 1
    build, image = re.split(r"(?<=\n)\n(?=FROM)", TEXT)
    built = {source for name, rest in instructions(build) if name == "COPY" for source in rest.split()[:-1]}
    assert built == set(SOURCES)
    assert {rest for name, rest in instructions(image) if name == "COPY"} == {
        "constraints.txt ./",
        "--from=build /build/dist dist",
    }
    assert "dist/*.whl" in image


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (r"FROM .*", "FROM python:latest", "base image python:latest is not pinned"),
        (r"FROM .*", "FROM python:3.11-slim", "is not pinned"),
        (r"\nUSER .*", "", "it ends as root"),
        (r"\nUSER .*", "\nUSER 1000\nUSER root", "it ends as root"),
        (r"COPY configs configs", "COPY config configs", "COPY of config: no such file"),
        (r"COPY configs configs", "COPY tests tests", "COPY of tests: left out"),
        (r"COPY configs configs", "ADD https://example.com/x.tar /", "ADD is not expected"),
        (r"COPY --from=build", "COPY --from=other", "COPY of --from=other: no such file"),
        (r"--constraint constraints.txt ", "", "installs what is not pinned"),
        (r"ENV ", "ENV RAY_AUTH_TOKEN=abc ", "names a secret"),
        (r"ENV .*", "ARG S3_SECRET", "names a secret"),
        (r"ENV .*", "RUN wget -O- https://example.com/x.sh | sh", "runs what it fetches"),
    ],
)
def test_the_check_can_fail(old: str, new: str, message: str) -> None:
    text, changes = re.subn(old, new, TEXT, count=1)
    assert changes == 1
    assert any(message in problem for problem in problems(text))


def test_manifests_use_the_user_and_the_command_of_the_image() -> None:
    steps = dict(instructions(TEXT))
    users = {user for manifest in MANIFESTS.values() for user in found(manifest, "runAsUser")}
    assert users == {int(steps["USER"])}
    texts = [value for m in MANIFESTS.values() for _, value in walk(m) if isinstance(value, str)]
    assert {name for text in texts for name in re.findall(r"(?:^|-- )ray-itl (\w+)", text)} == {"curate"}
    assert "curate" in COMMANDS
    assert not [text for text in texts if re.search(r"\S\.py\b", text)]  # the image has no scripts


def test_torch_is_installed_from_the_pinned_line() -> None:
    assert re.search(r"^torch==[\d.]+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    (torch,) = [rest for name, rest in instructions(TEXT) if name == "RUN" and "/whl/cpu" in rest]
    assert "grep '^torch=='" in torch
