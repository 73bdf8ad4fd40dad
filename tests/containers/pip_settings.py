"""How pip finds packages on this machine."""

import subprocess
import sys


def pip_told(name: str) -> str:
    """An option of pip's own configuration; its variables go before its files."""
    for key in (f":env:.{name}", f"global.{name}", f"user.{name}"):
        asked = subprocess.run([sys.executable, "-m", "pip", "config", "get", key], capture_output=True, text=True)
        if asked.returncode == 0 and asked.stdout.strip():
            return asked.stdout.strip()
    return ""
