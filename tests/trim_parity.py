"""Makes tests/parity from a whole parity folder: `python tests/trim_parity.py WHOLE tests/parity`.

Left out for size: the float32 copies of the checkpoints, fine-tuning, all but the first incremental case, the 50-step
sampling, stored pictures and guided predictions. `files.json` names what is left, so that nothing else is missed.
"""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file

LEFT_OUT = {
    "chat_checkpoint.safetensors",
    "paint_checkpoint.safetensors",
    "finetune.json",
    "finetune.safetensors",
    "images/image3.png",
    "paint_case0_image0.png",
    "README.md",
}
OFFSET0, OFFSET1 = (f"paint_timesteps_leading_offset{offset}" for offset in (0, 1))
KEPT_CASES = {OFFSET0: {0, 1, 2}, OFFSET1: {1}}
NOT_STORED = {"image", "guided_noise_pred"}


def trim(source: Path, target: Path) -> None:
    whole = sorted(path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file())
    names = [name for name in whole if name not in LEFT_OUT]
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)
    for name, cases in KEPT_CASES.items():
        described = json.loads((source / f"{name}.json").read_text("utf-8"))
        described["cases"] = [case for case in described["cases"] if case["case"] in cases]
        write_json(target / f"{name}.json", described)
        keep_tensors(source, target, f"{name}.safetensors", lambda key, kept=cases: is_kept(key, kept))
    write_json(target / "incremental.json", json.loads((source / "incremental.json").read_text("utf-8"))[:1])
    for name in ("incremental.safetensors", "half.safetensors"):
        keep_tensors(source, target, name, lambda key: not key.startswith("case") or key.startswith("case0."))
    write_json(target / "files.json", names)


def is_kept(key: str, cases: set[int]) -> bool:
    case, field = key.split(".", 1)
    return int(case.removeprefix("c")) in cases and field not in NOT_STORED


def keep_tensors(source: Path, target: Path, name: str, is_kept: Callable[[str], bool]) -> None:
    save_file({key: tensor for key, tensor in load_file(source / name).items() if is_kept(key)}, target / name)


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", "utf-8")


if __name__ == "__main__":
    trim(Path(sys.argv[1]), Path(sys.argv[2]))
