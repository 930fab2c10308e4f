"""The one look of all figures, and how a figure becomes files that are the same bytes each time."""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure


INK, GREY, PALE = "#222222", "#7a7a7a", "#d9d9d9"
BLUE, RED, GREEN = "#0072B2", "#D55E00", "#009E73"
# Okabe and Ito's colours, ordered so that neighbours differ in lightness too; their yellow is too pale for lines.
OKABE_ITO = (BLUE, "#E69F00", GREEN, "#CC79A7", RED, "#56B4E9")
WIDTH = 7.16  # inches, the two-column width of an IEEE page
# One colour and marker per setting and kind of teacher in every figure; markers and lines differ where printed in grey.
SETTING_STYLES = {
    "Baseline I": {"color": GREY, "marker": "X", "ls": ":"},
    "Baseline II": {"color": GREEN, "marker": "^", "ls": (0, (5, 1, 1, 1))},
    "Baseline III": {"color": BLUE, "marker": "s", "ls": "--"},
    "Baseline III, subset teachers": {"color": "#56B4E9", "marker": "D", "ls": (0, (3, 1))},
    "Baseline IV": {"color": "#CC79A7", "marker": "v", "ls": (0, (1, 1))},
    "Baseline V": {"color": "#E69F00", "marker": "P", "ls": "-."},
    "RoS-KD": {"color": RED, "marker": "o", "ls": "-"},
    "teacher, full set": {"color": INK, "marker": "p", "ls": (0, (6, 2))},
    "teacher, subset": {"color": "#6A3D9A", "marker": "*", "ls": (0, (4, 1, 1, 1, 1, 1))},
}
_NAMES = {
    "resnet18": "ResNet-18", "resnet34": "ResNet-34", "resnet50": "ResNet-50", "mobilenet_v2": "MobileNet-v2",
    "densenet121": "DenseNet-121",
}  # fmt: skip


def style():
    """Fonts, lines and colours for every figure, as a context or a decorator; fonts embedded as text, not outlines."""
    look = mpl.style.library["seaborn-v0_8-ticks"] | {  # seaborn's own, without the half second that it takes to import
        "font.family": "DejaVu Sans", "font.size": 7.5, "axes.titlesize": 8, "axes.labelsize": 7.5,
        "xtick.labelsize": 7, "ytick.labelsize": 7, "legend.fontsize": 7, "legend.frameon": False,
        "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6, "axes.titlelocation": "left",
        "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.major.size": 2.5, "ytick.major.size": 2.5,
        "lines.linewidth": 1.2, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK,
        "ytick.color": INK, "patch.edgecolor": "w", "patch.force_edgecolor": True, "figure.dpi": 120, "savefig.dpi": 200,
        "pdf.fonttype": 42, "savefig.facecolor": "white",
    }  # fmt: skip
    return mpl.rc_context(look)


def colours(n: int) -> list:
    """n colours that colour-blind readers can tell apart (n up to 6: Okabe and Ito's)."""
    if n <= len(OKABE_ITO):
        return list(OKABE_ITO[:n])
    import seaborn

    return [mpl.colors.to_hex(colour) for colour in seaborn.husl_palette(n, l=0.55)]


def architecture_name(architecture: str) -> str:
    """The name as the paper prints it."""
    base, bracket, number = architecture.partition(" (")  # of several in a pool
    return _NAMES.get(base, base) + bracket + number


def subplots(rows: int = 1, columns: int = 1, *, size: tuple[float, float], **options) -> tuple[Figure, np.ndarray]:
    """Figure and axes [rows, columns], already forgotten by pyplot: a notebook shows it once, and none pile up."""
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, **{"layout": "constrained", **options})
    plt.close(fig)
    return fig, axes


def write_figure(fig: Figure, folder: str | Path, name: str, watermark: str) -> list[Path]:
    """Write `<name>.pdf` and `.png` with the watermark small at the bottom; the same figure gives the same bytes."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{suffix}" for suffix in ("pdf", "png")]
    with style():
        fig.supxlabel(watermark, fontsize=5.5, color=GREY)
        if layout := fig.get_layout_engine():  # once for both files: it takes as long as to draw
            layout.execute(fig)
            fig.set_layout_engine("none")
        fig.savefig(paths[0], metadata={"CreationDate": None, "Producer": None, "Creator": None})
        fig.savefig(paths[1], metadata={"Software": None})
    return paths
