"""A folder of this machine as a source: laid out by repository, or flat."""

from dataclasses import dataclass
from pathlib import Path

from models.checkpoints.hub.remote_file import RemoteFile


@dataclass(frozen=True)
class Folder:
    """It holds `owner/repository/file`, or the files themselves; revisions it has none."""

    name: str

    def find(self, repository: str, file: str, revision: str | None) -> RemoteFile:
        candidates = (Path(self.name) / repository / file, Path(self.name) / file)
        found = next((candidate for candidate in candidates if candidate.is_file()), None)
        if found is None:
            raise FileNotFoundError(f"neither {candidates[0]} nor {candidates[1]}")
        return RemoteFile(found.stat().st_size, path=found)

    def names(self, repository: str, revision: str | None) -> list[str]:
        folder = Path(self.name) / repository
        if not folder.is_dir():
            raise FileNotFoundError(f"no folder {folder}")
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
