"""mlserve, in process."""

from __future__ import annotations

from typing import Any

from peer_case import CONSTANT, FEATURES, Call, logistic, second

from mlserve import ArraySchema, Batching, InMemoryModelMonitor, InMemoryModelRepository, ModelServer

BATCHED = "mlserve in process, Batching()"


def constant(x: Any) -> float:
    return CONSTANT


def served(model: Any, shape: tuple[int, ...], **options: Any) -> ModelServer[Any, Any, Any]:
    repository = InMemoryModelRepository[Any]()
    repository.register(model, schema=ArraySchema(shape=shape))
    return ModelServer[Any, Any, Any](repository, InMemoryModelMonitor(), **options)


def calls(model: str) -> list[Call]:
    if model == "constant":
        server = served(constant, (FEATURES,))
        return [Call("mlserve", lambda row: row, server.predict, lambda result: float(result.unwrap()))]
    classifier, direct = logistic(), logistic()
    by_class = served(classifier, (FEATURES,))
    by_callable = served(lambda table: direct.predict_proba(table), (1, FEATURES))
    return [
        Call(
            "mlserve",
            lambda row: row,
            by_class.predict,
            lambda result: float(result.unwrap()),
            answers_label=True,
        ),
        Call(
            "mlserve, predict_proba as a callable",
            lambda row: row[None],
            by_callable.predict,
            lambda result: second(result.unwrap()),
        ),
    ]


def asked() -> dict[str, ModelServer[Any, Any, Any]]:
    """The servers whose ``apredict`` is asked beside those that are asked over HTTP."""
    return {
        BATCHED: served(logistic(), (FEATURES,), batching=Batching()),
        "mlserve in process, not batched": served(logistic(), (FEATURES,)),
    }
