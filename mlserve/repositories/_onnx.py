"""Models in ONNX: a graph of known operations, which runs no code of its own."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, final

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from mlserve._forking import renew_after_fork
from mlserve.errors import MissingExtraError, SerializationError
from mlserve.repositories._formats import ModelFormat


@final
class OnnxModel:
    """An ONNX graph that predicts rows by ONNX Runtime. Needs the extra ``onnx``.

    The session is made when it is first needed, with one thread, so that requests and not matrices are run in
    parallel.

    *Thread safety*: yes; a session may be run from many threads. *Fork*: a child makes a session of its own.

    Args:
        data: The serialised graph, with its weights inside.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._after_fork()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._session: Any = None

    @property
    def inference_session(self) -> Any:
        """The session of this process, an ``onnxruntime.InferenceSession``; a server finds the probabilities by it."""
        return self._made()

    def run(self, X: npt.ArrayLike) -> list[Any]:
        """Every output of the graph.

        Args:
            X: Rows for the graph's only input, cast to its type.

        Raises:
            MissingExtraError: ONNX Runtime is not installed.
        """
        session = self._made()
        (taken,) = session.get_inputs()
        dtype = _DTYPES.get(taken.type)
        outputs: list[Any] = session.run(None, {taken.name: np.asarray(X, dtype)})
        return outputs

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[Any]:
        """The first output of the graph, one item a row: labels of a classifier, values of a regressor.

        Args:
            X: Rows ``(n_samples, n_features)``.

        Returns:
            Shape ``(n_samples,)``; an output of one column is made flat.
        """
        answer = np.asarray(self.run(X)[0])
        return answer.reshape(-1) if answer.ndim == 2 and answer.shape[1] == 1 else answer

    def _made(self) -> Any:
        with self._lock:
            if self._session is None:
                try:
                    import onnxruntime
                except ImportError as error:
                    raise MissingExtraError("onnxruntime", "onnx", "Running an ONNX model") from error
                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = options.inter_op_num_threads = 1
                self._session = onnxruntime.InferenceSession(
                    self.data, sess_options=options, providers=["CPUExecutionProvider"]
                )
            return self._session


_DTYPES: Mapping[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}


@final
class OnnxFormat(ModelFormat):
    """ONNX graphs: an ``OnnxModel``, or an ``onnx.ModelProto``, which is loaded as an ``OnnxModel``.

    Weights must be inside the graph: a graph that names files beside it is refused.
    """

    name = "onnx"
    runs_code = False

    @override
    def accepts(self, model: Any) -> bool:
        return isinstance(model, OnnxModel) or _is_proto(model)

    @override
    def save(self, model: Any) -> Mapping[str, bytes]:
        if isinstance(model, OnnxModel):
            return {"model.onnx": model.data}
        if any(tensor.external_data for tensor in model.graph.initializer):
            raise SerializationError(
                "the graph keeps weights in files of their own.",
                hint="Load it with onnx.load(path), which brings them in, and register what it gives.",
            )
        return {"model.onnx": model.SerializeToString()}

    @override
    def load(self, files: Mapping[str, bytes], *, trusted: bool) -> OnnxModel:
        model = OnnxModel(files["model.onnx"])
        model._made()
        return model


def _is_proto(model: Any) -> bool:
    kind = type(model)
    return kind.__name__ == "ModelProto" and kind.__module__.partition(".")[0] == "onnx"
