"""The stores that the how-to guides build keep the promises that they speak of."""

from __future__ import annotations

from documents import DOCS, run

_, _repository_guide = run(DOCS / "howto" / "repository.md")
_, _monitor_guide = run(DOCS / "howto" / "monitor.md")

# The suites as the guides show them: pytest finds them by these names.
TestSqlModelRepository = _repository_guide["TestSqlModelRepository"]
TestSqliteRepository = _repository_guide["TestSqliteRepository"]
TestFailureLog = _monitor_guide["TestFailureLog"]
TestSharedFailureLog = _monitor_guide["TestSharedFailureLog"]
