"""The repository in a directory: versions that survive a crash, and a log that says who did what."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Generic, final

from typing_extensions import TypeVar

from mlserve.clocks import Clock
from mlserve.repositories._filesystem import Filesystem
from mlserve.repositories._formats import ModelFormat
from mlserve.repositories._guards import checked_root
from mlserve.repositories._layout import Layout
from mlserve.repositories._signing import Signer, Verifier
from mlserve.repositories._writing import RepositoryWriter

TModel = TypeVar("TModel", default=Any)


@final
class DirectoryModelRepository(RepositoryWriter[TModel], Generic[TModel]):
    """Versions in a directory, shared by any number of processes.

    *Thread safety*: yes. *Processes*: any number may read and write at once; readers are never blocked by writers.
    *Durability*: what a method has returned survives a loss of power, on a file system whose fsync does what it says.
    A method that raised or was killed has made its change wholly or not at all. *Ownership*: every call of
    ``load_model`` gives a model of its own.

    Changes by other processes are seen at once by every method, and by ``generation`` within ``follow_seconds``.

    Args:
        path: The directory; made when it is missing.
        formats: In which forms models are kept; the first that takes a model is used. Default: ``NumpyFormat``,
            ``OnnxFormat``, ``SkopsFormat`` and, by trust, ``PickleFormat``.
        trust: Whether models may be loaded that can run code, by whoever could write to the directory.
        verifier: Then only versions whose signature it accepts are described, loaded or found sound, and these may
            run code.
        signer: Signs what is registered.
        clock: Where times come from.
        filesystem: How the directory is read and written.
        actor: Who makes the changes; kept in the log. Default: user and machine.
        follow_seconds: How often at most ``generation`` looks for changes by other processes, in a thread of its own;
            0 looks each time it is read, by whoever reads it.

    Raises:
        InvalidArgumentError: The path is a file or a directory of something else; no formats; a negative time.
        NewerFormatError: A newer mlserve made the directory.
        RepositoryWriteError: The directory cannot be made.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> repository = DirectoryModelRepository(tempfile.mkdtemp(), actor="docs")
        >>> repository.register({"weights": np.array([1.0, 2.0])}, tags={"commit": "abc"}).id
        '1'
        >>> repository.load_model(repository.get_latest_version())
        {'weights': array([1., 2.])}
        >>> [(entry.action, entry.actor) for entry in repository.history()]
        [('register', 'docs'), ('activate', 'docs')]
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        formats: Sequence[ModelFormat] | None = None,
        trust: bool = False,
        verifier: Verifier | None = None,
        signer: Signer | None = None,
        clock: Clock | None = None,
        filesystem: Filesystem | None = None,
        actor: str | None = None,
        follow_seconds: float = 1.0,
    ) -> None:
        super().__init__(
            Layout(checked_root(path), filesystem if filesystem is not None else Filesystem()),
            path,
            formats=formats,
            trust=trust,
            verifier=verifier,
            signer=signer,
            clock=clock,
            actor=actor,
            follow_seconds=follow_seconds,
        )
