# launch/k8s: MPIJobs that the operator's schema takes, whose parts fit each other and the image, and whose commands run.
# labels: mpi
# sanitize: no
import json
import pathlib
import re
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import launching
import trireme

try:
    import yaml
except ImportError:
    trireme.skip("missing tool: yaml for Python (package python3-yaml)")

# The fields that the recipes use, with their types. MPIJob: the CRD mpijobs.kubeflow.org, version v2beta1, of Kubeflow's
# MPI operator, and what its validation.go asks for besides. Pods: core/v1 of Kubernetes' API. A set: the values allowed;
# a list of one: a list of such; "!": must be there. What is not named here is unknown, so a misspelt field fails.
QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|[KMGT]i?)?")
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
PATH = re.compile(r"/[^:]*")
USER = {"runAsNonRoot": bool, "runAsUser": int, "runAsGroup": int, "fsGroup": int}
SIZE = {"cpu": QUANTITY, "memory": QUANTITY}
CONTAINER = {"name!": NAME, "image!": str, "command": [str], "args": [str],
             "env": [{"name!": re.compile(r"[A-Za-z_][A-Za-z0-9_]*"), "value": str}],
             "resources": {"requests": SIZE, "limits": SIZE},
             "volumeMounts": [{"name!": NAME, "mountPath!": PATH, "readOnly": bool}]}
VOLUME = {"name!": NAME, "persistentVolumeClaim": {"claimName!": NAME, "readOnly": bool},
          "emptyDir": {"medium": {"", "Memory", "HugePages"}, "sizeLimit": QUANTITY},
          "hostPath": {"path!": PATH, "type": {"", "Directory", "DirectoryOrCreate"}}}
POD = {"spec!": {"securityContext": USER, "containers!": [CONTAINER], "volumes": [VOLUME]}}
REPLICA = {"replicas!": int, "restartPolicy": {"Never", "OnFailure"}, "template!": POD}
MPIJOB = {
    "apiVersion!": {"kubeflow.org/v2beta1"}, "kind!": {"MPIJob"}, "metadata!": {"name!": NAME},
    "spec!": {"slotsPerWorker": int, "runLauncherAsWorker": bool, "sshAuthMountPath": PATH,
              "launcherCreationPolicy": {"AtStartup", "WaitForWorkersReady"},
              "mpiImplementation": {"OpenMPI", "Intel", "MPICH"},
              "runPolicy": {"cleanPodPolicy!": {"None", "Running", "All"}, "backoffLimit": int,
                            "ttlSecondsAfterFinished": int, "activeDeadlineSeconds": int},
              "mpiReplicaSpecs!": {"Launcher!": REPLICA, "Worker": REPLICA}}}


def faults(value, schema, at):
    """What is wrong, a line each."""
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            return [f"{at}: not a mapping"]
        fields = {name.rstrip("!"): of for name, of in schema.items()}
        found = [f"{at}.{name}: unknown" for name in value if name not in fields]
        found += [f"{at}.{name[:-1]}: missing" for name in schema if name.endswith("!") and name[:-1] not in value]
        for name in value.keys() & fields.keys():
            found += faults(value[name], fields[name], f"{at}.{name}")
        return found
    if isinstance(schema, list):
        if not isinstance(value, list):
            return [f"{at}: not a list"]
        return [f for i, v in enumerate(value) for f in faults(v, schema[0], f"{at}[{i}]")]
    if isinstance(schema, type):
        return [] if type(value) is schema else [f"{at}: {value!r} is no {schema.__name__}"]
    if isinstance(schema, set):
        return [] if value in schema else [f"{at}: {value!r} is none of {sorted(schema)}"]
    return [] if isinstance(value, str) and schema.fullmatch(value) else [f"{at}: {value!r} is not as {schema.pattern}"]


def bytes_of(quantity):
    return int(quantity[:-2]) << {"Mi": 20, "Gi": 30}[quantity[-2:]]


def fits(job, name):
    """Mounts have volumes, memory for /dev/shm is within the limit, the user and the paths are those of the image."""
    spec = job["spec"]
    image = (trireme.SOURCE / "launch/container/Containerfile").read_text()
    home = spec["sshAuthMountPath"].removesuffix("/.ssh")
    assert re.search(rf"useradd .*--home-dir {home} ", image), f"{name}: keys in {home}, which is no home of the image"
    ranks = None
    for role in ("Launcher", "Worker"):
        pod = spec["mpiReplicaSpecs"][role]["template"]["spec"]
        (container,) = pod["containers"]
        assert re.search(rf"useradd .*--uid {pod['securityContext']['runAsUser']} ", image), f"{name}: the image's user"
        volumes = {v["name"]: v for v in pod["volumes"]}
        assert all(len(v) == 2 for v in volumes.values()), f"{name}: a volume is one thing: {volumes}"
        mounts = {m["mountPath"]: m["name"] for m in container["volumeMounts"]}
        assert set(mounts.values()) == set(volumes), f"{name}, {role}: {mounts} are not {list(volumes)}"
        shm = volumes[mounts["/dev/shm"]]["emptyDir"]
        assert shm["medium"] == "Memory", f"{name}: /dev/shm"
        limits = container["resources"]["limits"]
        assert bytes_of(shm["sizeLimit"]) < bytes_of(limits["memory"]), f"{name}: /dev/shm is larger than the pod"
        assert limits == container["resources"]["requests"] and limits["cpu"].isdigit(), f"{name}: not Guaranteed"
        if role == "Worker":
            assert container["command"] == ["/usr/sbin/sshd"] and container["args"][0] == "-De"
            assert f"COPY launch/container/sshd_config {container['args'][-1]}" in image, f"{name}: sshd's file"
            continue
        args = container["args"]
        ranks = spec["slotsPerWorker"]
        assert container["command"] == ["mpirun"] and f"ppr:{ranks}:node" in args, f"{name}: slots and --map-by"
        assert int(args[args.index("-t") + 1]) * ranks == int(limits["cpu"]), f"{name}: threads are not the CPU limit"
        paths = {"-m": "models", "--cache": "cache"}
        for option, volume in paths.items():
            if option in args:
                path = args[args.index(option) + 1]
                assert any(path.startswith(at) and v == volume for at, v in mounts.items()), f"{name}: {path}"
        if "--cache" in args: # both the weights and the secret they count under outlive the pods
            (owner,) = [e["value"] for e in container["env"] if e["name"] == "XDG_CACHE_HOME"]
            for path in (owner, args[args.index("--cache") + 1]):
                assert "hostPath" in volumes[mounts[path]], f"{name}: {path} ends with its pod"


def runs(job, name, tmp):
    """The command of the launcher, with a model of ours, on two ranks."""
    container = job["spec"]["mpiReplicaSpecs"]["Launcher"]["template"]["spec"]["containers"][0]
    args = container["args"]
    own = {"/models/model.gguf": str(trireme.DEFAULT_MODEL), "/cache": str(tmp), "8": "1", "4": "1",
           "512": "32", "128": "8"}
    args = [own.get(a, a) for a in args[args.index("trireme") + 1:]]
    env = launching.environment() | {e["name"]: e["value"].replace("/owner", f"{tmp}/owner") for e in container.get("env", [])}
    done = trireme.run(args, ranks=2, env=env)
    assert len(done.stdout) > 80, done.stdout
    print(f"{name}: trireme {' '.join(args)}: {len(done.stdout)} bytes")


def wrong(job):
    """Recipes as people get them wrong, and what must be said."""
    spec = job["spec"]
    launcher = spec["mpiReplicaSpecs"]["Launcher"]["template"]["spec"]
    for where, old, new, said in ((spec, "slotsPerWorker", "slotPerWorker", ".slotPerWorker: unknown"),
                                  (spec, "mpiReplicaSpecs", "replicaSpecs", ".mpiReplicaSpecs: missing"),
                                  (launcher["containers"][0], "volumeMounts", "volumes", "[0].volumes: unknown"),
                                  (launcher["volumes"][1]["emptyDir"], "medium", "type", ".type: unknown")):
        broken = where.pop(old)
        where[new] = broken
        found = faults(job, MPIJOB, "")
        assert any(f.endswith(said) for f in found), f"{old} as {new} was not found: {found}"
        where[old] = where.pop(new)
    for where, field, value in ((spec, "slotsPerWorker", "2"), (spec["runPolicy"], "cleanPodPolicy", "Always"),
                                (spec, "sshAuthMountPath", "root/.ssh"), (job, "apiVersion", "kubeflow.org/v1"),
                                (launcher["containers"][0]["resources"]["limits"], "memory", "24 GB"),
                                (launcher["containers"][0]["args"], 1, 512)):
        kept, where[field] = where[field], value
        assert len(faults(job, MPIJOB, "")) == 1, f"{field}: {value!r} was not found"
        where[field] = kept
    assert not faults(job, MPIJOB, "")


recipes = sorted((trireme.SOURCE / "launch/k8s").glob("*.yaml"))
assert [r.stem for r in recipes] == ["bench", "run"], recipes
for recipe in recipes:
    (job,) = yaml.safe_load_all(recipe.read_text())
    found = faults(job, MPIJOB, recipe.name)
    assert not found, "\n".join(found)
    fits(job, recipe.name)
    wrong(json.loads(json.dumps(job))) # an alias of the file is one object at two places: not so in the copy
    with tempfile.TemporaryDirectory() as tmp:
        runs(job, recipe.name, tmp)
