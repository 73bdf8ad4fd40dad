"""`viscpm checkpoint`: fetch, convert, average, inspect, manifest."""
# ruff: noqa: T201 (a command line speaks by print)

import argparse
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from models.checkpoints.conversion import DEFAULT_SHARD_BYTES, average, convert
from models.checkpoints.hub.collections import NAMES
from models.checkpoints.hub.fetch import HUB_VARIABLE, fetch
from models.checkpoints.loading import open_checkpoint
from models.checkpoints.manifest import KINDS, manifest
from models.checkpoints.tensor_files import CheckpointError, fingerprint
from models.jobs import Quantization
from models.networks.paint.config import PaintConfig

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0, 1 with one line on stderr for what failed, 2 for wrong flags, 130 when interrupted."""
    options = _parser().parse_args(argv)
    try:
        options.run(options)
    except (CheckpointError, OSError) as error:
        print(f"viscpm checkpoint: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _fetch(options: argparse.Namespace) -> None:
    folder = options.to or Path("checkpoints") / options.name
    try:
        files = fetch(options.name, folder, options.mirror, options.revision, options.hub, _say)
    except KeyboardInterrupt:
        _say("interrupted; the same command goes on from here")
        raise
    for file in files:
        print(f"{file}  {file.stat().st_size:,} bytes")


def _say(line: str) -> None:
    """What is no result."""
    print(line, file=sys.stderr)


def _convert(options: argparse.Namespace) -> None:
    digest = convert(
        options.source,
        options.folder,
        options.vocabulary,
        options.vae,
        options.shard_size,
        options.config,
        options.quantize,
    )
    print(f"{options.folder}  fingerprint {digest}")


def _average(options: argparse.Namespace) -> None:
    print(f"{options.folder}  fingerprint {average(options.sources, options.folder)}")


def _inspect(options: argparse.Namespace) -> None:
    found = describe(options.path, options.config)
    if options.json:
        print(json.dumps(found, ensure_ascii=False))
        return
    for name, value in found.items():
        rendered = ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else value
        print(f"{name:<14} {f'{rendered:,}' if isinstance(rendered, int) and name != 'untrained' else rendered}")


def _manifest(options: argparse.Namespace) -> None:
    print(json.dumps(manifest(options.name), indent=1))


def describe(path: Path, config: Path | None = None) -> dict[str, Any]:
    """What a checkpoint is: kind, sizes, tensors, dtypes, bytes, fingerprint. Raises CheckpointError."""
    checkpoint = open_checkpoint(path, config=config)
    tensors = checkpoint.tensors
    quantized = checkpoint.quantized.values()
    parts = {name for weight in quantized for name in weight.names}
    others = [tensor for name, tensor in tensors.items() if name not in parts]
    sizes = checkpoint.config
    if isinstance(sizes, PaintConfig):
        fields: dict[str, Any] = {"unet": {"block_out_channels": list(sizes.unet["block_out_channels"])}}
    else:
        fields = {"vision": sizes.vision.to_published(), "query_tokens": sizes.num_query_tokens}
    return {
        "file": str(checkpoint.file),
        "kind": checkpoint.kind,
        "untrained": checkpoint.untrained,
        "llm": sizes.llm.to_published(),
        **fields,
        "quantization": checkpoint.quantization,
        "tensors": len(tensors),
        "unused": len(others) - len(checkpoint.parameters) + len(quantized),
        "parameters": sum(tensor.numel() for tensor in others) + sum(math.prod(weight.shape) for weight in quantized),
        "dtypes": dict(Counter(str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values())),
        "bytes": sum(tensor.nbytes for tensor in tensors.values()),
        "fingerprint": fingerprint(tensors),
    }


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d+)\s*([KMG]?I?B?)", text.strip().upper())
    if found is None or found[2] not in _UNITS or int(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write 4GB, 500MB or a number of bytes")
    return int(found[1]) * _UNITS[found[2]]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="viscpm checkpoint", description="Get, convert and look into checkpoints.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    one = commands.add_parser("fetch", help="bring a published checkpoint or side model here; goes on where it stopped")
    one.add_argument("name", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    one.add_argument("--to", type=Path, metavar="DIR", help="folder for the files (default: checkpoints/NAME)")
    one.add_argument(
        "--hub",
        metavar="HUB",
        help=f"huggingface, modelscope, or the URL of the former's mirror (default: {HUB_VARIABLE}, else huggingface, "
        "for which HF_ENDPOINT may name another place)",
    )
    one.add_argument(
        "--mirror",
        action="append",
        default=[],
        metavar="HUB|FOLDER",
        help="tried before the hub, in this order; may be repeated",
    )
    one.add_argument("--revision", help="branch, tag or commit on the hub (default: main; on ModelScope master)")
    one.set_defaults(run=_fetch)

    one = commands.add_parser("convert", help="published file to a folder of safetensors with all that belongs to it")
    one.add_argument("source", type=Path, metavar="SRC")
    one.add_argument("folder", type=Path, metavar="DST", help="a new folder")
    one.add_argument("--vocabulary", type=Path, metavar="FILE", help="vocab.txt (default: beside SRC)")
    one.add_argument("--vae", type=Path, metavar="DIR", help="Paint: the VAE's folder (default: vae beside SRC)")
    one.add_argument("--config", type=Path, metavar="FILE", help="sizes, where the shapes do not tell them")
    one.add_argument(
        "--shard-size", type=_size, default=DEFAULT_SHARD_BYTES, metavar="SIZE", help="such as 500MB (default: 4GiB)"
    )
    one.add_argument(
        "--quantize",
        choices=get_args(Quantization),
        default="off",
        help="the language model's linear layers: int8 halves it, int4 takes less than a third (default: off)",
    )
    one.set_defaults(run=_convert)

    one = commands.add_parser("average", help="the mean of the weights of runs that went on from one another")
    one.add_argument("folder", type=Path, metavar="DST", help="a new folder")
    one.add_argument("sources", type=Path, nargs="+", metavar="SRC", help="one twice counts twice")
    one.set_defaults(run=_average)

    one = commands.add_parser("inspect", help="say what a checkpoint is")
    one.add_argument("path", type=Path, metavar="PATH")
    one.add_argument("--config", type=Path, metavar="FILE", help="sizes, where the shapes do not tell them")
    one.add_argument("--json", action="store_true", help="one JSON object")
    one.set_defaults(run=_inspect)

    one = commands.add_parser("manifest", help="names, shapes and dtypes of a published checkpoint, as JSON")
    one.add_argument("name", choices=KINDS, metavar="NAME", help=", ".join(KINDS))
    one.set_defaults(run=_manifest)
    return parser


if __name__ == "__main__":
    sys.exit(main())
