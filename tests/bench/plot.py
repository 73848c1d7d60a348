# SPDX-License-Identifier: Apache-2.0
"""Grouped bars as SVG, readable on light and dark."""

WIDTH, ROW, GAP, LEFT, RIGHT, TOP = 720, 18, 14, 130, 60, 40
COLOURS = {"runbook": "#d55e00", "emqx-upgrade": "#0072b2", "floor": "#8c8c8c"}


def bars(rows, methods, median):
    """One group for each file system and size, one bar for each method: seconds down."""
    cases = list(dict.fromkeys((r["file_system"], r["data_bytes"]) for r in rows))
    values = {c: {m: median([r for r in rows if (r["file_system"], r["data_bytes"]) == c], m) for m in methods} for c in cases}
    scale = (WIDTH - LEFT - RIGHT) / max(v for case in values.values() for v in case.values())
    height = TOP + len(cases) * (len(methods) * ROW + GAP)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
             "<!-- SPDX-License-Identifier: Apache-2.0 -->",
             "<style>text{fill:#222}@media(prefers-color-scheme:dark){text{fill:#ddd}}</style>",
             "<title>Seconds for which the node is down</title>"]
    for i, method in enumerate(methods):
        parts.append(f'<rect x="{LEFT + i * 150}" y="10" width="12" height="12" fill="{COLOURS[method]}"/>'
                     f'<text x="{LEFT + i * 150 + 18}" y="20">{method}</text>')
    y = TOP
    for case, medians in values.items():
        middle = y + len(methods) * ROW / 2 + 4
        parts.append(f'<text x="{LEFT - 10}" y="{middle}" text-anchor="end">{case[0]}, {case[1] >> 20} MiB</text>')
        for method in methods:
            length = medians[method] * scale
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{ROW - 3}" fill="{COLOURS[method]}"/>'
                         f'<text x="{LEFT + length + 6:.1f}" y="{y + ROW - 6}">{medians[method]:.2f} s</text>')
            y += ROW
        y += GAP
    return "\n".join([*parts, "</svg>"]) + "\n"
