"""What ``deploy/`` says is what the programs understand: flags, variables, files, sizes, names.

No container runs here: tested is that the files are well formed, and fit each other and the code.
"""

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dreamrelay.cli import COMMANDS
from dreamrelay.config import SECTIONS, Settings
from dreamrelay.errors import ConfigError
from tests.support import ROOT

DEPLOY = ROOT / "deploy"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file())
TEXTS = {path.relative_to(DEPLOY).as_posix(): path.read_text(encoding="utf-8") for path in FILES}
COMPOSE = ("compose.yaml", "compose.scale.yaml")
MANIFESTS = [doc for doc in yaml.safe_load_all(TEXTS["kubernetes.yaml"]) if doc]
OF_SECTION: dict[str, type[Settings]] = {settings.section: settings for settings in SECTIONS}
ELSEWHERE = {  # of the files themselves, and of the programs beside their settings
    *("DREAMRELAY_USER", "DREAMRELAY_BIND", "DREAMRELAY_NAME", "DREAMRELAY_MODEL"),
    *("DREAMRELAY_MODELS", "DREAMRELAY_CONFIG", "DREAMRELAY_CACHE"),
}


def services(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(TEXTS[name])["services"]
    return found


def filled(text: str) -> str:
    """With what compose puts in: ``${NAME:-default}`` its default, else a word."""
    return re.sub(r"\$\{\w+(?::-([^}]*)|:\?[^}]*)?\}", lambda m: m[1] or "filled.example", text)


def containers() -> Iterator[tuple[str, dict[str, Any], dict[str, str]]]:
    """Name, container and pod's own labels of each in the manifests."""
    for doc in MANIFESTS:
        if doc["kind"] == "Deployment":
            template = doc["spec"]["template"]
            for container in template["spec"]["containers"]:
                yield doc["metadata"]["name"], container, template["metadata"]["labels"]


def started() -> Iterator[tuple[str, list[str], dict[str, str]]]:
    """Where, arguments and variables of each of our programs that is started."""
    for file in COMPOSE:
        for name, service in services(file).items():
            if str(service["image"]).startswith("dreamrelay:"):
                variables = service["environment"]
                yield f"{file}: {name}", [filled(w) for w in service["command"]], variables
    for name, container, _ in containers():
        if "dreamrelay:" in container["image"]:
            variables = {pair["name"]: pair["value"] for pair in container["env"]}
            yield f"kubernetes.yaml: {name}", container["args"], variables
    for line in re.findall(r"^CMD (\[.*\])$", TEXTS["Dockerfile"], re.M):
        yield "Dockerfile", yaml.safe_load(line), {}
    for file in ("dreamrelay-relay.service", "dreamrelay-worker@.service"):
        line = re.findall(r"^ExecStart=\S+ -m dreamrelay (.*)$", TEXTS[file], re.M)[0]
        yield file, line.split(), {}


STARTED = list(started())


@pytest.mark.parametrize(("where", "words", "variables"), STARTED, ids=[s[0] for s in STARTED])
def test_every_flag_and_variable_is_known(
    where: str, words: list[str], variables: dict[str, str]
) -> None:
    settings = COMMANDS[words[0]][0]
    flags = dict(word.removeprefix("--").partition("=")[::2] for word in words[1:])
    given = {flag: "True" if f"--{flag}" in words else value for flag, value in flags.items()}
    environ = {k: filled(v) for k, v in variables.items() if k != "DREAMRELAY_CONFIG"}
    settings.load(given, environ=environ)
    for name, value in environ.items():  # those of other programs as well
        section = name.split("_")[1].lower()
        OF_SECTION[section].load({}, environ={name: value})


def test_there_is_something_to_check() -> None:
    assert len(STARTED) == 13
    with pytest.raises(ConfigError, match="no such setting"):
        test_every_flag_and_variable_is_known("", ["relay", "--behind_proxi"], {})
    with pytest.raises(ConfigError, match="no such setting"):
        test_every_flag_and_variable_is_known("", ["relay"], {"DREAMRELAY_RELAY_PROT": "1"})


@pytest.mark.parametrize("name", TEXTS)
def test_every_variable_of_ours_is_known_wherever_it_stands(name: str) -> None:
    for variable in set(re.findall(r"DREAMRELAY_[A-Z_]*[A-Z]", TEXTS[name])) - ELSEWHERE:
        section, _, setting = variable.removeprefix("DREAMRELAY_").lower().partition("_")
        settings = OF_SECTION[section]
        known = {*settings.model_fields, *settings.aliases}
        assert setting in known, f"{name}: {variable}"


@pytest.mark.parametrize("name", ["relay.toml", "worker.toml"])
def test_examples_of_secrets_are_settings(name: str) -> None:
    path = DEPLOY / "secrets" / f"{name}.example"
    settings = OF_SECTION[name.removesuffix(".toml")]
    table = tomllib.loads(path.read_text(encoding="utf-8"))[settings.section]
    assert settings.load({}, environ={}, path=path) == settings.load({}, environ={})
    assert all(field.endswith("token") for field in table)
    long = {field: "0123456789abcdef0" for field in table}
    settings.load(long, environ={})


def test_no_secret_lies_here() -> None:
    assert {
        path.name for path in (DEPLOY / "secrets").iterdir() if ".example" not in path.name
    } <= {
        ".gitignore",
        # Somebody's own, which git does not see.
        *("relay.toml", "worker.toml", "nats.env", "cert.pem", "key.pem"),
    }
    for name, text in TEXTS.items():
        if name.startswith("secrets/") and not name.endswith(".example"):
            continue
        assert not re.search(r"token\s*=\s*\"[^\"]+\"|TOKEN:\s*\S|TOKEN=.{8}|PRIVATE KEY", text), (
            name
        )


@pytest.mark.parametrize("name", COMPOSE)
def test_what_compose_names_is_there(name: str) -> None:
    content = yaml.safe_load(TEXTS[name])
    targets = set(re.findall(r"^FROM \S+ AS (\w+)$", TEXTS["Dockerfile"], re.M))
    for file in content["secrets"].values():
        example = DEPLOY / f"{file['file']}.example"
        assert example.exists() or file["file"].endswith(".pem"), file
    for service in content["services"].values():
        if "build" in service:
            build = service["build"]
            assert (DEPLOY / build["context"]).resolve() == ROOT
            assert (ROOT / build["dockerfile"]).is_file()
            assert build["target"] in targets
            assert service["image"] == f"dreamrelay:{build['target']}"
        assert set(service.get("secrets", ())) <= set(content["secrets"])
        assert set(service.get("networks", ())) <= set(content.get("networks", ()))
        assert set(service.get("depends_on", ())) <= set(content["services"])
        for file in service.get("env_file", ()):
            assert (DEPLOY / f"{file}.example").is_file()
        for volume in service.get("volumes", ()):
            source = str(volume).split(":")[0]
            if source.startswith("./"):
                assert (DEPLOY / source).is_file(), source


@pytest.mark.parametrize("name", COMPOSE)
def test_every_container_of_compose_is_shut(name: str) -> None:
    for service in services(name).values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["user"]


def test_one_relay_is_open_to_this_machine_only_unless_told() -> None:
    ports = [filled(p) for s in services("compose.yaml").values() for p in s.get("ports", ())]
    assert ports == ["127.0.0.1:8765:8765"]


def test_workers_on_one_machine_have_a_card_each() -> None:
    cards = [
        service["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"]
        for name, service in services("compose.scale.yaml").items()
        if name.startswith("worker")
    ]
    assert cards == [["0"], ["1"]]


def test_every_pod_is_shut_and_has_its_bounds() -> None:
    for doc in MANIFESTS:
        if doc["kind"] == "Deployment":
            spec = doc["spec"]["template"]["spec"]
            assert spec["securityContext"]["runAsNonRoot"] is True
            assert spec["automountServiceAccountToken"] is False
            assert spec["enableServiceLinks"] is False
    for name, container, labels in containers():
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
        assert labels == {"app": name}
        assert ("readinessProbe" in container) == (name != "worker")


def test_manifests_fit_each_other() -> None:
    by_kind: dict[str, dict[str, Any]] = {}
    for doc in MANIFESTS:
        by_kind.setdefault(doc["kind"], {})[doc["metadata"]["name"]] = doc
        assert doc["kind"] == "Namespace" or doc["metadata"]["namespace"] == "dreamrelay"
    deployments = by_kind["Deployment"]
    made = yaml.safe_load(TEXTS["kustomization.yaml"])
    secrets = {one["name"] for one in made["secretGenerator"]}
    for name, doc in deployments.items():
        spec = doc["spec"]["template"]["spec"]
        assert doc["spec"]["selector"]["matchLabels"] == {"app": name}
        mounts = {m["name"] for c in spec["containers"] for m in c["volumeMounts"]}
        assert mounts == {volume["name"] for volume in spec["volumes"]}
        for volume in spec["volumes"]:
            if "secret" in volume:
                assert volume["secret"]["secretName"] in secrets
            if "configMap" in volume:
                assert volume["configMap"]["name"] in {
                    m["name"] for m in made["configMapGenerator"]
                }
            if "persistentVolumeClaim" in volume:
                claim = volume["persistentVolumeClaim"]["claimName"]
                assert claim in by_kind["PersistentVolumeClaim"]
        for container in spec["containers"]:
            known = {port["name"] for port in container.get("ports", ())}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if probe in container:
                    assert container[probe]["httpGet"]["port"] in known
    for service in by_kind["Service"].values():
        assert service["spec"]["selector"]["app"] in deployments
    for policy in by_kind["NetworkPolicy"].values():
        app = policy["spec"]["podSelector"].get("matchLabels", {}).get("app")
        assert app is None or app in deployments
    scaled = by_kind["HorizontalPodAutoscaler"]["relay"]["spec"]["scaleTargetRef"]
    assert scaled["name"] in deployments


def test_what_kustomize_gathers_is_there() -> None:
    made = yaml.safe_load(TEXTS["kustomization.yaml"])
    for file in made["resources"]:
        assert (DEPLOY / file).is_file()
    for one in (*made["configMapGenerator"], *made["secretGenerator"]):
        for entry in (*one.get("files", ()), *one.get("envs", ())):
            file = entry.rpartition("=")[2]
            assert (DEPLOY / file).is_file() or (DEPLOY / f"{file}.example").is_file(), file


def test_relays_send_no_letter_that_nats_refuses() -> None:
    found = re.search(r"^max_payload: (\d+)MB", TEXTS["nats.conf"], re.M)
    assert found is not None
    sizes = {
        float(variables["DREAMRELAY_RELAY_MAX_MESSAGE_MB"])
        for where, words, variables in STARTED
        if "DREAMRELAY_RELAY_BACKPLANE" in variables
    }
    assert sizes == {7.0}
    assert max(sizes) * 2**20 + 64 * 1024 <= int(found[1]) * 2**20  # a letter's head is more


def test_the_dockerfile_takes_what_is_there_and_what_the_tests_run_with() -> None:
    let_in = {line[1:] for line in TEXTS["Dockerfile.dockerignore"].splitlines() if line[:1] == "!"}
    copied = re.findall(r"^COPY (.*) \S+$", TEXTS["Dockerfile"], re.M)
    assert {word for line in copied for word in line.split()} == let_in
    for word in let_in:
        assert list(ROOT.glob(word)), word
    pinned = re.findall(r"^nats-py==\S+", (ROOT / "requirements-dev.txt").read_text(), re.M)
    assert pinned
    assert pinned[0] in TEXTS["Dockerfile"]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for line in re.findall(r"\"\.\[([a-z,]+)\]\"", TEXTS["Dockerfile"]):
        assert set(line.split(",")) <= set(extras)
    assert TEXTS["Dockerfile"].count("USER 10001:10001") == 3


def test_nats_takes_its_settings(tmp_path: Path) -> None:
    server = shutil.which("nats-server")
    assert server is not None, "nats-server is needed: apt install nats-server"
    told = [server, "-t", "-c", str(DEPLOY / "nats.conf")]
    plain = {k: v for k, v in os.environ.items() if k != "NATS_TOKEN"}
    fine = subprocess.run(told, env={**plain, "NATS_TOKEN": "n0123456789"}, timeout=60, check=False)
    assert fine.returncode == 0
    without = subprocess.run(told, env=plain, capture_output=True, timeout=60, check=False)
    assert without.returncode != 0
    assert b"NATS_TOKEN" in without.stderr
