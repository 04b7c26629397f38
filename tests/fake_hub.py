"""A fake of Hugging Face: repositories of data sets in memory, behind the client's own interface."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class FakeHub:
    """Repositories of data sets, by their names; `failing` is raised by commits."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.tokens: set[str | None] = set()
        self.failing: Exception | None = None
        self.num_commits = 0
        self.role = "write"

    def __call__(self, token: str | None = None) -> FakeHub:
        self.tokens.add(token)
        return self

    def whoami(self) -> dict[str, Any]:
        return {"name": "me", "auth": {"accessToken": {"role": self.role}}}

    def repo_exists(self, name: str, repo_type: str) -> bool:
        assert repo_type == "dataset"
        return self._full(name) in self.files

    def create_repo(self, name: str, private: bool, exist_ok: bool, **_: Any) -> Any:
        assert exist_ok or self._full(name) not in self.files
        self.private.setdefault(self._full(name), private)
        self.files.setdefault(self._full(name), {".gitattributes": b""})
        return SimpleNamespace(repo_id=self._full(name))

    def list_repo_files(self, name: str, **_: Any) -> list[str]:
        return list(self.files[self._full(name)])

    def create_commit(self, name: str, operations: list[Any], commit_message: str, **_: Any) -> Any:
        if self.failing is not None:
            raise self.failing
        from huggingface_hub import CommitOperationDelete  # loaded by the few tests that push

        for each in operations:
            if isinstance(each, CommitOperationDelete):
                del self.files[name][each.path_in_repo]
            else:
                self.files[name][each.path_in_repo] = each.path_or_fileobj
        self.num_commits += 1
        return SimpleNamespace(commit_url=f"https://hub/{name}/{commit_message}")

    def delete_repo(self, name: str, **_: Any) -> None:
        del self.files[name]

    def names(self, repository: str) -> list[str]:
        """The files of a repository that were pushed, sorted."""
        return sorted({*self.files[repository]} - {".gitattributes"})

    @staticmethod
    def _full(name: str) -> str:
        return name if "/" in name else f"me/{name}"
