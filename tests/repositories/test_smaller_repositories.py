"""The contracts fit stores that have less: three methods only, and no other way to be read or written."""

from __future__ import annotations

from mlserve import InMemoryModelRepository, ModelRepository, ModelVersion
from mlserve.errors import InvalidArgumentError, VersionNotFoundError
from mlserve.testing import ModelRepositoryContract, WritableModelRepositoryContract


class Shelf(ModelRepository):
    """What an adapter author must write, over a list that somebody else fills."""

    def __init__(self, clock) -> None:
        self.clock = clock
        self.models: dict[ModelVersion, object] = {}
        self.serving: list[ModelVersion] = []

    def get_latest_version(self) -> ModelVersion:
        if not self.serving:
            raise VersionNotFoundError("the shelf is empty.", hint="Put a model on it.")
        return self.serving[-1]

    def get_active_versions(self, limit: int | None = None) -> list[ModelVersion]:
        if limit is not None and limit < 0:
            raise InvalidArgumentError("limit", limit, "at least 0, or None for all")
        return self.serving[::-1][:limit]

    def load_model(self, version: ModelVersion) -> object:
        if version not in self.models:
            raise VersionNotFoundError(f"no version {version}.", hint="It was never put on the shelf.")
        return self.models[version]


class TestShelf(ModelRepositoryContract):
    def new_repository(self, clock) -> Shelf:
        return Shelf(clock)

    def publish(self, repository: Shelf, model: object) -> ModelVersion:
        version = ModelVersion(str(len(repository.models) + 1), repository.clock.now())
        repository.models[version] = model
        repository.serving.append(version)
        return version

    def withdraw(self, repository: Shelf, version: ModelVersion) -> None:
        repository.serving.remove(version)


class TestWithoutBackDoors(WritableModelRepositoryContract):
    def new_repository(self, clock) -> InMemoryModelRepository:
        return InMemoryModelRepository(clock=clock)
