"""What a stored repository costs, against plain joblib and, where it is installed, MLflow's file store.

    python tests/benchmarks/bench_repository.py [--quick | --full] [--json FILE] [--directory DIRECTORY]

Publish and load: medians of megabytes a second and of milliseconds, for models of 1 KB and 10 MB, with --full also of
1 GB. A model is one array of random numbers, so that nothing can be compressed. ``joblib`` writes a file and says it is
done; ``joblib + fsync`` also sees to it that the file and its name are durable, which is the least that can be compared
with a repository. What was written was just written, so that reading finds it in memory: the cost of hashing shows.
``remote`` is ``RemoteModelRepository``, where its packages are installed: on this disk, and over HTTP against a server
of S3's protocol in this process, which is moto's and far from fast; with and without a cache.

The latest version: milliseconds to open a repository of 10, 1 000 and 100 000 versions and ask for its latest, and
microseconds to ask again. Their logs are written entry by entry, without waiting for the disk.

Memory: the most that a process of its own holds while it loads a model (100 MB, with --full 1 GB), in multiples of the
model's bytes. Two is the bytes and the model made of them.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import joblib  # noqa: E402  # the project's own root first
import numpy as np  # noqa: E402  # as above

from mlserve.clocks import ManualClock  # noqa: E402  # as above
from mlserve.records import ModelVersion  # noqa: E402  # as above
from mlserve.repositories import DirectoryModelRepository, NumpyFormat, PickleFormat  # noqa: E402  # as above
from mlserve.repositories._changes import State, version_body  # noqa: E402  # as above
from mlserve.repositories._documents import digest_of, sealed  # noqa: E402  # as above

KB, MB, GB = 10**3, 10**6, 10**9

MEMORY = """
import re, sys
sys.path.insert(0, sys.argv[1])

def most():
    with open("/proc/self/status") as status:
        return int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read())[1]) * 1024

from mlserve.repositories import DirectoryModelRepository
repository = DirectoryModelRepository(sys.argv[2])
version = repository.get_latest_version()
repository.load_model(repository.get_version("1"))
before = most()
model = repository.load_model(version)
print(before, most())
"""


def of_size(size: int) -> dict[str, Any]:
    return {"weights": np.random.default_rng(1).random(size // 8)}


def seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


# --------------------------------------------------------------------------------------------------- the contenders


class Repository:
    def __init__(self, directory: Path, **options: Any) -> None:
        self.repository = DirectoryModelRepository(directory, **options)
        self.version: ModelVersion | None = None

    def publish(self, model: Any) -> None:
        self.version = self.repository.register(model)

    def load(self) -> Any:
        return self.repository.load_model(self.version)


class Remote(Repository):
    """A repository behind a URL, with a cache where a directory for it is given."""

    def __init__(self, url: str, **options: Any) -> None:
        from mlserve.integrations.remote import RemoteModelRepository

        self.repository = RemoteModelRepository(url, formats=[NumpyFormat()], **options)
        self.version = None


def s3_options() -> dict[str, Any]:
    """How a server of S3's protocol is reached that runs in this process until it ends."""
    import s3fs
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"key": "any", "secret": "any", "endpoint_url": f"http://{host}:{port}"}
    s3fs.S3FileSystem(**options).mkdir("models")
    return options


class Joblib:
    def __init__(self, directory: Path, durable: bool) -> None:
        directory.mkdir()
        self.directory, self.durable, self.count = directory, durable, 0

    def publish(self, model: Any) -> None:
        self.count += 1
        path = self.directory / f"{self.count}.joblib"
        with path.open("wb") as file:
            joblib.dump(model, file)
            if self.durable:
                file.flush()
                os.fsync(file.fileno())
        if self.durable:
            handle = os.open(self.directory, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)

    def load(self) -> Any:
        return joblib.load(self.directory / f"{self.count}.joblib")


class Mlflow:
    """A registered version in MLflow's file store: a pyfunc model whose array is an artifact of joblib."""

    def __init__(self, directory: Path) -> None:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        import mlflow.pyfunc

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        self.mlflow, self.directory, self.version = mlflow, directory, ""
        mlflow.set_tracking_uri(directory.as_uri())
        mlflow.set_experiment("benchmark")

        class Wrapper(mlflow.pyfunc.PythonModel):
            # Without annotations: MLflow would take them for a signature.
            def load_context(self, context):
                self.model = joblib.load(context.artifacts["model"])

            def predict(self, context, model_input, params=None):
                return model_input

        self.wrapper = Wrapper()

    def publish(self, model: Any) -> None:
        path = self.directory.with_suffix(".joblib")
        joblib.dump(model, path)
        with self.mlflow.start_run():
            logged = self.mlflow.pyfunc.log_model(
                name="model",
                python_model=self.wrapper,
                artifacts={"model": str(path)},
                pip_requirements=["joblib"],
                registered_model_name="benchmark",
            )
        self.version = str(logged.registered_model_version)

    def load(self) -> Any:
        return self.mlflow.pyfunc.load_model(f"models:/benchmark/{self.version}")


def contenders(directory: Path, label: str, s3: dict[str, Any] | None) -> dict[str, Callable[[], Any]]:
    made: dict[str, Callable[[], Any]] = {
        "directory, npz": lambda: Repository(directory / "npz", formats=[NumpyFormat()]),
        "directory, pickle": lambda: Repository(directory / "pickle", formats=[PickleFormat()], trust=True),
        "joblib": lambda: Joblib(directory / "joblib", durable=False),
        "joblib + fsync": lambda: Joblib(directory / "durable", durable=True),
    }
    try:
        import mlserve.integrations.remote  # noqa: F401  # only to see whether its package is there
    except ImportError:
        print("fsspec is not installed and left out: pip install 'mlserve[remote]'")
    else:
        made["remote, file"] = lambda: Remote((directory / "remote").as_uri())
    if s3 is not None:
        made["remote, s3"] = lambda: Remote(f"s3://models/{label}", storage_options=s3)
        cache = directory / "cache"
        made["remote, s3, cached"] = lambda: Remote(
            f"s3://models/cached {label}", storage_options=s3, cache_directory=cache
        )
    try:
        import mlflow.pyfunc  # noqa: F401  # only to see whether it is there
    except ImportError:
        print("MLflow is not installed and left out: pip install mlflow-skinny pandas")
    else:
        made["MLflow file store"] = lambda: Mlflow(directory / f"mlflow {label}")
    return made


def throughput(directory: Path, sizes: list[int], quick: bool) -> dict[str, dict[str, float]]:
    figures: dict[str, dict[str, float]] = {}
    try:
        s3 = s3_options()
    except ImportError:
        print("s3fs or moto is not installed and left out: pip install s3fs 'moto[s3]' flask flask-cors")
        s3 = None
    print(f"\n{'':22}{'':10}{'publish ms':>14}{'MB/s':>10}{'load ms':>14}{'MB/s':>10}")
    for size in sizes:
        rounds = {KB: 50, 10 * MB: 15}.get(size, 3)
        rounds = max(3, rounds // 5) if quick else rounds
        model = of_size(size)
        label = {KB: "1 KB", 10 * MB: "10 MB", GB: "1 GB"}[size]
        for name, make in contenders(directory, label, s3).items():
            contender = make()
            contender.publish(model)
            contender.load()
            publish = [seconds(lambda one=contender, model=model: one.publish(model)) for _ in range(rounds)]
            load = [seconds(contender.load) for _ in range(rounds)]
            row = {"publish_ms": statistics.median(publish) * 1e3, "load_ms": statistics.median(load) * 1e3}
            rates = [size / MB / row[f"{what}_ms"] * 1e3 for what in ("publish", "load")]
            figures[f"{name}, {label}"] = row
            print(
                f"{name:22}{label:>10}{row['publish_ms']:14.2f}{rates[0]:10.1f}{row['load_ms']:14.2f}{rates[1]:10.1f}"
            )
            for path in directory.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    return figures


# ----------------------------------------------------------------------------------------------- the latest version


def write_log(directory: Path, count: int) -> None:
    """The log of a repository in which so many versions were registered and activated, without their files."""
    clock = ManualClock()
    DirectoryModelRepository(directory, clock=clock)
    previous, state = "", State()
    common = {"actor": "benchmark", "at": clock.now().isoformat(), "detail": "", "evidence": {}, "reason": ""}
    latest: dict[str, Any] | None = None
    for number in range(1, count + 1):
        version = version_body(ModelVersion(str(number), clock.now(), f"sha256:{number:064d}"))
        for action in ("register", "activate"):
            if action == "activate":
                latest = version
            body = {
                **common,
                "action": action,
                "data": {"version": version} if action == "register" else {},
                "generation": state.generation + 1,
                "latest": latest,
                "previous": previous,
                "version_id": str(number),
            }
            data = sealed("entry", body)
            previous = digest_of(data)
            state.apply(body, previous, "log")
            (directory / "log" / f"{state.generation:012d}.json").write_bytes(data)
    checkpoint = sealed("checkpoint", state.to_body())
    (directory / "checkpoints" / f"{state.generation:012d}.json").write_bytes(checkpoint)
    (directory / "CURRENT").write_text(f"{state.generation}\n")


def latest(directory: Path, counts: list[int], quick: bool) -> dict[str, dict[str, float]]:
    figures: dict[str, dict[str, float]] = {}
    print(
        f"\n{'versions':>10}{'open and ask, ms':>20}{'without the hint, ms':>24}{'ask again, µs':>16}{'list 2, ms':>14}"
    )
    for count in counts:
        path = directory / f"log-{count}"
        write_log(path, count)
        rounds = 20 if quick else 200

        def cold(path: Path = path) -> DirectoryModelRepository[Any]:
            repository = DirectoryModelRepository(path)
            repository.get_latest_version()
            return repository

        repository = cold()
        warm = [seconds(repository.get_latest_version) for _ in range(rounds * 10)]
        with_hint = [seconds(cold) for _ in range(rounds)]
        listed = [seconds(lambda path=path: DirectoryModelRepository(path).get_active_versions(2)) for _ in range(3)]
        (path / "CURRENT").unlink()
        without_hint = [seconds(cold) for _ in range(rounds)]
        row = {
            "open_ms": statistics.median(with_hint) * 1e3,
            "open_without_hint_ms": statistics.median(without_hint) * 1e3,
            "ask_us": statistics.median(warm) * 1e6,
            "list_two_ms": statistics.median(listed) * 1e3,
        }
        figures[str(count)] = row
        print(
            f"{count:10}{row['open_ms']:20.3f}{row['open_without_hint_ms']:24.3f}{row['ask_us']:16.1f}"
            f"{row['list_two_ms']:14.2f}"
        )
        shutil.rmtree(path)
    return figures


# -------------------------------------------------------------------------------------------------------- the memory


def memory(directory: Path, size: int) -> dict[str, float]:
    if not Path("/proc/self/status").exists():
        print("\nthe memory of a process is read from /proc, which is not here: left out")
        return {}
    path = directory / "memory"
    repository = DirectoryModelRepository(path)
    repository.register(of_size(KB), activate=False)
    repository.register(of_size(size))
    del repository
    output = subprocess.run(
        [sys.executable, "-c", MEMORY, str(ROOT), str(path)], capture_output=True, text=True, check=True
    ).stdout
    before, after = (int(word) for word in output.split())
    shutil.rmtree(path)
    figures = {"model_bytes": float(size), "most_over_model": (after - before) / size}
    print(f"\nloading {size / MB:.0f} MB takes at most {figures['most_over_model']:.2f} times its bytes")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, at most 1 000 versions")
    parser.add_argument("--full", action="store_true", help="also models of 1 GB")
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--directory", help="where to write; default: a new directory for temporary files")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        directory = Path(name)
        figures = {
            "throughput": throughput(directory, [KB, 10 * MB, *([GB] if options.full else [])], options.quick),
            "latest": latest(directory, [10, 1_000, *([] if options.quick else [100_000])], options.quick),
            "memory": memory(directory, GB if options.full else 100 * MB),
        }
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)


if __name__ == "__main__":
    main()
