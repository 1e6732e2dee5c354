"""LitServe: a server, and nothing in process. Run with a port, this module is that server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import litserve
import numpy as np
from peer_case import Door, Row, Server, logistic

BATCH = 64
BATCH_SECONDS = 0.001


class Logistic(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.model = logistic()

    def decode_request(self, request):  # a type here would be looked for in the web framework
        return np.array(request["input"])

    def predict(self, x: Row) -> Row:
        if x.ndim == 1:
            return self.model.predict_proba(x[None])[0]
        return self.model.predict_proba(x)

    def encode_response(self, output: Row) -> dict[str, Any]:
        return {"output": output.tolist()}


def servers() -> list[Server]:
    def command(port: int, directory: Path) -> list[str]:
        return [sys.executable, __file__, str(port)]

    served = Server(
        command,
        [
            Door(f"LitServe, {title}", path, lambda row: {"input": row.tolist()}, lambda found: found["output"][1])
            for path, title in (("/batched", "batched"), ("/plain", "not batched"))
        ],
    )
    return [served]


def main() -> None:
    batched = Logistic(max_batch_size=BATCH, batch_timeout=BATCH_SECONDS, api_path="/batched")
    served = litserve.LitServer([batched, Logistic(api_path="/plain")], accelerator="cpu", fast_queue=True)
    served.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
