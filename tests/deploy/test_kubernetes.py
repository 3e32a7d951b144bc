"""The manifests for Kubernetes, rendered and validated; and the compose file."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.support.process import ROOT
from zoomrelay.config import load
from zoomrelay.config.models import General

OVERLAYS = ROOT / "deploy/kubernetes/overlays"
COMPOSE = ROOT / "deploy/compose"
KUBERNETES = ("1.30", "1.37")
"""The oldest and the newest version that the manifests are held to."""
NAMES = ("single", "pair", "takeover")
Manifest = dict[str, Any]


@cache
def rendered(overlay: str) -> tuple[Manifest, ...]:
    kubectl = Path(sys.executable).with_name("kubectl")
    ended = subprocess.run(
        [kubectl, "kustomize", OVERLAYS / overlay], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0 and not ended.stderr, ended.stderr
    return tuple(yaml.safe_load_all(ended.stdout))


def _of(overlay: str, kind: str) -> list[Manifest]:
    return [one for one in rendered(overlay) if one["kind"] == kind]


def _pods() -> list[Any]:
    return [
        pytest.param(one["spec"]["template"]["spec"], id=f"{overlay} {one['metadata']['name']}")
        for overlay in NAMES
        for one in _of(overlay, "Deployment")
    ]


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("overlay", NAMES)
def test_kubernetes_takes_them(overlay: str, version: str) -> None:
    kinds = set()
    for manifest in rendered(overlay):
        if manifest["kind"] == "ServiceMonitor":
            continue  # of the Prometheus operator, whose schema is not among Kubernetes'
        kubernetes_validate.validate(manifest, version, strict=True)
        kinds.add(manifest["kind"])
    assert kinds == {"ConfigMap", "Service", "PersistentVolumeClaim", "Deployment", "NetworkPolicy"}


@pytest.mark.parametrize(("overlay", "count"), [("single", 1), ("pair", 2)])
def test_there_is_one_pod_per_subscription_and_never_an_old_beside_a_new_one(
    overlay: str, count: int
) -> None:
    found = _of(overlay, "Deployment")
    assert len(found) == count
    for one in found:
        assert (one["spec"]["replicas"], one["spec"]["strategy"]) == (1, {"type": "Recreate"})
    volumes = [volume for one in found for volume in one["spec"]["template"]["spec"]["volumes"]]
    claims = {v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v}
    assert claims == {one["metadata"]["name"] for one in _of(overlay, "PersistentVolumeClaim")}
    assert len(claims) == count


def test_a_takeover_has_both_pods_on_one_node_and_keeps_the_old_one_from_taking_over_again() -> None:
    (deployment,), (claim,) = _of("takeover", "Deployment"), _of("takeover", "PersistentVolumeClaim")
    spec, pod = deployment["spec"], deployment["spec"]["template"]["spec"]
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert (spec["replicas"], spec["strategy"]) == (1, rolling)
    assert pod["containers"][0]["args"] == ["run", "--takeover", "--standby"]
    # Of ReadWriteOncePod the second one would wait for ever.
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    (term,) = pod["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["topologyKey"] == "kubernetes.io/hostname"
    # The first pod of all meets its own term; so there is a node for it.
    labels = spec["template"]["metadata"]["labels"]
    assert term["labelSelector"]["matchLabels"].items() <= labels.items()


def test_the_two_of_a_pair_listen_to_different_subscriptions() -> None:
    environs = [one["spec"]["template"]["spec"]["containers"][0]["env"] for one in _of("pair", "Deployment")]
    assert [[e["name"] for e in environ] for environ in environs] == [
        ["ZOOMRELAY_SOURCES__MAIN__SUBSCRIPTIONS"]
    ] * 2
    assert len({environ[0]["value"] for environ in environs}) == 2


@pytest.mark.parametrize("overlay", NAMES)
def test_selectors_meet_their_own_pods_only(overlay: str) -> None:
    pods = [one["spec"]["template"]["metadata"]["labels"] for one in _of(overlay, "Deployment")]

    def met(labels: dict[str, str]) -> int:
        return sum(labels.items() <= pod.items() for pod in pods)

    assert [met(one["spec"]["selector"]["matchLabels"]) for one in _of(overlay, "Deployment")] == [1] * len(
        pods
    )
    assert [met(one["spec"]["selector"]) for one in _of(overlay, "Service")] == [1] * len(pods)
    policies = [one["spec"]["podSelector"]["matchLabels"] for one in _of(overlay, "NetworkPolicy")]
    assert [met(labels) for labels in policies] == [1] * len(pods)
    (monitor,) = _of(overlay, "ServiceMonitor")
    services = [one["metadata"]["labels"] for one in _of(overlay, "Service")]
    wanted = monitor["spec"]["selector"]["matchLabels"]
    assert all(wanted.items() <= labels.items() for labels in services)
    assert monitor["spec"]["endpoints"][0]["port"] == "admin"


@pytest.mark.parametrize("pod", _pods())
def test_pods_keep_to_the_restricted_standard(pod: Manifest) -> None:
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
    assert kinds <= {"configMap", "secret", "persistentVolumeClaim"}


@pytest.mark.parametrize("pod", _pods())
def test_pods_suit_the_relay(pod: Manifest) -> None:
    (container,) = pod["containers"]
    # Variables that Kubernetes makes of Services begin like ours, and unknown ones are errors.
    assert pod["enableServiceLinks"] is False
    assert pod["terminationGracePeriodSeconds"] > General.model_fields["drain_seconds"].default + 1
    probes = {
        name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")
    }
    assert probes == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {"/var/lib/zoomrelay", "/etc/zoomrelay", "/run/secrets"}


@pytest.mark.parametrize("overlay", NAMES)
def test_the_configuration_is_one(overlay: str, tmp_path: Path) -> None:
    for manifest in _of(overlay, "ConfigMap"):
        _load(manifest["data"]["zoomrelay.toml"], tmp_path)


def _load(text: str, directory: Path) -> None:
    file = directory / "zoomrelay.toml"
    file.write_text(text)
    (directory / "sources.main.client_secret").write_text("secret")
    assert load(file, environ={}, secrets_directory=directory).config.sinks


def test_the_compose_file_names_what_there_is_and_shuts_the_relay_in(tmp_path: Path) -> None:
    given = yaml.safe_load((COMPOSE / "compose.yml").read_text())
    relay, prometheus = given["services"]["zoomrelay"], given["services"]["prometheus"]
    assert (COMPOSE / relay["build"] / "Dockerfile").exists()
    assert relay["read_only"] is True and relay["cap_drop"] == ["ALL"]
    assert relay["security_opt"] == ["no-new-privileges:true"]
    assert float(relay["stop_grace_period"].rstrip("s")) > General.model_fields["drain_seconds"].default + 1
    mounted = [volume.split(":")[0] for volume in relay["volumes"] + prometheus["volumes"]]
    assert all((COMPOSE / name).exists() for name in mounted if name.startswith("."))
    assert {name for name in mounted if not name.startswith(".")} == given["volumes"].keys()
    assert relay["secrets"] == list(given["secrets"])
    _load((COMPOSE / "zoomrelay.toml").read_text(), tmp_path)
    targets = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert targets[0]["static_configs"] == [{"targets": ["zoomrelay:9464"]}]


# --- the admin port's token, which stands there in comments -------------------------------------------

TOKEN = "admin.bearer_token"


def _uncommented(text: str) -> Any:
    return yaml.safe_load(re.sub(r"(?m)^( *)#(?=\S| {2,}\S)", r"\1", re.sub(r"(?m)^ *# \S.*$", "", text)))


def test_the_service_monitor_can_have_the_token() -> None:
    file = ROOT / "deploy/kubernetes/components/servicemonitor/servicemonitor.yaml"
    (endpoint,) = _uncommented(file.read_text())["spec"]["endpoints"]
    assert endpoint["authorization"] == {"credentials": {"name": "zoomrelay", "key": TOKEN}}
    assert (endpoint["port"], endpoint["path"]) == ("admin", "/metrics")


def test_both_services_of_compose_can_have_the_token() -> None:
    document = _uncommented((COMPOSE / "compose.yml").read_text())
    assert document["secrets"][TOKEN] == {"file": "./admin_token"}
    for service in ("zoomrelay", "prometheus"):
        assert TOKEN in document["services"][service]["secrets"]


def test_probes_ask_where_no_token_is_wanted() -> None:
    for pod in _pods():
        (container,) = pod.values[0]["containers"]
        probes = [container[kind] for kind in ("startupProbe", "livenessProbe", "readinessProbe")]
        assert {probe["httpGet"]["path"] for probe in probes} == {"/livez", "/readyz"}
