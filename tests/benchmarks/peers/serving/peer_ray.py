"""Ray Serve: handles in process, and its server. Run with a port, this module is that server."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import ray
from peer_case import CONSTANT, Call, Door, Row, Server, logistic, second
from ray import serve

BATCH = 64
BATCH_SECONDS = 0.001
MEMORY = 128 * 1024**2
HAPROXY_SECONDS = 8.0
FAST = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
OPTIONS: dict[str, Any] = {
    "max_ongoing_requests": 1_000,
    "ray_actor_options": {"num_cpus": 0.5},
    "logging_config": {"enable_access_log": False},
}


@serve.deployment(**OPTIONS)
class Constant:
    async def __call__(self, x: Any) -> float:
        return CONSTANT


@serve.deployment(**OPTIONS)
class Logistic:
    def __init__(self) -> None:
        self.model = logistic()

    async def __call__(self, x: Any) -> Row:
        return self.model.predict_proba(x)


@serve.deployment(**OPTIONS)
class Asked:
    def __init__(self) -> None:
        self.model = logistic()

    async def __call__(self, request: Any) -> list[float]:
        return self.model.predict_proba(np.array([await request.json()]))[0].tolist()


@serve.deployment(**OPTIONS)
class AskedInBatches:
    def __init__(self) -> None:
        self.model = logistic()

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=BATCH_SECONDS)
    async def many(self, rows: list[Any]) -> list[list[float]]:
        return self.model.predict_proba(np.array(rows)).tolist()

    async def __call__(self, request: Any) -> list[float]:
        return await self.many(await request.json())


def refused() -> str | None:
    """Why no Ray is started here, or None. It opens some twenty ports, most of them on every address, and has no
    setting that keeps all of them to the loopback interface."""
    if [name for _, name in socket.if_nameindex()] == ["lo"]:
        return None
    return "Ray is started only where there is no interface but loopback; README.md tells how"


def started() -> None:
    ray.init(
        num_cpus=2,
        object_store_memory=MEMORY,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _node_ip_address="127.0.0.1",
    )


def calls(model: str) -> list[Call]:
    """The local testing mode, which needs no Ray running."""
    deployment = Constant if model == "constant" else Logistic
    handle = serve.run(deployment.bind(), _local_testing_mode=True)
    read = float if model == "constant" else second
    return [Call("Ray Serve, local testing mode", lambda row: row[None], lambda x: handle.remote(x).result(), read)]


def remote_calls(model: str) -> list[Call]:
    """A handle of a replica, which is another process."""
    if not ray.is_initialized():
        started()
        serve.start(proxy_location="Disabled")
    deployment = Constant if model == "constant" else Logistic
    handle = serve.run(deployment.bind(), name=model, route_prefix=None)
    read = float if model == "constant" else second
    name = "Ray Serve, handle, replica in another process"
    return [Call(name, lambda row: row[None], lambda x: handle.remote(x).result(), read)]


def stopped() -> None:
    serve.shutdown()
    ray.shutdown()


def servers() -> list[Server]:
    """Ray's own HTTP proxy, and the HAProxy that comes with it."""

    def command(port: int, directory: Path) -> list[str]:
        return [sys.executable, __file__, str(port)]

    return [
        Server(
            command,
            [
                Door(f"Ray Serve, {proxy}, {title}", path, lambda row: row.tolist(), lambda found: found[1])
                for path, title in (("/batched", "batched"), ("/plain", "not batched"))
            ],
            environment,
            settle_seconds,
        )
        for proxy, environment, settle_seconds in (
            ("own proxy", FAST, 0.0),
            ("HAProxy", {**FAST, "RAY_SERVE_ENABLE_HA_PROXY": "1"}, HAPROXY_SECONDS),
        )
    ]


def main() -> None:
    leave = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: leave.set())
    started()
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(AskedInBatches.bind(), name="batched", route_prefix="/batched")
    serve.run(Asked.bind(), name="plain", route_prefix="/plain")
    leave.wait()
    stopped()


if __name__ == "__main__":
    main()
