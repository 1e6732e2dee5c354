"""What inputs must look like, and the one rule from an input to a row of features.

>>> schema = RecordSchema.infer([{"age": 31, "city": "Bern"}, {"age": 62, "city": "Rome"}])
>>> schema.validate({"age": 40, "city": "Oslo"}).is_valid
True
"""

from mlserve.schemas._arrays import ArraySchema
from mlserve.schemas._coercions import FieldKind
from mlserve.schemas._fields import Field
from mlserve.schemas._kinds import Schema, schema_from_json
from mlserve.schemas._records import RecordSchema
from mlserve.schemas._results import Enforcement, ValidationResult
from mlserve.schemas._rows import feature_row, feature_rows

__all__ = [
    "ArraySchema",
    "Enforcement",
    "Field",
    "FieldKind",
    "RecordSchema",
    "Schema",
    "ValidationResult",
    "feature_row",
    "feature_rows",
    "schema_from_json",
]
