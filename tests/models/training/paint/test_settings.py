"""Settings are known without what they set."""

import subprocess
import sys
from pathlib import Path

import pytest

from models.training.cli import main
from models.training.paint.settings import PaintSettings, VAESettings

ROOT = Path(__file__).parents[4]


@pytest.mark.slow
def test_the_command_line_brings_no_diffusers() -> None:
    """It takes seconds to import, and training Chat needs none of it."""
    code = "import sys, models.training.cli; print([name for name in ('diffusers', 'peft') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_flags_tell_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    told = {}
    for command in ("paint", "vae"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        told[command] = " ".join(capsys.readouterr().out.split())
    for default in (PaintSettings.empty_share, PaintSettings.ema_decay, PaintSettings.guidance_scale):
        assert f"({default})" in told["paint"]
    assert f"({VAESettings.edge_weight})" in told["vae"]
