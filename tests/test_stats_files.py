"""Files and texts of ChannelStats: .npz and JSON, exact, versioned, refused where they are damaged or foreign."""

from __future__ import annotations

import itertools
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import batchnorm as bn
from oracle import Array
from tolerances import assert_same_bits


def normal(*shape: int) -> Array:
    return np.random.default_rng(0).normal(0, 1, shape)


STATS: dict[str, Callable[[], bn.ChannelStats]] = {
    "floats": lambda: bn.channel_stats(normal(6, 3, 5)),
    "integers": lambda: bn.channel_stats(np.random.default_rng(0).integers(-128, 127, (30, 3), np.int8)),
    "large integers": lambda: bn.channel_stats(np.full((3_000_000, 2), [[0, 65535]], np.uint16)),
    "weights": lambda: bn.channel_stats(normal(6, 3, 5), weights=np.linspace(0, 0.3, 5)),
    "extremes": lambda: bn.channel_stats(normal(6, 3, 5), extremes=True),
    "weights and extremes": lambda: bn.channel_stats(normal(6, 3, 5), weights=np.linspace(0, 0.3, 5), extremes=True),
    "not finite": lambda: bn.channel_stats(
        np.array([[np.nan, np.inf, -np.inf, np.inf, 1e300], [1, 1, -np.inf, -np.inf, -1e300]]), extremes=True
    ),
    "no values": lambda: bn.channel_stats(np.empty((0, 3)), extremes=True),
    "no channels": lambda: bn.channel_stats(np.empty((3, 0))),
    "empty": bn.ChannelStats,
    "empty with extremes": lambda: bn.ChannelStats(extremes=True),
}


@pytest.fixture(params=list(STATS.values()), ids=list(STATS))
def stats(request: pytest.FixtureRequest) -> bn.ChannelStats:
    return request.param()  # type: ignore[no-any-return]


def assert_same(a: bn.ChannelStats, b: bn.ChannelStats) -> None:
    assert a == b
    for name in ("count", "sum_weights", "mean", "m2", "min", "max"):
        one, other = getattr(a, name), getattr(b, name)
        if one is None:
            assert other is None
        else:
            assert_same_bits(name, np.isnan(one), np.isnan(other))  # JSON has one NaN
            assert_same_bits(name, one[~np.isnan(one)], other[~np.isnan(other)])
            assert not other.flags.writeable


def refuse_constants(constant: str) -> Any:
    raise AssertionError(f"{constant} is no JSON")


def test_every_form_keeps_all_numbers(tmp_path: Path, stats: bn.ChannelStats) -> None:
    for name in ("stats.npz", "stats.json", "STATS.JSON", "stats"):
        stats.save(tmp_path / name)
        assert_same(bn.ChannelStats.load(tmp_path / name), stats)
        assert ((tmp_path / name).read_bytes()[:1] == b"{") == (name.lower() == "stats.json")
    text = stats.to_json()
    assert_same(bn.ChannelStats.from_json(text), stats)
    json.loads(text, parse_constant=refuse_constants)
    assert (tmp_path / "stats.json").read_text() == text + "\n"
    assert_same(pickle.loads(pickle.dumps(stats)), stats)


def test_what_was_kept_goes_on_as_before(stats: bn.ChannelStats) -> None:
    x = np.random.default_rng(3).normal(size=(5, max(stats.count.size, 1)))
    if stats.count.size == 0 and "0" in repr(stats):
        x = x[:, :0]
    again = bn.ChannelStats.from_json(stats.to_json())
    assert_same(again.update(x), stats.update(x))


def test_numbers_are_exact_in_json() -> None:
    values = [5e-324, 0.1, 1 / 3, -1.7976931348623157e308, -0.0, 2.0**53 + 2]
    stats = bn.channel_stats(np.array([values]), extremes=True)
    again = bn.ChannelStats.from_json(stats.to_json())
    assert_same_bits("mean", again.mean, stats.mean)
    assert again.mean.tolist() == values
    assert json.loads(stats.to_json())["mean"][1] == 0.1


def test_json_is_documented() -> None:
    x = np.array([[0.5, np.nan, np.inf, -np.inf]])
    assert json.loads(bn.channel_stats(x, extremes=True).to_json()) == {
        "format": "batchnorm.ChannelStats",
        "version": 3,
        "channels": 4,
        "count": [1, 1, 1, 1],
        "mean": [0.5, "NaN", "NaN", "NaN"],
        "m2": [0.0, "NaN", "NaN", "NaN"],
        "min": [0.5, "NaN", "Infinity", "-Infinity"],
        "max": [0.5, "NaN", "Infinity", "-Infinity"],
    }


def test_the_content_tells_the_form_not_the_name(tmp_path: Path) -> None:
    stats = bn.channel_stats(normal(6, 3))
    for content in (stats.to_json(), "\n " + stats.to_json(), "\ufeff" + stats.to_json()):
        (tmp_path / "stats.npz").write_text(content, encoding="utf-8")
        assert bn.ChannelStats.load(tmp_path / "stats.npz") == stats
    stats.save(tmp_path / "stats.npz")
    (tmp_path / "stats.npz").rename(tmp_path / "stats.json")
    assert bn.ChannelStats.load(tmp_path / "stats.json") == stats


def test_versions(tmp_path: Path) -> None:
    """What an older version of the library can read, it may."""
    for name, version in (("floats", 1), ("integers", 1), ("empty", 1), ("weights", 2), ("extremes", 3)):
        STATS[name]().save(tmp_path / "stats.npz")
        with np.load(tmp_path / "stats.npz") as archive:
            assert archive["version"] == version
        assert json.loads(STATS[name]().to_json())["version"] == version


def test_an_error_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "stats.json"
    bn.channel_stats(normal(6, 3)).save(path)
    before = path.read_bytes()
    with monkeypatch.context() as patch:

        def no_space(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr("os.fsync", no_space)
        with pytest.raises(OSError, match=r"No space left on device: .*stats\.json"):
            bn.channel_stats(normal(8, 3)).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["stats.json"]
    with pytest.raises(FileNotFoundError):
        bn.ChannelStats().save(tmp_path / "missing" / "stats.json")


@pytest.mark.parametrize("name", ["stats.npz", "stats", "stats.of.a.run"])
@pytest.mark.parametrize("as_path", [str, Path], ids=["str", "Path"])
def test_save_and_load(tmp_path: Path, as_path: Callable[[Any], Any], name: str) -> None:
    """Under the very name that was given."""
    path = as_path(tmp_path / name)
    for stats in (bn.channel_stats(normal(6, 3, 5)), bn.channel_stats(np.empty((0, 3))), bn.ChannelStats()):
        stats.save(path)
        assert [p.name for p in tmp_path.iterdir()] == [name]
        assert bn.ChannelStats.load(path) == stats


def test_load_refuses_another_file(tmp_path: Path) -> None:
    path = tmp_path / "other"
    for content in (b"", b"batchnorm", pickle.dumps([1])):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"other: expected a ChannelStats file, got "):
            bn.ChannelStats.load(path)
    np.savez(path, mean=np.ones(3))
    with pytest.raises(ValueError, match=r"other\.npz: expected a ChannelStats file, got "):
        bn.ChannelStats.load(tmp_path / "other.npz")
    with pytest.raises(FileNotFoundError):
        bn.ChannelStats.load(tmp_path / "missing")


GOOD: dict[str, Any] = {
    "format": "batchnorm.ChannelStats",
    "version": 1,
    "channels": 2,
    "count": np.array([0, 1], np.int64),
    "mean": np.array([np.nan, 3.0]),
    "m2": np.zeros(2),
}


def extremes(low: list[float], high: list[float]) -> dict[str, Any]:
    return {"version": 3, "min": np.array(low, np.float64), "max": np.array(high, np.float64)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 4}, r"version 4 \(this batchnorm reads versions 1 to 3\)"),
        ({"version": 3}, "none of its min"),
        ({"version": 2}, "none of its sum_weights"),
        ({"version": 2, "sum_weights": np.array([0, np.inf])}, r"impossible numbers: .*infinite sum .* channel 1"),
        ({"version": 2, "sum_weights": np.array([1.0, 1.0])}, r"impossible numbers: weights of no values in channel 0"),
        ({"version": 2, "sum_weights": np.zeros(1)}, r"shapes .* for 2 channels"),
        ({"version": 1.0}, r"version of dtype float64 and shape \(\) in place of one int"),
        ({"version": True}, r"version of dtype bool and shape \(\) in place of one int"),
        ({"version": np.array([1], np.int64)}, r"version of dtype int64 and shape \(1,\) in place of one int"),
        ({"channels": "2"}, r"channels of dtype <U1 and shape \(\) in place of one int"),
        ({"channels": 2.0}, r"channels of dtype float64 and shape \(\) in place of one int"),
        ({"channels": np.array([2, 2], np.int64)}, r"channels of dtype int64 and shape \(2,\) in place of one int"),
        ({"channels": 3}, r"shapes .* for 3 channels"),
        ({"channels": -2}, r"shapes .* for -2 channels"),
        ({"count": np.zeros(2)}, r"an array of float64 in place of int64 for count"),
        ({"count": np.array([0, -1], np.int64)}, r"impossible numbers: a negative count in channel 1"),
        ({"m2": np.array([0, -1.0])}, r"impossible numbers: a negative m2 in channel 1"),
        ({"mean": np.ones(2)}, r"impossible numbers: a mean of no values in channel 0"),
        ({"m2": np.array([1.0, 0])}, r"impossible numbers: an m2 of no values that is not 0 in channel 0"),
        ({"m2": np.array([np.nan, 0])}, r"impossible numbers: an m2 of no values that is not 0 in channel 0"),
        ({"m2": np.array([0, 1.0])}, r"impossible numbers: an m2 of one value that is not 0 in channel 1"),
        ({"m2": np.array([0, np.inf])}, r"impossible numbers: an m2 of one value that is not 0 in channel 1"),
        ({"m2": np.array([0, np.nan])}, r"impossible numbers: an m2 of one value that is not 0 in channel 1"),
        ({"format": "batchnorm.Normalizer"}, "another format"),
        ({"format": 1}, "another format"),
        ({"total": np.array([0, 3], np.int64)}, "none of its squares"),
        ({"total": np.array([0, 3], np.int64), "squares": np.array([0.0, 9.0])}, r"an array of float64 .* for squares"),
        (
            {"total": np.array([0, 2], np.int64), "squares": np.array([0, 4], np.int64)},
            r"impossible numbers: sums of integers that have another mean or m2 in channel 1",
        ),
        (
            {"total": np.array([1, 3], np.int64), "squares": np.array([0, 9], np.int64)},
            r"impossible numbers: sums of no values that are not 0 in channel 0",
        ),
        (
            {"total": np.array([0, 3], np.int64), "squares": np.array([1, 9], np.int64)},
            r"impossible numbers: sums of no values that are not 0 in channel 0",
        ),
        (extremes([np.nan, 3.5], [np.nan, 4]), r"impossible numbers: a mean outside of the extremes in channel 1"),
        (extremes([np.nan, 2], [np.nan, 2.9]), r"impossible numbers: a mean outside of the extremes in channel 1"),
        (extremes([np.nan, 4], [np.nan, 2]), r"impossible numbers: a minimum above the maximum in channel 1"),
        (extremes([1, 3], [1, 3]), r"impossible numbers: extremes of no values in channel 0"),
        (extremes([np.nan, np.nan], [np.nan, 3]), r"impossible numbers: one of the extremes alone in channel 1"),
        (
            extremes([np.nan, np.nan], [np.nan, np.nan]),
            r"impossible numbers: no extremes of values that have a mean in channel 1",
        ),
        (extremes([np.nan], [np.nan]), r"shapes .* for 2 channels"),
        (extremes([np.nan, 2], [np.nan, 4]), r"impossible numbers: an m2 too small for the extremes in channel 1"),
    ],
    ids=str,
)
def test_load_refuses_what_save_never_writes(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "stats.npz"
    np.savez(path, **GOOD)
    assert bn.ChannelStats.load(path).count.tolist() == [0, 1]
    np.savez(path, **{**GOOD, **change})
    with pytest.raises(ValueError, match=rf"stats\.npz: expected a ChannelStats file, got {message}$"):
        bn.ChannelStats.load(path)


@pytest.mark.parametrize("name", ["version", "channels", "count", "mean", "m2"])
def test_load_misses_what_is_not_there(tmp_path: Path, name: str) -> None:
    fields = {key: value for key, value in GOOD.items() if key != name}
    np.savez(tmp_path / "stats.npz", **fields)
    with pytest.raises(ValueError, match=rf"stats\.npz: expected a ChannelStats file, got none of its {name}$"):
        bn.ChannelStats.load(tmp_path / "stats.npz")


def test_the_mean_is_within_the_extremes_up_to_rounding(tmp_path: Path) -> None:
    np.savez(tmp_path / "stats.npz", **{**GOOD, **extremes([np.nan, 3 + 1e-13], [np.nan, 3 + 1e-13])})
    assert bn.ChannelStats.load(tmp_path / "stats.npz").mean[1] == 3.0
    tiny = bn.channel_stats(np.full((3, 2), 1e-39, np.float32), flush_subnormals=True, extremes=True)
    assert_same(bn.ChannelStats.from_json(tiny.to_json()), tiny)


@pytest.mark.parametrize(
    ("count", "mean", "m2", "high", "what"),
    [
        (2, 0.0, 100.0, 0.0, "large"),
        (2, 1.0, 1e9, 2.0, "large"),
        (2, 1.0, 2.1, 2.0, "large"),
        (10, 0.2, 3.6, 2.0, "large"),  # one 2 and nine 0
        (10, 0.2, 3.61, 2.0, "large"),
        (3, 5.0, 0.0, 10.0, "small"),
        (3, 5.0, 49.9, 10.0, "small"),
        (3, 5.0, 50.0, 10.0, "small"),
    ],
)
def test_m2_is_what_the_extremes_allow(count: int, mean: float, m2: float, high: float, what: str) -> None:
    """The lowest value is 0."""
    numbers = {"count": [count], "mean": [mean], "m2": [m2], "min": [0.0], "max": [high]}
    text = json.dumps({"format": "batchnorm.ChannelStats", "version": 3, "channels": 1, **numbers})
    if m2 in (3.6, 50.0):
        assert bn.ChannelStats.from_json(text).m2.tolist() == [m2]
    else:
        with pytest.raises(ValueError, match=f"impossible numbers: an m2 too {what} for the extremes in channel 0"):
            bn.ChannelStats.from_json(text)


GOOD_JSON = '{"format": "batchnorm.ChannelStats", "version": 1, "channels": 1, "count": [2], "mean": [0.5], "m2": [2]}'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{", "", "Expecting value.*|Extra data.*"),
        ("}", "", "Expecting ',' delimiter.*"),
        (GOOD_JSON, "", "Expecting value.*"),
        (GOOD_JSON, "[1]", "JSON of no object"),
        (GOOD_JSON, "null", "JSON of no object"),
        (GOOD_JSON, "{}", "another format"),
        (GOOD_JSON, "[" * 100_000, ".*"),
        ("batchnorm.ChannelStats", "batchnorm.Normalizer", "another format"),
        ('"batchnorm.ChannelStats"', "[1]", "another format"),
        ('"version": 1', '"version": 9', r"version 9 \(this batchnorm reads versions 1 to 3\)"),
        ('"version": 1', '"version": 1.0', r"version of dtype float64 and shape \(\) in place of one int"),
        ('"version": 1', '"version": true', r"version of dtype bool and shape \(\) in place of one int"),
        ('"version": 1, ', "", "none of its version"),
        ('"channels": 1', '"channels": null', r"channels of dtype object and shape \(\) in place of one int"),
        ('"channels": 1', '"channels": 2', r"shapes .* for 2 channels"),
        ('"channels": 1', '"channels": -1', r"shapes .* for -1 channels"),
        ('"count": [2], ', "", "none of its count"),
        ("[2]", "2", "2 in place of a list for (count|m2)"),
        ('"count": [2]', '"count": [2.0]', "2.0 in place of an int of 64 bits for count"),
        ('"count": [2]', '"count": [true]', "True in place of an int of 64 bits for count"),
        ('"count": [2]', '"count": [9223372036854775808]', "9223372036854775808 in place of .* for count"),
        ('"count": [2]', '"count": [-2]', "impossible numbers: a negative count in channel 0"),
        ('"mean": [0.5]', '"mean": [NaN]', "NaN, which is no JSON"),
        ('"mean": [0.5]', '"mean": [-Infinity]', "-Infinity, which is no JSON"),
        ('"mean": [0.5]', '"mean": [1e999]', "inf in place of a number for mean"),
        ('"mean": [0.5]', '"mean": ["inf"]', "'inf' in place of a number for mean"),
        ('"mean": [0.5]', '"mean": [null]', "None in place of a number for mean"),
        ('"mean": [0.5]', '"mean": [true]', "True in place of a number for mean"),
        ('"mean": [0.5]', '"mean": [[0.5]]', ".* in place of a number for mean"),
        ('"mean": [0.5]', '"mean": [0.5, 0.5]', r"shapes .* for 1 channels"),
        ('"m2": [2]', '"m2": [-1e-9]', "impossible numbers: a negative m2 in channel 0"),
    ],
    ids=str,
)
def test_from_json_refuses_what_to_json_never_writes(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert bn.ChannelStats.from_json(GOOD_JSON).mean.tolist() == [0.5]
    assert old in GOOD_JSON
    text = GOOD_JSON.replace(old, new)
    with pytest.raises(ValueError, match=rf"^text: expected the JSON of a ChannelStats, got ({message})$"):
        bn.ChannelStats.from_json(text)
    (tmp_path / "stats.json").write_text(text)
    with pytest.raises(ValueError, match=r"stats\.json: expected a ChannelStats file, got "):
        bn.ChannelStats.load(tmp_path / "stats.json")


def test_from_json_of_no_text() -> None:
    for wrong in (None, 1, GOOD_JSON.encode(), {}):
        with pytest.raises(TypeError, match=r"^text: expected a str, got"):
            bn.ChannelStats.from_json(wrong)  # type: ignore[arg-type]


def test_unknown_fields_are_left_alone() -> None:
    text = GOOD_JSON.replace('"version"', '"note": ["of a run"], "version"')
    assert bn.ChannelStats.from_json(text) == bn.ChannelStats.from_json(GOOD_JSON)


@pytest.mark.parametrize("name", ["stats.npz", "stats.json"])
def test_damage_is_found_or_harmless(tmp_path: Path, name: str) -> None:
    """A file that is cut short anywhere is refused; nothing but a ValueError comes of any byte."""
    path = tmp_path / name
    bn.channel_stats(normal(6, 3), extremes=True).save(path)
    whole = path.read_bytes()
    for end in range(0, len(whole) - 2, 7):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match="expected a ChannelStats file, got"):
            bn.ChannelStats.load(path)
    rng = np.random.default_rng(0)
    messages = []
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            bn.ChannelStats.load(path)
        except ValueError as error:
            messages.append(str(error))
    assert messages and all("expected a ChannelStats file, got" in message for message in messages)


def test_load_takes_whatever_values_there_were(tmp_path: Path) -> None:
    """One channel for each way to choose up to three values, at once and one by one."""
    values = [0.0, 1.0, -np.inf, np.inf, np.nan, 1e200, -1e200, 1.7e308, -1.7e308, 5e-324]
    for n in (1, 2, 3):
        x = np.array(list(itertools.product(values, repeat=n))).T
        parts, omitted = bn.ChannelStats(extremes=True), bn.ChannelStats(extremes=True)
        for row in x:
            parts.update(row[None])
            omitted.update(row[None], nan_policy="omit")
        whole = bn.channel_stats(x)
        for stats in (whole, parts, omitted, bn.batch_norm_train(x, on_single="allow")[1].stats, whole - whole):
            for name in ("stats.npz", "stats.json"):
                stats.save(tmp_path / name)
                assert bn.ChannelStats.load(tmp_path / name) == stats
        finite = x[:, np.isfinite(x).all(axis=0)]
        whole, part = bn.channel_stats(finite), bn.channel_stats(finite[:1])
        try:
            left = whole - part
        except ValueError:
            pytest.fail("a part that is one")
        assert bn.ChannelStats.from_json(left.to_json()) == left
