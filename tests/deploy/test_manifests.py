"""The manifests have only fields that there are, where they belong, and keep the promises of docs/kubernetes.md."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Callable
from typing import Any

import pytest

from ray_itl.curation.state_settings import StateSettings
from tests.deploy.fields import FIELDS, problems
from tests.deploy.manifests import MANIFESTS, ROOT, found, pods, ray_job_spec, walk

GUIDE = (ROOT / "docs" / "kubernetes.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CLUSTERS = ("rayjob.yaml", "raycronjob.yaml", "raycluster.yaml")
STATE = "state.dir=/data/state"
SCHEDULED = ("raycronjob.yaml", "cronjob.yaml")
BY_HAND = {"ray-itl-token", "ray-itl-s3"}
"""Secrets that people make as docs/kubernetes.md says; no manifest holds one."""


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_field_is_known_and_in_its_place(name: str) -> None:
    assert problems(MANIFESTS[name]) == []


def test_all_kinds_are_there() -> None:
    kinds = {manifest["kind"] for manifest in MANIFESTS.values()}
    assert kinds == {"RayJob", "RayCronJob", "CronJob", "RayCluster", "PersistentVolumeClaim", "NetworkPolicy"}


def _set(path: str, value: Any) -> Callable[[dict], None]:
    """Return a change of the value at a path such as spec.jobTemplate.suspend."""

    def change(manifest: dict) -> None:
        *folders, last = path.split(".")
        for key in folders:
            manifest = manifest[int(key) if key.isdigit() else key]
        manifest[last] = value

    return change


def _wrap_job_template(manifest: dict) -> None:
    manifest["spec"]["jobTemplate"] = {"spec": manifest["spec"]["jobTemplate"]}


def _drop_schedule(manifest: dict) -> None:
    del manifest["spec"]["schedule"]


CONTAINER = "spec.rayClusterSpec.headGroupSpec.template.spec.containers.0"
WRONG: list[tuple[str, Callable[[dict], None], str]] = [
    ("raycronjob.yaml", _set("spec.concurrencyPolicy", "Forbid"), r"\$\.spec: .*concurrencyPolicy"),
    ("raycronjob.yaml", _set("spec.successfulJobsHistoryLimit", 3), r"\$\.spec: .*successfulJobsHistoryLimit"),
    ("raycronjob.yaml", _wrap_job_template, r"\$\.spec\.jobTemplate: .*'spec' was unexpected"),
    ("raycronjob.yaml", _set("spec.jobTemplate.schedule", "0 3 * * *"), r"jobTemplate: .*'schedule' was unexpected"),
    ("raycronjob.yaml", _set("spec.schedule", "every night"), r"\$\.spec\.schedule"),
    ("raycronjob.yaml", _drop_schedule, r"\$\.spec: 'schedule' is a required property"),
    ("rayjob.yaml", _set("spec.concurrencyPolicy", "Forbid"), r"\$\.spec: .*concurrencyPolicy"),
    ("rayjob.yaml", _set("spec.entryPoint", "python x.py"), r"\$\.spec: .*entryPoint"),
    ("rayjob.yaml", _set("spec.authOptions", {"mode": "token"}), r"\$\.spec: .*authOptions"),
    ("rayjob.yaml", _set("spec.rayClusterSpec.authOptions.mode", "tokens"), r"authOptions\.mode: 'tokens'"),
    ("rayjob.yaml", _set("spec.rayClusterSpec.headGroupSpec.rayStartParams.num-cpus", 0), "num-cpus.*: 0 is not of"),
    ("rayjob.yaml", _set("spec.activeDeadlineSeconds", 0), r"activeDeadlineSeconds: 0 is less than the minimum"),
    ("rayjob.yaml", _set("spec.submissionMode", "K8sJob"), r"submissionMode: 'K8sJob' is not one of"),
    ("raycronjob.yaml", _set("spec.startingDeadlineSeconds", 3600), r"\$\.spec: .*startingDeadlineSeconds"),
    ("rayjob.yaml", _set("spec.backoffLimit", "3"), r"backoffLimit: '3' is not of type 'integer'"),
    ("rayjob.yaml", _set(f"{CONTAINER}.resources.cpu", "2"), r"resources: .*'cpu' was unexpected"),
    ("rayjob.yaml", _set(f"{CONTAINER}.resources.limits.memory", "8GB"), r"limits\.memory: '8GB'"),
    ("rayjob.yaml", _set(f"{CONTAINER}.runAsNonRoot", True), r"containers\[0\]: .*runAsNonRoot"),
    ("rayjob.yaml", _set("apiVersion", "ray.io/v1alpha1"), r"apiVersion: 'ray\.io/v1alpha1'"),
    ("cronjob.yaml", _set("spec.concurrencyPolicy", "forbid"), r"concurrencyPolicy: 'forbid'"),
    ("cronjob.yaml", _set("spec.jobTemplate.concurrencyPolicy", "Forbid"), r"jobTemplate: .*concurrencyPolicy"),
    ("cronjob.yaml", _set("spec.jobTemplate.spec.restartPolicy", "Never"), r"jobTemplate\.spec: .*restartPolicy"),
    ("network.yaml", _set("spec.podSelector.app", "ray-itl"), r"podSelector: .*'app' was unexpected"),
    ("storage.yaml", _set("spec.accessModes", "ReadWriteMany"), r"accessModes: 'ReadWriteMany' is not of type 'array'"),
    ("storage.yaml", _set("kind", "Volume"), "kind 'Volume' is not known"),
]


@pytest.mark.parametrize(("name", "change", "message"), WRONG, ids=[message for _, _, message in WRONG])
def test_the_check_can_fail(name: str, change: Callable[[dict], None], message: str) -> None:
    manifest = copy.deepcopy(MANIFESTS[name])
    change(manifest)
    assert any(re.search(message, problem) for problem in problems(manifest)), problems(manifest)


def test_any_unknown_field_is_noticed_anywhere() -> None:
    places = 0
    for manifest in MANIFESTS.values():
        for path, value in walk(manifest):
            if isinstance(value, dict) and not path.endswith(("abels", "Params", "requests", "limits")):
                value["nosuch"] = 1
                assert any("nosuch" in problem for problem in problems(manifest)), path
                del value["nosuch"]
                places += 1
    assert places > 100


def test_the_template_of_a_ray_cron_job_is_the_spec_of_a_ray_job() -> None:
    assert FIELDS["RayCronJobSpec"]["jobTemplate!"] == FIELDS["RayJob"]["spec!"] == "RayJobSpec"
    assert set(FIELDS["RayCronJobSpec"]) == {"schedule!", "timeZone", "suspend", "jobTemplate!"}


@pytest.mark.parametrize("name", CLUSTERS)
def test_clusters_ask_for_a_token_and_run_the_pinned_ray(name: str) -> None:
    ((auth,), (version,)) = found(MANIFESTS[name], "authOptions"), found(MANIFESTS[name], "rayVersion")
    assert auth["mode"] == "token"
    assert f"ray=={version}" in (ROOT / "constraints.txt").read_text().splitlines()


def test_the_release_of_kuberay_that_fields_are_of_is_named() -> None:
    release = re.search(r"KubeRay ([\d.]+\d)", (ROOT / "tests" / "deploy" / "fields.yaml").read_text())
    assert release is not None
    assert f"KubeRay {release[1]}" in GUIDE


@pytest.mark.parametrize("name", [name for name in MANIFESTS if pods(MANIFESTS[name])])
def test_pods_are_unprivileged_and_bounded(name: str) -> None:
    for pod in pods(MANIFESTS[name]):
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["metadata"]["labels"] == {"app": "ray-itl"}
        for container in pod["spec"]["containers"]:
            assert container["image"].endswith(f"/ray-itl:{PROJECT['project']['version']}")
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
            assert set(container["resources"]["requests"]) == set(container["resources"]["limits"]) == {"cpu", "memory"}
            mounts = {mount["name"] for mount in container.get("volumeMounts", [])}
            assert mounts == {volume["name"] for volume in pod["spec"].get("volumes", [])}


def test_what_is_referred_to_is_there() -> None:
    everything = list(MANIFESTS.values())
    claims = {claim["claimName"] for claim in found(everything, "persistentVolumeClaim")}
    assert claims == {MANIFESTS["storage.yaml"]["metadata"]["name"]}
    secrets = {ref["name"] for key in ("secretRef", "secretKeyRef") for ref in found(everything, key)}
    assert secrets | set(found(everything, "secretName")) == BY_HAND
    assert all(f"kubectl create secret generic {name}" in GUIDE for name in BY_HAND)
    (variables,) = found(MANIFESTS["cronjob.yaml"], "env")
    address = next(each["value"] for each in variables if each["name"] == "RAY_API_SERVER_ADDRESS")
    assert address == f"http://{MANIFESTS['raycluster.yaml']['metadata']['name']}-head-svc:8265"


def test_no_manifest_holds_a_secret() -> None:
    """What could be one has a name that says so; its value comes from a Secret."""
    for manifest in MANIFESTS.values():
        for variables in found(manifest, "env"):
            secret = [v for v in variables if re.search("TOKEN|SECRET|PASSWORD|KEY", v["name"])]
            assert all("value" not in variable for variable in secret)
    texts = [value for manifest in MANIFESTS.values() for _, value in walk(manifest) if isinstance(value, str)]
    assert not [text for text in texts if re.search(r"://[^/\s]*@", text)]


@pytest.mark.parametrize("name", CLUSTERS)
def test_every_ray_node_gets_the_storage_credentials_by_environment(name: str) -> None:
    nodes = [c for pod in pods(MANIFESTS[name]) for c in pod["spec"]["containers"] if c["name"] != "submitter"]
    assert len(nodes) == 2
    assert all(node["envFrom"] == [{"secretRef": {"name": "ray-itl-s3", "optional": True}}] for node in nodes)


def test_the_network_policy_covers_every_pod() -> None:
    policy = MANIFESTS["network.yaml"]["spec"]
    labels = {pod["metadata"]["labels"]["app"] for manifest in MANIFESTS.values() for pod in pods(manifest)}
    assert {policy["podSelector"]["matchLabels"]["app"]} == labels
    assert policy["policyTypes"] == ["Ingress"]
    assert all(rule["from"] for rule in policy["ingress"])


@pytest.mark.parametrize(("name", "place"), [("rayjob.yaml", "run.dir=/data/runs/"), ("raycronjob.yaml", STATE)])
def test_retries_go_on_in_the_same_place_on_lasting_storage(name: str, place: str) -> None:
    spec = ray_job_spec(name)
    assert spec["backoffLimit"] >= 1
    assert f" {place}" in spec["entrypoint"]
    assert {mount["mountPath"] for mounts in found(spec["rayClusterSpec"], "volumeMounts") for mount in mounts} == {
        "/data"
    }


def test_all_tries_of_a_ray_cron_job_end_on_the_day_that_names_the_tick() -> None:
    """Its entrypoint knows no other day than the present one, and KubeRay counts the deadline anew for each try."""
    spec = MANIFESTS["raycronjob.yaml"]["spec"]
    minute, hour = map(int, spec["schedule"].split()[:2])
    tries = spec["jobTemplate"]["backoffLimit"] + 1
    assert spec["timeZone"] == "Etc/UTC"
    assert hour * 3600 + minute * 60 + tries * spec["jobTemplate"]["activeDeadlineSeconds"] < 24 * 3600
    assert "state.tick=$(date -u +%F)" in spec["jobTemplate"]["entrypoint"]


def test_a_cron_job_ends_before_its_next_night() -> None:
    spec = MANIFESTS["cronjob.yaml"]["spec"]
    assert spec["startingDeadlineSeconds"] + spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] < 24 * 3600
    assert spec["timeZone"] == "Etc/UTC"


def test_the_cron_job_is_told_the_name_of_its_job() -> None:
    manifest = MANIFESTS["cronjob.yaml"]
    (variables,) = found(manifest, "env")
    (job,) = [each["valueFrom"] for each in variables if each["name"] == "JOB_NAME"]
    assert job == {"fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/job-name']"}}
    assert f"^{manifest['metadata']['name']}-([0-9]{{8}})$" in str(manifest)


@pytest.mark.parametrize("name", SCHEDULED)
def test_nights_are_ticks_that_remember_and_wait_for_each_other(name: str) -> None:
    text = str(MANIFESTS[name])
    assert STATE in text
    assert "run.dir" not in text
    wait = re.search(r"state\.wait_s=(\d+)", text)
    assert wait is not None
    assert int(wait[1]) > 2 * StateSettings().lease_s


def test_the_cron_job_runs_one_at_a_time() -> None:
    spec = MANIFESTS["cronjob.yaml"]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["jobTemplate"]["spec"]["backoffLimit"] >= 1
