"""What inputs must look like, and the one rule from an input to a row of features.

>>> schema = RecordSchema.infer([{"age": 31, "city": "Bern"}, {"age": 62, "city": "Rome"}])
>>> schema.validate({"age": 40, "city": "Oslo"}).is_valid
True
"""

import typing

from mlserve import _importing

if typing.TYPE_CHECKING:
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

# A service without schemas does not pay for them, nor one whose inputs are arrays for records.
_ORIGINS = {
    "ArraySchema": "_arrays",
    "Enforcement": "_results",
    "Field": "_fields",
    "FieldKind": "_coercions",
    "RecordSchema": "_records",
    "Schema": "_kinds",
    "ValidationResult": "_results",
    "feature_row": "_rows",
    "feature_rows": "_rows",
    "schema_from_json": "_kinds",
}

if not typing.TYPE_CHECKING:  # a type checker would take __getattr__ to give every name
    __getattr__, __dir__ = _importing.lazy_exports(
        __name__, {name: f"{__name__}.{module}" for name, module in _ORIGINS.items()}
    )
