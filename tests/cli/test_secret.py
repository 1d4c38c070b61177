"""The file with a cluster's secret. If this fails, anybody who reaches a node can be a member of its cluster."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ourodb.config import Config
from ourodb.daemon import load_secret
from ourodb.errors import ConfigurationProblem
from ourodb.secret import make_secret, read_secret


@pytest.mark.parametrize("content", [b"", b" \n"])
def test_an_empty_secret_is_none(tmp_path: Path, content: bytes) -> None:
    """As it is left by a crash or a full disk, or named by mistake."""
    (tmp_path / "secret").write_bytes(content)
    for config in (Config(secret=f"@{tmp_path / 'secret'}"), Config(data=str(tmp_path))):
        with pytest.raises(ConfigurationProblem, match="is empty"):
            load_secret(config)


def test_a_secret_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "secret"
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            make_secret(path)
    assert list(tmp_path.iterdir()) == []
    made = make_secret(path)
    assert read_secret(path) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        make_secret(path)
    assert read_secret(path) == made
    assert [one.name for one in tmp_path.iterdir()] == ["secret"]
