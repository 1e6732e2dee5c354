"""What a repository's log says, entry by entry, and what may follow. No file is touched here.

A store elsewhere that can create an object only if it does not exist keeps the same log with the same entries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import attrs

from mlserve.errors import BrokenHistoryError, InvalidArgumentError, VersionNotFoundError
from mlserve.records import HistoryEntry, ModelVersion, Stage
from mlserve.records._values import FrozenMapping
from mlserve.repositories._documents import moment


@attrs.frozen
class Change:
    """One change that is to be appended.

    Attributes:
        action: ``"register"``, ``"activate"``, ``"retire"``, ``"rollback"``, ``"alias"``, ``"pin"``, ``"unpin"``,
            ``"collect"`` (by garbage collection) or ``"discard"`` (by repair: it was never wholly there).
        version_id: As in ``HistoryEntry``.
        detail: As in ``HistoryEntry``.
        data: What else applying it needs.
    """

    action: str
    version_id: str
    detail: str = ""
    data: Mapping[str, Any] = attrs.field(factory=FrozenMapping)


Plan = Callable[["State"], Change | None]
"""From what is to what shall be; None where nothing is to be done. Called again when another process was faster."""


def version_body(version: ModelVersion) -> dict[str, Any]:
    """A version as it stands in entries, checkpoints and manifests."""
    return {
        "created_at": version.created_at.isoformat(),
        "digest": version.digest,
        "id": version.id,
        "tags": dict(version.tags),
    }


def version_of(body: Mapping[str, Any]) -> ModelVersion:
    """The version that ``version_body`` wrote."""
    return ModelVersion(body["id"], moment(body["created_at"]), body["digest"], body["tags"])


@attrs.define(eq=False)
class State:
    """What the log up to an entry adds up to.

    Attributes:
        generation: Number of the entry; 0 before the first.
        digest: Hash of the entry's bytes; empty before the first.
        last_number: The highest number that was ever given.
        versions: What is registered and not collected, in order of registration.
        active: Ids in order of activation; the last one is the latest.
        retired: Ids.
        aliases: Ids by alias.
        pins: Who holds a version, and until when, by id.
        skipped: Numbers below ``last_number`` whose version was not registered: it may still be, by a slow writer.
    """

    generation: int = 0
    digest: str = ""
    last_number: int = 0
    versions: dict[str, ModelVersion] = attrs.field(factory=dict)
    active: dict[str, None] = attrs.field(factory=dict)
    retired: set[str] = attrs.field(factory=set)
    aliases: dict[str, str] = attrs.field(factory=dict)
    pins: dict[str, dict[str, str | None]] = attrs.field(factory=dict)
    skipped: set[int] = attrs.field(factory=set)

    # ------------------------------------------------------------------------------------------------- reading

    def known(self, version: ModelVersion | str) -> ModelVersion:
        """A registered version by id or by itself.

        Raises:
            VersionNotFoundError: It was never registered, or was collected since.
        """
        version_id = version.id if isinstance(version, ModelVersion) else version
        found = self.versions.get(version_id) if isinstance(version_id, str) else None
        if found is None:
            given = str(version_id)
            was = given.isdecimal() and given == str(int(given)) and 0 < int(given) <= self.last_number
            gone = was and int(given) not in self.skipped
            raise VersionNotFoundError(
                f"no version {version_id!r}{' any more: it was collected' if gone else ''}; "
                f"{len(self.versions)} are registered.",
                hint="Ids are decimal, from '1', in order of registration.",
                version_id=given,
            )
        return found

    def latest(self) -> ModelVersion | None:
        """The most recently activated active version."""
        return self.versions[next(reversed(self.active))] if self.active else None

    def stage(self, version_id: str) -> Stage:
        """Where a registered version stands."""
        if version_id in self.active:
            return Stage.ACTIVE
        return Stage.RETIRED if version_id in self.retired else Stage.CANDIDATE

    def is_pinned(self, version_id: str, now: datetime) -> bool:
        """Whether somebody holds a version now."""
        return any(until is None or moment(until) > now for until in self.pins.get(version_id, {}).values())

    # ------------------------------------------------------------------------------------------------ planning

    def to_register(self, version: ModelVersion, detail: str = "") -> Change | None:
        """A version whose files are in their place joins; None where that was done for it.

        Raises:
            VersionNotFoundError: A repair has discarded it meanwhile.
        """
        if version.id in self.versions:
            return None
        number = int(version.id)
        if number <= self.last_number and number not in self.skipped:
            raise VersionNotFoundError(
                f"version {version.id} was discarded by a repair before it was registered.",
                hint="Register the model again.",
                version_id=version.id,
            )
        return Change("register", version.id, detail, {"version": version_body(version)})

    def to_activate(self, version_id: str) -> Change:
        """See ``WritableModelRepository.activate``."""
        return Change("activate", self.known(version_id).id)

    def to_retire(self, version_id: str) -> Change:
        """See ``WritableModelRepository.retire``."""
        version = self.known(version_id)
        if version.id not in self.active:
            raise VersionNotFoundError(
                f"version {version.id!r} is {self.stage(version.id)}, so it cannot be retired.",
                hint="Only active versions can.",
                version_id=version.id,
            )
        return Change("retire", version.id)

    def to_rollback(self) -> Change:
        """See ``WritableModelRepository.rollback``."""
        if len(self.active) < 2:
            raise VersionNotFoundError(
                f"nothing to roll back to: {len(self.active)} versions are active.",
                hint="Activate the version to serve instead.",
            )
        newest_first = reversed(self.active)
        left, serving = next(newest_first), next(newest_first)
        return Change("rollback", serving, f"left {left}", {"left": left})

    def to_alias(self, alias: str, version_id: str, expected: str | None) -> Change:
        """See ``WritableModelRepository.set_alias``; the alias is one that ``checked_alias`` passed."""
        version = self.known(version_id)
        current = self.aliases.get(alias)
        if expected is not None and current != expected:
            raise InvalidArgumentError(
                "expected", expected, f"{current!r}, where {alias!r} points now", hint="Read it again and decide."
            )
        return Change("alias", version.id, alias, {"alias": alias})

    def to_pin(self, version_id: str, holder: str, until: datetime | None) -> Change:
        """Somebody holds a version, so that it is not collected."""
        data = {"holder": holder, "until": None if until is None else until.isoformat()}
        return Change("pin", self.known(version_id).id, holder, data)

    def to_unpin(self, version_id: str, holder: str) -> Change | None:
        """Somebody lets go of a version; None where it was not held."""
        version = self.known(version_id)
        held = holder in self.pins.get(version.id, {})
        return Change("unpin", version.id, holder, {"holder": holder}) if held else None

    def to_collect(self, version_id: str, keep: int, now: datetime) -> Change | None:
        """A version that nobody can need goes; None where somebody may need it by now, or it is gone."""
        return Change("collect", version_id) if version_id in self.collectable(keep, now) else None

    def collectable(self, keep: int, now: datetime) -> list[str]:
        """Ids that are not active, not pinned, pointed at by no alias, and not among the last ``keep`` registered."""
        named = set(self.aliases.values())
        last = set(list(self.versions)[len(self.versions) - min(keep, len(self.versions)) :])
        return [
            version_id
            for version_id in self.versions
            if not (version_id in self.active or version_id in named or version_id in last)
            and not self.is_pinned(version_id, now)
        ]

    def to_discard(self, number: int) -> Change | None:
        """What lies at a number is not a whole version and never was; None where the number was dealt with."""
        dealt_with = number <= self.last_number and number not in self.skipped
        return None if dealt_with else Change("discard", str(number))

    def latest_after(self, change: Change) -> ModelVersion | None:
        """The latest version once a change is made."""
        if change.action in ("activate", "rollback"):
            return self.versions[change.version_id]
        if change.action == "retire" and change.version_id == next(reversed(self.active)):
            remaining = [version_id for version_id in list(self.active)[-2:] if version_id != change.version_id]
            return self.versions[remaining[-1]] if remaining else None
        return self.latest()

    # ------------------------------------------------------------------------------------------------ applying

    def apply(self, body: Mapping[str, Any], digest: str, path: str) -> None:
        """Make the change of the next entry.

        Raises:
            BrokenHistoryError: It does not follow from what was before.
        """
        try:
            if (body["generation"], body["previous"]) != (self.generation + 1, self.digest):
                raise ValueError("it does not name the entry before it")
            _APPLY[body["action"]](self, body["version_id"], body["data"])
            latest = self.latest()
            if body["latest"] != (None if latest is None else version_body(latest)):
                raise ValueError("it names another latest version")
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise broken(path, error) from error
        self.generation, self.digest = body["generation"], digest

    def _register(self, version_id: str, data: Mapping[str, Any]) -> None:
        version = version_of(data["version"])
        if version.id != version_id or version_id in self.versions:
            raise ValueError("it registers another version")
        self._give(int(version_id))
        self.versions[version.id] = version

    def _give(self, number: int) -> None:
        if number <= self.last_number:
            self.skipped.remove(number)
        self.skipped.update(range(self.last_number + 1, number))
        self.last_number = max(self.last_number, number)

    def _activate(self, version_id: str, _data: Mapping[str, Any]) -> None:
        if version_id not in self.versions:
            raise KeyError(version_id)
        self.active.pop(version_id, None)
        self.active[version_id] = None
        self.retired.discard(version_id)

    def _retire(self, version_id: str, _data: Mapping[str, Any]) -> None:
        del self.active[version_id]
        self.retired.add(version_id)

    def _rollback(self, _version_id: str, data: Mapping[str, Any]) -> None:
        self._retire(data["left"], data)

    def _alias(self, version_id: str, data: Mapping[str, Any]) -> None:
        self.aliases[data["alias"]] = self.versions[version_id].id

    def _pin(self, version_id: str, data: Mapping[str, Any]) -> None:
        self.pins.setdefault(self.versions[version_id].id, {})[data["holder"]] = data["until"]

    def _unpin(self, version_id: str, data: Mapping[str, Any]) -> None:
        del self.pins[version_id][data["holder"]]

    def _collect(self, version_id: str, _data: Mapping[str, Any]) -> None:
        del self.versions[version_id]
        self.retired.discard(version_id)
        self.pins.pop(version_id, None)

    def _discard(self, version_id: str, _data: Mapping[str, Any]) -> None:
        self._give(int(version_id))

    # --------------------------------------------------------------------------------------------- checkpoints

    def to_body(self) -> dict[str, Any]:
        """The state as it stands in a checkpoint."""
        return {
            "active": list(self.active),
            "aliases": self.aliases,
            "digest": self.digest,
            "generation": self.generation,
            "last_number": self.last_number,
            "pins": self.pins,
            "retired": sorted(self.retired, key=int),
            "skipped": sorted(self.skipped),
            "versions": [version_body(version) for version in self.versions.values()],
        }

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> State:
        """The state that ``to_body`` wrote."""
        return cls(
            generation=body["generation"],
            digest=body["digest"],
            last_number=body["last_number"],
            versions={one["id"]: version_of(one) for one in body["versions"]},
            active=dict.fromkeys(body["active"]),
            retired=set(body["retired"]),
            aliases=dict(body["aliases"]),
            pins={version_id: dict(holders) for version_id, holders in body["pins"].items()},
            skipped=set(body["skipped"]),
        )


_APPLY: Mapping[str, Callable[[State, str, Mapping[str, Any]], None]] = {
    "register": State._register,
    "activate": State._activate,
    "retire": State._retire,
    "rollback": State._rollback,
    "alias": State._alias,
    "pin": State._pin,
    "unpin": State._unpin,
    "collect": State._collect,
    "discard": State._discard,
}


def history_entry(body: Mapping[str, Any]) -> HistoryEntry:
    """An entry as ``history`` shows it."""
    return HistoryEntry(
        generation=body["generation"],
        action=body["action"],
        version_id=body["version_id"],
        at=moment(body["at"]),
        detail=body["detail"],
        actor=body["actor"],
        reason=body["reason"],
        evidence=FrozenMapping(body["evidence"]),
    )


def broken(path: str, error: Exception) -> BrokenHistoryError:
    """The error about an entry that is whole, but does not follow from the one before."""
    return BrokenHistoryError(
        f"{path} does not follow from the entry before it ({type(error).__name__}: {error}).",
        hint="Entries were changed, lost or put together from two repositories; restore the log from a backup.",
        path=path,
    )
