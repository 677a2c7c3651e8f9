"""Compressors as baselines: the training text helps, and what is not installed is left out and named."""

import logging
import lzma
import math
import shutil

import numpy as np
import pytest

from support.texts import sentences
from unrolled.evaluation import compressors
from unrolled.evaluation.compressors import compressor_nats, xz_nats

TRAIN, TEST = sentences(300).encode(), sentences(60, seed=1).encode()


def test_xz_costs_more_for_new_text() -> None:
    random = np.random.default_rng(0)
    train = random.integers(0, 256, 100_000).astype(np.uint8).tobytes()
    assert xz_nats(train, train[:50_000], 50_000) < 0.1
    fresh = random.integers(0, 256, 50_000).astype(np.uint8).tobytes()
    assert xz_nats(train, fresh, 50_000) == pytest.approx(math.log(256), rel=0.01)
    assert xz_nats(train, fresh, 25_000) == pytest.approx(2 * math.log(256), rel=0.01)
    plain = (len(lzma.compress(b"ab" * 500, preset=9)) - len(lzma.compress(b"", preset=9))) * 8 * math.log(2) / 1000
    assert xz_nats(b"", b"ab" * 500, 1000) == pytest.approx(plain)


def check_compressor(name: str) -> None:
    given, alone = compressor_nats(TRAIN, TEST, len(TEST))[name], compressor_nats(b"", TEST, len(TEST))[name]
    assert 0.1 < given < 0.8 * alone < 5


def test_ppmd() -> None:
    pytest.importorskip("pyppmd")
    check_compressor("PPMd")


@pytest.mark.skipif(shutil.which("zpaq") is None, reason="zpaq is not installed")
def test_zpaq() -> None:
    check_compressor("zpaq -m5")


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(compressors.importlib.util, "find_spec", lambda name: None)  # type: ignore[attr-defined]
    monkeypatch.setattr(compressors.shutil, "which", lambda name: None)  # type: ignore[attr-defined]
    assert compressor_nats(TRAIN, TEST, len(TEST)) == {}
    assert "PPMd is left out: pip install pyppmd" in caplog.text
    assert "zpaq -m5 is left out: the program zpaq is not installed" in caplog.text
    monkeypatch.setattr(compressors.shutil, "which", lambda name: "/usr/bin/zpaq")  # type: ignore[attr-defined]
    monkeypatch.setattr(compressors, "ZPAQ_MAX_BYTES", 100)
    assert compressor_nats(TRAIN, TEST, len(TEST)) == {}
    assert "more than 100" in caplog.text
