"""Test what is recorded beside figures."""

from __future__ import annotations

import subprocess

from torchnle.evaluation import record


def test_the_commit_is_the_package_s_own_repository_s(tmp_path):
    def git(*arguments):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True, capture_output=True)

    own, nested = tmp_path / "torchnle", tmp_path / "env" / "lib" / "torchnle"
    for package in (own, nested):
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
    assert record.commit_of(own) == ""
    git("init")
    assert record.commit_of(own) == ""  # not tracked
    git("add", "torchnle")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-m", "first")
    assert len(record.commit_of(own)) >= 7
    assert record.commit_of(nested) == ""  # an environment inside another project's repository
    git("add", "env")
    assert record.commit_of(nested) == ""
