"""From a version to all that a request needs of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from mlserve._rendering import described
from mlserve.errors import ModelLoadFailedError, PredictionExceptionError, UnsupportedModelError
from mlserve.protocols import ModelRepository, SupportsWarmUp, VersionDescriber
from mlserve.records import ModelVersion
from mlserve.serving._dispatch import adapt
from mlserve.serving._health import synthetic_example
from mlserve.serving._loaded import LoadedVersion
from mlserve.serving._pace import Pace
from mlserve.serving._recording import Recorder
from mlserve.serving._validation import Check, check_by, check_of_version, is_schema, table_check_of, takes_positions


@attrs.frozen(eq=False, repr=False)
class Loader:
    """Loads versions: description, model, how it is called, what its inputs must be, and a first prediction.

    Attributes:
        repository: Where versions come from.
        predictor: The server's, or None.
        validator: The server's own, or None for the version's schema.
        recorder: Takes a version's baseline to the monitor.
        call: Calls a loaded version with an input, unrecorded; raises what goes wrong.
        monotonic: Tells seconds.
        pace: Of the server's own validator.
        size_of: Tells how large a model is, in bytes; None where nobody wants to know.
        concurrency: Calls of one model at once; None for no limit.
    """

    repository: ModelRepository[Any]
    predictor: Callable[[Any, Any], Any] | None
    validator: Any
    recorder: Recorder
    call: Callable[[LoadedVersion, Any], object]
    monotonic: Callable[[], float]
    pace: Pace
    size_of: Callable[[Any], int] | None = None
    concurrency: int | None = None
    check: Check | None = attrs.field(init=False)
    check_pace: Pace | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        check = None if self.validator is None else check_by(self.validator)
        if check is not None and not is_schema(self.validator):
            check = self.pace.measured(check)
            object.__setattr__(self, "check_pace", self.pace)
        object.__setattr__(self, "check", check)

    def load(self, version: ModelVersion, to_replace: bool = False) -> LoadedVersion:
        """Everything a request needs of a version. Slow; may raise anything.

        Args:
            version: It.
            to_replace: Whether it is to answer instead of one that does: then it is tried, whatever it is.
        """
        description = self.repository.describe(version) if isinstance(self.repository, VersionDescriber) else None
        model = self.repository.load_model(version)
        if isinstance(model, SupportsWarmUp):
            self._warm_up(model, version)
        adapter = adapt(model, description, self.predictor)
        schema = None if description is None else description.schema
        example = None if description is None else description.example
        loaded = LoadedVersion(
            version,
            adapter,
            check_of_version(self.check, schema, adapter),
            validated=self.check is not None or schema is not None,
            example=synthetic_example(example, schema, model),
        )
        loaded.check_pace = self.check_pace
        loaded.check_table = table_check_of(self.validator, schema, adapter)
        loaded.takes_positions = takes_positions(self.validator, schema, adapter)
        loaded.limit(self.concurrency)
        if self.size_of is not None:
            loaded.size_bytes = self.size_of(model)
        # A client that is awaited may belong to the event loop that it is first used on, which is to be its callers'.
        if example is not None and (adapter.takes_rows or (to_replace and not adapter.is_async)):
            self._verify(loaded, example)
        if description is not None:
            self.recorder.baseline(version.id, description.baseline)
        return loaded

    def _warm_up(self, model: SupportsWarmUp, version: ModelVersion) -> None:
        try:
            model.warm_up()
        except Exception as exception:
            raise ModelLoadFailedError(
                f"version {version.id} was loaded but failed to warm up: {described(exception)}.",
                hint="See the model's warm_up().",
                exception=exception,
                version_id=version.id,
            ) from exception

    def _verify(self, loaded: LoadedVersion, example: Any) -> None:
        try:
            self.call(loaded, example)
            if not loaded.is_async:
                # Again, now that it is warm, and before there is any traffic: this is how long it takes.
                begun = self.monotonic()
                self.call(loaded, example)
                loaded.learn((self.monotonic() - begun) * 1000.0)
            loaded.is_proven = True
        except PredictionExceptionError as error:  # ours: the answer is not one item per row
            raise UnsupportedModelError(
                f"version {loaded.id} does not answer its registered example as a {loaded.adapter.kind} does: "
                f"{error.message}",
                version_id=loaded.id,
            ) from error
        except Exception as exception:
            raise ModelLoadFailedError(
                f"version {loaded.id} was loaded but failed on its registered example: {described(exception)}.",
                hint="Is the model fitted, and the example one input in the form in which callers send it?",
                exception=exception,
                version_id=loaded.id,
            ) from exception
