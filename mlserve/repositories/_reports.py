"""What the maintenance of a repository found and did."""

from __future__ import annotations

import attrs

from mlserve.errors import MlserveError


@attrs.frozen
class Verification:
    """What ``verify`` found.

    Attributes:
        checked: Ids of the versions of which every byte was read, in order of registration.
        problems: What is not as it was published; empty where all is well.
        leftovers: What killed writers left, by path: harmless, and removed by ``repair``.
    """

    checked: tuple[str, ...]
    problems: tuple[MlserveError, ...] = ()
    leftovers: tuple[str, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Whether there are no problems."""
        return not self.problems


@attrs.frozen
class Collection:
    """What ``gc`` did.

    Attributes:
        collected: Ids of the versions that are gone, in order of registration.
        freed_bytes: How many bytes their files had.
    """

    collected: tuple[str, ...] = ()
    freed_bytes: int = 0


@attrs.frozen
class Repair:
    """What ``repair`` did.

    Attributes:
        registered: Ids of versions that were whole but not registered: candidates now.
        discarded: Numbers at which something lay that was no whole version.
        removed: What else was removed, by path.
        left: What it did not dare to judge, by path, for example a version signed by an unknown key.
    """

    registered: tuple[str, ...] = ()
    discarded: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


@attrs.frozen
class RepositoryStatistics:
    """A repository now, and what was done through one object since it was made.

    Attributes:
        generation: Number of the newest entry of the log.
        versions: Registered and not collected.
        active: Of these, the active ones.
        aliases: Aliases that point somewhere.
        pinned: Versions that somebody holds now.
        registered: Versions registered through this object.
        loaded: Models loaded through this object.
        lost_races: How often another writer was faster to append to the log; each time it was tried again.
        lost_numbers: How often another writer was faster to take a number; the next one was taken.
    """

    generation: int
    versions: int
    active: int
    aliases: int
    pinned: int
    registered: int
    loaded: int
    lost_races: int
    lost_numbers: int
