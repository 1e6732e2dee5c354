"""ONNX Runtime: sessions made for serving, and which of a graph's outputs is the answer. Needs the extra ``onnx``.

A server takes an ``onnxruntime.InferenceSession`` as a model by itself: this module is for what a session does not say.
"""

from __future__ import annotations

from os import PathLike, fspath
from typing import Any, final

from mlserve.errors import InvalidArgumentError, MissingExtraError

__all__ = ["SessionModel", "open_session"]


def open_session(graph: str | PathLike[str] | bytes, *, threads: int = 1) -> Any:
    """A session for a graph, on the CPU.

    Requests come from many threads, so that each had better compute on its own: a session that starts a thread for
    every core, as ONNX Runtime does when it is not told otherwise, slows the others down. A session with one thread
    also survives ``fork``.

    Args:
        graph: The path of a file, or the serialised graph.
        threads: How many threads one call computes on; at least 1.

    Returns:
        An ``onnxruntime.InferenceSession``.

    Raises:
        InvalidArgumentError: ``threads`` is not positive.
        MissingExtraError: ONNX Runtime is not installed.
    """
    if threads < 1:
        raise InvalidArgumentError("threads", threads, "a whole number, at least 1")
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "onnx", "Running an ONNX model") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        graph if isinstance(graph, bytes) else fspath(graph), sess_options=options, providers=["CPUExecutionProvider"]
    )


@final
class SessionModel:
    """A session whose answer is not its first output, or whose probabilities are not where converters place them.

    *Thread safety*: yes, as the session has it.

    Args:
        session: An ``onnxruntime.InferenceSession``.
        value: Name of the output with one answer for each row; None for the first.
        probabilities: Name of the output with the probability of each class for each row, an array
            ``(n_samples, n_classes)`` or a dictionary for each row; None for the one beside the label, where there is
            one. The largest of a row is its confidence; rows that do not add up to 1 have none.

    Raises:
        InvalidArgumentError: The graph has no such output.
    """

    def __init__(self, session: Any, *, value: str | None = None, probabilities: str | None = None) -> None:
        names = [output.name for output in session.get_outputs()]
        for parameter, name in (("value", value), ("probabilities", probabilities)):
            if name is not None and name not in names:
                raise InvalidArgumentError(parameter, name, f"the name of an output: {', '.join(names)}")
        self.inference_session = session
        self.value = value
        self.probabilities = probabilities
