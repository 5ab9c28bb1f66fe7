"""Holds Dockerfile, compose file and manifests to the binary that they run and to each other.

What a schema cannot know: that a variable which is set is one that the spec or the binary reads, that
each one which the spec needs is set, that ports, probes, groups, topics, users and mounted files are those
of the code. May not live here: anything about Kubernetes or compose as such, which schemas say.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib

import compose_spec
import yaml

REPO = pathlib.Path(__file__).resolve().parents[2]
SPEC = REPO / "deploy/specs/attention-oracle.toml"
COMPOSE = REPO / "deploy/compose/compose.yaml"
wrong = []


def must(holds, sentence):
    if not holds:
        wrong.append(sentence)


def text(path):
    return (REPO / path).read_text()


def documents(path):
    return [document for document in yaml.safe_load_all(text(path)) if document]


def of_kind(path, kind):
    return next(document for document in documents(path) if document["kind"] == kind)


def sources():
    return "\n".join(path.read_text() for path in (REPO / "pipeline/src").rglob("*.rs"))


def variables():
    """The spec's variables: those without a default, and all."""
    lines = [line for line in SPEC.read_text().splitlines() if not line.strip().startswith("#")]
    found = re.findall(r"\$\{(\w+)(:-[^}]*)?\}", "\n".join(lines))
    return {name for name, default in found if not default}, {name for name, _ in found}


def spec():
    """The spec with its defaults, and with 0 for what has none: only names are read from it."""
    filled = re.sub(r"\$\{\w+(?::-([^}]*))?\}", lambda m: m.group(1) or "", SPEC.read_text())
    return tomllib.loads(filled)


def check_environment(where, names, code):
    needed, known = variables()
    known |= set(re.findall(r'"(SEMEL_\w+)"', code))
    for name in sorted(set(names) - known):
        must(False, f"{where} sets {name}, which neither the spec nor the binary reads")
    for name in sorted(needed - set(names)):
        must(False, f"{where} does not set {name}, which the spec needs")


def check_dockerfile(code):
    lines = text("Dockerfile")
    env = re.search(r"^ENV (.*?[^\\])$", lines, re.S | re.M).group(1)
    names = dict(pair.split("=", 1) for pair in env.replace("\\\n", " ").split())
    _, known = variables()
    known |= set(re.findall(r'"(SEMEL_\w+)"', code))
    for name in sorted(set(names) - known):
        must(False, f"Dockerfile sets {name}, which neither the spec nor the binary reads")
    port = names["METRICS_LISTEN"].rsplit(":", 1)[1]
    must(f"\nEXPOSE {port}\n" in lines, f"Dockerfile does not expose {port}, where it serves metrics")
    uid = re.search(r"useradd --uid (\d+)", lines).group(1)
    must(f"\nUSER {uid}:{uid}\n" in lines, f"Dockerfile does not run as its user {uid}")
    rust = re.search(r"^ARG RUST=(.*)$", lines, re.M).group(1)
    want = tomllib.loads(text("Cargo.toml"))["workspace"]["package"]["rust-version"]
    must(rust.startswith(want), f"Dockerfile builds with Rust {rust}, Cargo.toml asks for {want}")
    command = json.loads(re.search(r"^CMD (.*)$", lines, re.M).group(1))
    check_command("Dockerfile", command)
    return port, uid


def check_command(where, command):
    """The image holds deploy/specs as /etc/semel, and the command knows its words."""
    first = command[0]
    words = {"run", "devnet", "keygen", "check"}
    must(first in words, f"{where} runs `semel {first}`")
    for word in command[1:]:
        if word.startswith("/etc/semel/"):
            file = REPO / "deploy/specs" / word.removeprefix("/etc/semel/")
            must(file.exists(), f"{where} runs {word}, which is not in deploy/specs")
        if word.startswith("--"):
            flag = word.removeprefix("--").split("=", 1)[0].replace("-", "_")
            there = text(f"pipeline/src/cli/{first}.rs")
            must(re.search(rf"\b{flag}\b|long = \"{flag}\"", there), f"{where}: `semel {first}` has no {word}")


def check_compose(code, port):
    compose = yaml.safe_load(COMPOSE.read_text())
    try:
        # Written anew, with what `<<` brings in: this reader takes no merges.
        compose_spec.PyCompose.from_yaml(yaml.safe_dump(compose)).to_spec()
    except ValueError as error:
        must(False, f"compose.yaml is not what the compose specification asks for: {error}")
    services = compose["services"]
    check_environment("compose.yaml, service semel", services["semel"]["environment"], code)
    for name in ("semel", "devnet", "keys"):
        check_command(f"compose.yaml, service {name}", services[name].get("command", ["run"]))
    for name, service in services.items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                file = (COMPOSE.parent / source).resolve()
                must(file.is_file(), f"compose.yaml, service {name} mounts {source}, which is no file")
            elif ":" in volume:
                must(source in compose["volumes"], f"compose.yaml has no volume {source}")
        for publish in service.get("ports", []):
            must(publish.startswith("127.0.0.1:"), f"compose.yaml, service {name} opens {publish} to everybody")
        for other in service.get("depends_on", []):
            must(other in services, f"compose.yaml, service {name} waits for {other}")
    scrape = yaml.safe_load(text("deploy/compose/prometheus.yml"))["scrape_configs"][0]
    must(scrape["job_name"] == "semel", "prometheus.yml: the alert SemelDown is about the job semel")
    found = scrape["dns_sd_configs"][0]
    must(str(found["port"]) == port, f"prometheus.yml asks port {found['port']}, metrics are at {port}")
    must(found["names"] == ["semel"], "prometheus.yml asks for another service than semel")


def probes(container):
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        yield name, container[name]["httpGet"]


def check_manifests(code, port, uid):
    file = "deploy/kubernetes/semel.yaml"
    pod = of_kind(file, "StatefulSet")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    env = {entry["name"]: entry.get("value") for entry in container["env"]}
    config = of_kind(file, "ConfigMap")
    check_environment("semel.yaml", [*env, *config["data"]], code)
    must(container["envFrom"] == [{"configMapRef": {"name": config["metadata"]["name"]}}],
         "semel.yaml: the container does not read its ConfigMap")
    ports = {entry["name"]: str(entry["containerPort"]) for entry in container["ports"]}
    must(env["METRICS_LISTEN"].endswith(f":{ports['metrics']}"), "semel.yaml: METRICS_LISTEN is another port")
    must(ports["metrics"] == port, f"semel.yaml: the port is not the image's {port}")
    service = of_kind(file, "Service")["spec"]["ports"][0]
    must(service["targetPort"] in ports, "semel.yaml: the service leads to no port of the container")
    routes = set(re.findall(r'\.route\("([^"]+)"', text("pipeline/src/telemetry/server.rs")))
    for name, get in probes(container):
        must(get["path"] in routes, f"semel.yaml: {name} asks {get['path']}; served are {sorted(routes)}")
        must(get["port"] in ports, f"semel.yaml: {name} asks a port that is not the container's")
    must(str(pod["securityContext"]["runAsUser"]) == uid, "semel.yaml runs as another user than the image")
    drain = int(re.search(r"DRAIN_MAX: Duration = Duration::from_secs\((\d+)\)", code).group(1))
    must(pod["terminationGracePeriodSeconds"] > drain, f"semel.yaml: a process gives itself {drain} s to end")
    check_command("semel.yaml", container["args"])
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    for name in ("SEMEL_DATA", "SETTLEMENT_KEYPAIR"):
        must(any(env[name].startswith(mount + "/") for mount in mounts), f"semel.yaml: {name} is on no volume")


def check_keda():
    found = of_kind("deploy/kubernetes/keda.yaml", "ScaledObject")["spec"]
    must(found["scaleTargetRef"] == {"kind": "StatefulSet", "name": "semel"}, "keda.yaml scales nothing")
    pipeline = spec()
    name = pipeline["pipeline"]["name"]
    stages = {f"semel.{name}.{s['name']}": f"{name}.{s['input']}" for s in pipeline["stage"]}
    asked = {t["metadata"]["consumerGroup"]: t["metadata"]["topic"] for t in found["triggers"]}
    must(asked == stages, f"keda.yaml asks for {asked}; the stages' groups and topics are {stages}")
    most = pipeline["pipeline"]["partitions"]
    must(found["maxReplicaCount"] <= most, f"keda.yaml starts more processes than the {most} partitions")


def check_dashboard():
    """Every panel's question is one that Prometheus can read."""
    panels = json.loads(text("deploy/grafana/semel.json"))["panels"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    must(len(asked) > 20, f"semel.json asks {len(asked)} questions")
    rules = [{"record": f"panel:{n}", "expr": expr} for n, expr in enumerate(asked)]
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}, file)
        file.flush()
        told = subprocess.run(["promtool", "check", "rules", file.name], capture_output=True, text=True)
    must(told.returncode == 0, f"semel.json: {told.stdout}{told.stderr}")


def main():
    code = sources()
    port, uid = check_dockerfile(code)
    check_compose(code, port)
    check_manifests(code, port, uid)
    check_keda()
    check_dashboard()
    for sentence in wrong:
        print(f"deploy/lint/check.py: {sentence}", file=sys.stderr)
    if not wrong:
        print("Dockerfile, compose file and manifests name what there is")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
