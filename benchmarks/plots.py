"""Pictures of benchmarks/results: throughput and latency against load, and shares of the roofline.

    python benchmarks/plots.py [--results DIR]

Reads the last JSON line of load.txt, chat.txt and roofline.txt there and writes load.png, chat.png and roofline.png
beside them.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "results"
COLOURS = {"now": "#1f6fb4", "before": "#9a9a9a"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    for name, plot in (("load", load_figure), ("chat", chat_figure), ("roofline", roofline_figure)):
        source = options.results / f"{name}.txt"
        if source.exists():
            save(plot(last_json(source)), target := source.with_suffix(".png"))
            print(target)
    return 0


def last_json(path: Path) -> dict[str, Any]:
    """The last line that is a JSON object."""
    lines = [line for line in path.read_text().splitlines() if line.startswith("{")]
    if not lines:
        raise SystemExit(f"{path} holds no line of JSON")
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def load_figure(measured: dict[str, Any]) -> Figure:
    """Answers a second, and how long an answer takes, by clients at once."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    rate, latency = figure.subplots(1, 2)
    servers = dict.fromkeys(row["server"] for row in measured["rows"])
    for server in servers:
        rows = [row for row in measured["rows"] if row["server"] == server]
        clients = [row["clients"] for row in rows]
        colour = COLOURS.get(server)
        rate.plot(clients, [row["requests_per_s"] for row in rows], marker="o", color=colour, label=server)
        latency.plot(clients, [row["p50_ms"] for row in rows], marker="o", color=colour, label=f"{server}, p50")
        p99_ms = [row["p99_ms"] for row in rows]
        latency.plot(clients, p99_ms, marker="v", linestyle="--", color=colour, label=f"{server}, p99")
    for axes, title, unit in ((rate, "Throughput", "answers/s"), (latency, "Latency", "ms")):
        _by_clients(axes, title, unit, clients)
    return figure


def chat_figure(measured: dict[str, Any]) -> Figure:
    """Tokens a second of the engine, the reference's algorithm and transformers, by requests at once."""
    rates: dict[str, float] = measured["tokens_per_s"]
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    names = list(rates)
    bars = axes.barh(names, list(rates.values()), color=[_colour(name) for name in names])
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_xlim(0, 1.15 * max(rates.values()))
    axes.set_xlabel("tokens/s in all, by requests at once")
    axes.invert_yaxis()
    axes.set_title(f"Chat, {measured.get('size', 'mid')} size, three beams")
    _plain(axes)
    return figure


def roofline_figure(measured: dict[str, Any]) -> Figure:
    """Each part's share of what a plain read, or a plain matrix product, reaches."""
    parts: dict[str, list[dict[str, Any]]] = measured["parts"]
    figure = Figure(figsize=(9, 1.2 + 0.32 * sum(map(len, parts.values()))), layout="constrained")
    every = figure.subplots(len(parts), 1, sharex=True, height_ratios=[len(rows) for rows in parts.values()])
    for axes, (name, rows) in zip(every, parts.items(), strict=True):
        bars = axes.barh([row["part"] for row in rows], [100 * row["share"] for row in rows], color="#1f6fb4")
        axes.bar_label(bars, labels=[f"{row['share']:.0%}, {row['ms']:.1f} ms" for row in rows], padding=3)
        axes.axvline(100, color="#9a9a9a", linestyle="--")
        axes.invert_yaxis()
        axes.set_title(name, loc="left")
        _plain(axes)
    widest = max(row["share"] for rows in parts.values() for row in rows)
    every[-1].set_xlim(0, 100 * max(widest, 1) * 1.25)
    every[-1].set_xlabel("% of a plain read (chat) or of a plain matrix product (paint)")
    return figure


def save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _by_clients(axes: Axes, title: str, unit: str, clients: list[int]) -> None:
    axes.set_title(title)
    axes.set_xscale("log", base=2)
    axes.set_xticks(clients, [str(count) for count in clients])
    axes.set_xlabel("clients at once")
    axes.set_ylabel(unit)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _colour(name: str) -> str:
    return "#1f6fb4" if name.startswith("ours") else "#9a9a9a"


if __name__ == "__main__":
    raise SystemExit(main())
