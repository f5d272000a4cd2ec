"""The table of benchmarks/generators.py from its rows."""

from __future__ import annotations

from typing import Any

from content import CLASSES, KINDS


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: one line for each row."""
    noises = list(dict.fromkeys(n for r in rows for n in r.get("noise", {})))
    names = [
        "generator",
        "latents",
        "field Å",
        "images",
        "parameters",
        "ms/image",
        "Test 1",
        "Test 2 dB (5 %)",
        "SSIM (5 %)",
    ]
    names += [*KINDS, *CLASSES, "precision", "recall", "spectrum dB", *noises]
    lines = ["| " + " | ".join(names) + " |", "|---|" + "--:|" * (len(names) - 1)]
    for r in rows:
        everything, like = r["test_2"]["all"], r["likeness"]
        cells = [
            r["name"],
            r["latent"],
            f"{r['patch'] * r['sampling']:.0f}",
            f"{r['images'] or 0:,}",
            f"{r['parameters']:,}",
        ]
        cells += [
            f"{r['ms_image']:.2f}",
            f"{r['test_1']['recovered']:.0%} ({r['test_1']['median_db']:.0f} dB)",
        ]
        cells += [
            f"{everything['psnr']:.2f} ({everything['psnr_p5']:.2f})",
            f"{everything['ssim']:.3f} ({everything['ssim_p5']:.3f})",
        ]
        cells += [
            f"{r['test_2'][g]['psnr']:.1f}" if r["test_2"][g]["n"] else "-"
            for g in (*KINDS, *CLASSES)
        ]
        cells += [f"{like['precision']:.2f}", f"{like['recall']:.2f}", f"{like['spectrum_db']:.1f}"]
        cells += [f"{r['noise'][n]:.2f}" if n in r.get("noise", {}) else "-" for n in noises]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)
