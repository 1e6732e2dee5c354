"""What all that goes to OpenTelemetry is called."""

from __future__ import annotations

SCOPE = "mlserve"
"""The instrumentation scope of the meter and the tracer that are taken where none is given."""

MODEL_NAME = "mlserve.model.name"
MODEL_VERSION = "mlserve.model.version"
ERROR_TYPE = "error.type"
"""The attribute of the semantic conventions for what an operation failed of; the others have no convention yet."""
