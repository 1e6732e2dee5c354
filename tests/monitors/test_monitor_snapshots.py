"""The form in which counts travel: what was written is read again, and nothing else is ever taken for it."""

from __future__ import annotations

import json
import pickle
import struct
import tracemalloc
import zlib
from datetime import datetime, timedelta
from typing import Any

import attrs
import hypothesis.strategies as st
import numpy as np
import pytest
from fleets import NOON, Fleet, assert_same, happenings, metrics_of
from hypothesis import given, settings
from traffic import HOUR, MINUTE, predict, small_monitor

from mlserve import InMemoryModelMonitor
from mlserve.clocks import ManualClock
from mlserve.errors import InvalidArgumentError, SnapshotFormatError
from mlserve.records import MonitorSnapshot, _snapshots

PREFIX = struct.Struct(">8sHI")


def of_everything(count: int = 300) -> MonitorSnapshot:
    """A snapshot that holds something of every kind."""
    fleet = Fleet.of(1, HOUR)
    fleet.serve(happenings(count, HOUR, seed=1), seed=1)
    return fleet.replicas[0].snapshot()


WHOLE = of_everything()
SMALL = of_everything(6)
EMPTY = small_monitor(ManualClock(NOON)).snapshot()


def body_of(data: bytes) -> bytes:
    return zlib.decompress(data[PREFIX.size :])


def sealed(body: bytes, version: int = 1, magic: bytes = b"MLSVSNAP") -> bytes:
    """A body as bytes with the right checksum: what a hostile sender could make."""
    packed = zlib.compress(body)
    return PREFIX.pack(magic, version, zlib.crc32(packed)) + packed


def equal(first: MonitorSnapshot, second: MonitorSnapshot) -> bool:
    names = ("source", "sequence", "after", "taken_at")
    return (
        all(getattr(first, name) == getattr(second, name) for name in names)
        and json.dumps(dict(first.header), sort_keys=True) == json.dumps(dict(second.header), sort_keys=True)
        and first.columns.keys() == second.columns.keys()
        and all(
            column.dtype == second.columns[name].dtype and np.array_equal(column, second.columns[name])
            for name, column in first.columns.items()
        )
    )


# --------------------------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("snapshot", [WHOLE, SMALL, EMPTY], ids=["of everything", "small", "empty"])
def test_what_was_written_is_read(snapshot):
    """``from_bytes`` gives the snapshot that ``to_bytes`` wrote: every field, name and column."""
    assert equal(MonitorSnapshot.from_bytes(snapshot.to_bytes()), snapshot)


def test_what_was_read_is_written_alike():
    """A snapshot that was read is written as the same bytes again."""
    data = WHOLE.to_bytes()
    assert MonitorSnapshot.from_bytes(data).to_bytes() == data


def test_a_mutable_buffer_can_be_read():
    """Bytes in a bytearray, as sockets fill them, are read like any others."""
    assert equal(MonitorSnapshot.from_bytes(bytearray(SMALL.to_bytes())), SMALL)


def test_it_is_the_same_on_any_machine():
    """Columns are written in little-endian order, whatever the machine's own is."""
    swapped = attrs.evolve(
        SMALL, columns={name: c.astype(c.dtype.newbyteorder(">")) for name, c in SMALL.columns.items()}
    )
    assert swapped.to_bytes() == SMALL.to_bytes()


@pytest.mark.parametrize("name", ["über ☃", "\ud800", 'a"b\\', "x" * 1000])
def test_names_of_any_text_travel(name):
    """Versions and classes of any text come back as they were."""
    monitor = small_monitor(ManualClock(NOON))
    predict(monitor, 0, NOON, name, output=name)
    monitor.record_outcome("p0", name)
    header = MonitorSnapshot.from_bytes(monitor.snapshot().to_bytes()).header
    assert (header["versions"], header["classes"]) == ([name], [name])


def test_a_snapshot_cannot_be_changed():
    """Neither the columns nor the header of a snapshot can be changed."""
    with pytest.raises(ValueError, match="read-only"):
        WHOLE.columns["width"][0] = 5
    with pytest.raises(TypeError):
        WHOLE.header["versions"] = []


def test_a_snapshot_says_what_it_is():
    """``repr`` names the source, how many buckets, the sequence, and since when."""
    assert repr(EMPTY).startswith(f"MonitorSnapshot(0 buckets of {EMPTY.source}, sequence 0, 2026-03-02")
    assert "changed after 3, sequence 7" in repr(attrs.evolve(EMPTY, after=3, sequence=7))


@pytest.mark.parametrize(
    "values",
    [
        {"source": ""}, {"source": None}, {"source": 5}, {"sequence": -1}, {"sequence": 1.0}, {"sequence": True},
        {"after": -1}, {"after": "0"}, {"taken_at": datetime(2026, 1, 1)}, {"taken_at": None},
    ],
    ids=str,
)  # fmt: skip
def test_a_snapshot_is_well_named(values):
    """``InvalidArgumentError`` is raised for a name, a number or a time that is none."""
    with pytest.raises(InvalidArgumentError, match=next(iter(values))):
        attrs.evolve(EMPTY, **values)


# -------------------------------------------------------------------------------------------------------------- damage


def read_or_refuse(data: bytes) -> MonitorSnapshot | None:
    try:
        return MonitorSnapshot.from_bytes(data)
    except SnapshotFormatError:
        return None


def test_no_byte_can_be_flipped():
    """Whichever byte is changed, and however, it is noticed."""
    data = SMALL.to_bytes()
    rng = np.random.default_rng(1)
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= int(rng.integers(1, 256))
        assert read_or_refuse(bytes(damaged)) is None, position


def test_no_byte_can_be_cut_off():
    """Whatever is cut off, at either end, it is noticed; so is what is added."""
    data = SMALL.to_bytes()
    assert [cut for cut in range(len(data)) if read_or_refuse(data[:cut])] == []
    assert [cut for cut in range(1, len(data)) if read_or_refuse(data[cut:])] == []
    assert read_or_refuse(data + b"\0") is None


@pytest.mark.parametrize("version", [0, 2, 65_535])
def test_other_formats_are_refused(version):
    """A format that this release does not know is refused, also a newer one, and the message says so."""
    with pytest.raises(SnapshotFormatError, match=f"format {version}"):
        MonitorSnapshot.from_bytes(sealed(body_of(SMALL.to_bytes()), version))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"MLSVSNAP",
        b"\0" * 100,
        pickle.dumps([1]),
        b"MLSVSNAQ" + SMALL.to_bytes()[8:],
        "MLSVSNAP text",
        None,
        5,
        [],
    ],
)
def test_what_is_no_snapshot_is_refused(data):
    """``SnapshotFormatError`` is raised for other bytes, and for what is no bytes."""
    with pytest.raises(SnapshotFormatError):
        MonitorSnapshot.from_bytes(data)


def test_a_bomb_does_not_go_off(monkeypatch):
    """Bytes that unpack to more than any snapshot holds are refused before they are unpacked."""
    monkeypatch.setattr(_snapshots, "LARGEST", 2**20)
    packed = zlib.compress(b"\0" * 2**26, 9)
    data = PREFIX.pack(b"MLSVSNAP", 1, zlib.crc32(packed)) + packed
    tracemalloc.start()
    with pytest.raises(SnapshotFormatError, match="1048576"):
        MonitorSnapshot.from_bytes(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**23


def described(**changes: Any) -> bytes:
    """A body whose description was changed, without columns unless they are given."""
    told = {
        "source": "s",
        "sequence": 1,
        "after": 0,
        "taken_at": "2026-03-02T12:00:00+00:00",
        "header": {},
        "columns": [],
    }
    arrays = changes.pop("arrays", b"")
    told.update(changes)
    text = json.dumps({name: value for name, value in told.items() if value is not ...}).encode()
    return struct.pack(">I", len(text)) + text + arrays


def test_the_body_that_is_changed_below_can_be_read():
    """The description that the following changes spoil is one of a snapshot."""
    column = described(columns=[["x", "<i8", [2]]], arrays=b"\1" * 16)
    assert MonitorSnapshot.from_bytes(sealed(column)).columns["x"].size == 2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0\0",
        b"\0\0\0\4nope",
        b"\xff\xff\xff\xff{}",
        b"\0\0\0\2{}",
        b"\0\0\0\2[]",
        b"\0\0\0\4null",
        b"\0\0\0\4\xff\xfe\xfd\xfc",
        struct.pack(">I", 200_000) + b"[" * 200_000,
        *(described(**{name: ...}) for name in ("source", "sequence", "after", "taken_at", "header", "columns")),
        described(source=""),
        described(source=[]),
        described(sequence=-1),
        described(sequence="1"),
        described(sequence=1.5),
        described(after=None),
        described(taken_at="2026-03-02T12:00:00"),
        described(taken_at="yesterday"),
        described(taken_at=5),
        described(header=5),
        described(header="text"),
        described(columns=5),
        described(columns=[5]),
        described(columns=[["x", "<i8"]]),
        described(columns=[["x", "|O", [1]]], arrays=b"\0" * 8),
        described(columns=[["x", "<c16", [1]]], arrays=b"\0" * 16),
        described(columns=[["x", ["<i8"], [1]]], arrays=b"\0" * 8),
        described(columns=[["x", "<i8", [2]]], arrays=b"\0" * 15),
        described(columns=[["x", "<i8", [2]]], arrays=b"\0" * 17),
        described(columns=[["x", "<i8", 2]], arrays=b"\0" * 16),
        described(columns=[["x", "<i8", [-1]]], arrays=b"\0" * 16),
        described(columns=[["x", "<i8", [1.0]]], arrays=b"\0" * 8),
        described(columns=[["x", "<i8", [True]]], arrays=b"\0" * 8),
        described(columns=[["x", "<i8", [2**40, 2**40]]]),
        described(columns=[["x", "<i8", [0, 2**70]]]),
        described(columns=[["x", "<i8", [2**70]]]),
        described(columns=[["x", "<i8", [1] * 100]], arrays=b"\0" * 8),
        described(columns=[[5, "<i8", [1]]], arrays=b"\0" * 8),
        described(columns=[[["x"], "<i8", [1]]], arrays=b"\0" * 8),
    ],
    ids=lambda body: repr(body[4:60]),
)
def test_a_body_that_is_none_is_refused(body):
    """Whatever stands in a body with a right checksum, ``SnapshotFormatError`` is all that it can raise."""
    with pytest.raises(SnapshotFormatError):
        MonitorSnapshot.from_bytes(sealed(body))


def test_what_follows_the_packed_body_is_refused():
    """Bytes between the end of the packed body and the end of the snapshot are refused."""
    packed = zlib.compress(body_of(SMALL.to_bytes())) + b"more"
    with pytest.raises(SnapshotFormatError):
        MonitorSnapshot.from_bytes(PREFIX.pack(b"MLSVSNAP", 1, zlib.crc32(packed)) + packed)


# ------------------------------------------------------------------------------------------------ snapshots that lie


def hub_with(snapshot: MonitorSnapshot | None = None) -> InMemoryModelMonitor:
    hub = small_monitor(ManualClock(NOON))
    if snapshot is not None:
        hub.merge(snapshot)
    return hub


def readings(hub: InMemoryModelMonitor) -> list[Any]:
    """Whatever a monitor can be asked."""
    windows = (timedelta(seconds=10), MINUTE, HOUR, 48 * HOUR)
    found: list[Any] = [metrics_of(hub, version, window) for version in (None, "1", "2") for window in windows]
    found += [hub.get_recent_input_distribution("1", window).count for window in windows]
    found += [hub.get_recent_predictions("1", window).count for window in windows]
    return [*found, hub.cumulative_metrics(), hub.statistics(), hub.snapshot().columns["width"].size]


def columns_with(name: str, change: Any) -> dict[str, Any]:
    return {"columns": {**WHOLE.columns, name: change(WHOLE.columns[name].copy())}}


def header_with(**changes: Any) -> dict[str, Any]:
    header = {**WHOLE.header, **changes}
    return {"header": {name: value for name, value in header.items() if value is not ...}}


def set_first(value: Any):
    def change(column):
        column.flat[0] = value
        return column

    return change


LIES = [
    *(columns_with(name, lambda column: column[:-1]) for name in WHOLE.columns),
    *(columns_with(name, lambda column: column.astype(np.float32)) for name in WHOLE.columns),
    *(columns_with(name, lambda column: column[:, np.newaxis]) for name in WHOLE.columns),
    *({"columns": {other: c for other, c in WHOLE.columns.items() if other != name}} for name in WHOLE.columns),
    *(columns_with(name, set_first(-1)) for name in (
        "version", "width", "integers", "latency_row", "latency_count", "errors_keys", "roles_keys", "roles_count",
        "input_rows", "input_squares", "input_unusable", "cells_row", "cells_keys", "cells_count",
    )),
    *(columns_with(name, set_first(2**30)) for name in (
        "version", "latency_row", "latency_keys", "delays_keys", "errors_keys", "roles_keys", "cells_row",
    )),
    *(columns_with(name, set_first(2**62)) for name in (
        "width", "index", "integers", "latency_count", "roles_count", "input_rows", "cells_count",
    )),
    columns_with("floats", set_first(-1.0)),
    columns_with("index", set_first(-(2**62))),
    columns_with("input_squares", lambda column: column * 0),
    columns_with("latency_row", lambda column: column[::-1]),
    *(header_with(**{name: ...}) for name in WHOLE.header),
    *(header_with(**{name: None}) for name in WHOLE.header),
    *(header_with(**{name: 5}) for name in WHOLE.header),
    *(header_with(**{name: [[]]}) for name in WHOLE.header),
    *(header_with(**{name: WHOLE.header[name][:-1]}) for name in ("versions", "kinds", "classes", "input_buckets")),
    *(header_with(**{name: [*WHOLE.header[name][:-1], 5.5]}) for name in ("versions", "kinds", "classes")),
    *(header_with(**{name: [WHOLE.header[name][0]] * len(WHOLE.header[name])}) for name in ("versions", "classes")),
    *(header_with(**{name: [levels]}) for name in ("levels", "input_levels")
      for levels in ([0, 10], [10, -1], [1.5, 10], [2**62, 2**62], [1], [1, 2, 3], [True, 5])),
    *(header_with(**{name: []}) for name in ("levels", "input_levels")),
    *(header_with(input_buckets=[key, *WHOLE.header["input_buckets"][1:]])
      for key in (["other", 60_000_000, 1], ["1", 0, 1], ["1", -5, 1], ["1", 60_000_000, 2**62], ["1", 1.5, 1],
                  ["1", 60_000_000, None], ["1", 60_000_000], ["1", 1, 1, 1], [["1"], 60_000_000, 1], 5)),
    header_with(input_digests={"1": 5, "2": "d", "3": "d"}),
    header_with(input_digests={}),
    header_with(input_complete_since={"1": 0}),
    header_with(input_complete_since={"1": "0", "2": 0, "3": 0}),
    header_with(input_complete_since={"1": True, "2": 0, "3": 0}),
]  # fmt: skip


@pytest.mark.parametrize("lie", LIES, ids=range(len(LIES)))
def test_a_snapshot_that_does_not_fit_itself_changes_nothing(lie):
    """Merging a snapshot whose parts do not fit each other raises ``SnapshotFormatError`` and leaves all as it was."""
    hub = hub_with(WHOLE)
    before = readings(hub)
    # With a gap before it: not even that is counted.
    forged = attrs.evolve(WHOLE, sequence=WHOLE.sequence + 5, after=WHOLE.sequence + 2, **lie)
    with pytest.raises(SnapshotFormatError):
        hub.merge(forged)
    assert readings(hub) == before


def test_cells_that_the_baseline_does_not_have_leave_no_counts():
    """Counts in cells that the bins of their digest do not have are not believed; metrics are."""
    fleet = Fleet.of(1, HOUR)
    fleet.serve(happenings(300, HOUR, seed=1), seed=1)
    fleet.clock.advance_to(NOON)
    snapshot = fleet.replicas[0].snapshot()
    keys = snapshot.columns["cells_keys"].copy()
    keys[:, 0] = 10**6
    fleet.hub.merge(attrs.evolve(snapshot, columns={**snapshot.columns, "cells_keys": keys}))
    sample = fleet.hub.get_recent_input_distribution("1", HOUR)
    assert (sample.method, sample.statistic_error_bound) == ("reservoir", 1.0)
    assert_same(metrics_of(fleet.hub, "1", HOUR), metrics_of(fleet.everything, "1", HOUR))


@settings(deadline=None, max_examples=150)
@given(
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=5),
    in_text=st.booleans(),
)
def test_whatever_can_be_read_can_be_merged_or_is_refused(flips, in_text):
    """Bytes changed by someone who mends the checksum are refused, or merged and read without an exception."""
    body = bytearray(body_of(SMALL.to_bytes()))
    (length,) = struct.unpack_from(">I", body)
    begin, end = (4, 4 + length) if in_text else (4 + length, len(body))
    for position, flip in flips:
        body[begin + position % (end - begin)] ^= flip
    snapshot = read_or_refuse(sealed(bytes(body)))
    hub = hub_with()
    before = readings(hub)
    if snapshot is None:
        return
    try:
        hub.merge(snapshot)
    except SnapshotFormatError:
        assert readings(hub) == before
    else:
        assert len(readings(hub)) == len(before)


@pytest.mark.parametrize("after", [-1, -(10**9)])
def test_changes_since_before_the_beginning_are_refused(after):
    """``InvalidArgumentError`` is raised for a negative sequence."""
    with pytest.raises(InvalidArgumentError, match="after"):
        small_monitor(ManualClock(NOON)).snapshot(after)


def test_a_source_without_a_name_is_refused():
    """``InvalidArgumentError`` is raised for an empty name of a source."""
    with pytest.raises(InvalidArgumentError, match="source"):
        InMemoryModelMonitor(source="")
