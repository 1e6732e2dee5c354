"""Records as pictures; matplotlib is imported when one is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from mlserve.errors import MissingExtraError

if TYPE_CHECKING:
    from mlserve.records import DataDrift, FeatureDrift

__all__ = ["plot_data_drift"]

RANKED = 15
"""Features in the ranking, at most."""

CLOSE_UP = 3
"""Features shown before and after."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

DRIFTED, CALM, BEFORE = "#c0392b", "#95a5a6", "#2c6fbb"


def plot_data_drift(drift: DataDrift) -> Any:
    """Features ranked by effect, with intervals and p-values; beside them the first ones before and after.

    Args:
        drift: What to show.

    Returns:
        A matplotlib ``Figure``, not shown yet.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot", "plotting") from error
    ranked = ranked_features(drift.features)[:RANKED]
    shown = [feature for feature in ranked if feature.effect_size is not None]
    close = shown[:CLOSE_UP]
    height = max(2.6, 0.4 * len(shown) + 1.2)
    figure = Figure(figsize=(5 + 3 * len(close), height), layout="constrained")
    axes = figure.subplots(1, 1 + len(close), width_ratios=[5.0] + [3.0] * len(close), squeeze=False)[0]
    _draw_ranking(axes[0], shown)
    for axis, feature in zip(axes[1:], close, strict=True):
        _draw_feature(axis, feature)
    count = len(drift.drifted_features)
    figure.suptitle(f"Data drift: {drift.status}, severity {drift.severity}, {count} of {len(drift.features)} features")
    return figure


def ranked_features(features: Sequence[FeatureDrift]) -> list[FeatureDrift]:
    """Those that drifted first, each group by effect."""
    return sorted(features, key=lambda feature: (not feature.is_drift_detected, -(feature.effect_size or 0.0)))


def _draw_ranking(axis: Any, features: Sequence[FeatureDrift]) -> None:
    for row, feature in enumerate(features):
        effect, colour = feature.effect_size or 0.0, DRIFTED if feature.is_drift_detected else CALM
        axis.barh(row, effect, color=colour, height=0.6)
        low, high = feature.effect_interval or (effect, effect)
        axis.plot([low, high], [row, row], color="#333333", linewidth=1)
        arrow = {"up": "↑", "down": "↓", "missing": "∅"}.get(feature.direction, "")
        axis.annotate(
            f"{arrow} p = {feature.adjusted_p_value:.2g}", (max(effect, high), row), (4, 0),
            textcoords="offset points", va="center", fontsize=8,
        )  # fmt: skip
    axis.set_yticks(range(len(features)), [feature.name for feature in features])
    axis.invert_yaxis()
    axis.set_xlim(0, 1.25)
    axis.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axis.set_xlabel("effect (D or total variation), its interval, adjusted p")
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _draw_feature(axis: Any, feature: FeatureDrift) -> None:
    if feature.category_shares:
        names = [name for name, _, _ in feature.category_shares]
        positions = range(len(names))
        axis.barh([p - 0.2 for p in positions], [before for _, before, _ in feature.category_shares], 0.4, color=BEFORE)
        axis.barh([p + 0.2 for p in positions], [after for _, _, after in feature.category_shares], 0.4, color=DRIFTED)
        axis.set_yticks(positions, names)
        axis.invert_yaxis()
        axis.set_xlabel("share")
    else:
        for quantiles, label, colour in (
            (feature.reference_quantiles, "baseline", BEFORE),
            (feature.current_quantiles, "window", DRIFTED),
        ):
            if quantiles:
                levels = [index / (len(quantiles) - 1) for index in range(len(quantiles))]
                axis.plot(_positions(feature, quantiles), levels, label=label, color=colour)
        axis.set_ylabel("share at or below")
        if feature.kind == "datetime":
            axis.tick_params(axis="x", labelrotation=30)
        axis.legend(frameon=False, fontsize=8)
    axis.set_title(feature.name, fontsize=10)


def _positions(feature: FeatureDrift, quantiles: Sequence[float]) -> Sequence[Any]:
    if feature.kind != "datetime":
        return quantiles
    return [EPOCH + timedelta(seconds=seconds) for seconds in quantiles]
