"""Exit 0 when this container's own HTTP port answers 200: `healthcheck.py PORT PATH`."""

import sys
import urllib.error
import urllib.request


def main(port: str, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as response:
            return 0 if response.status == 200 else 1
    except (OSError, urllib.error.URLError) as error:
        print(f"port {port}{path}: {error}")  # `docker inspect` shows it
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
