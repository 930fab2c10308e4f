"""A picture under sliders where somebody sits at the kernel, and a still one anywhere else."""

import html
import os
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.util import find_spec
from typing import Any, NamedTuple

import matplotlib
from IPython.core.pylabtools import retina_figure
from IPython.display import display
from matplotlib.figure import Figure

from rosutils import InputError


SHOWN = 60  # images to choose from
Pictures = Figure | Sequence[Figure]


class Playing(NamedTuple):
    """A widget, and the picture in its place where a page is shown without a kernel: a saved notebook, nbconvert."""

    box: Any
    still: str  # png, base64

    def _repr_mimebundle_(self, **how) -> dict:
        return self.box._repr_mimebundle_(**how) | {"image/png": self.still}


def live() -> bool:
    """Whether somebody sits at this kernel, as Jupyter's server tells those that it starts for people, and there are widgets."""
    return "JPY_SESSION_NAME" in os.environ and all(map(find_spec, ("ipywidgets", "ipympl")))


def play(draw: Callable[..., Pictures], says: str, *, button: str = "", **controls) -> None:
    """Show `draw()` with its defaults and, where somebody is there to play, controls under which it is drawn anew.

    A control is (lowest, highest, step) for a slider or a list for a menu; a `button` with these words counts how often it
    was pressed in the parameter `pressed`. `says` is what one sees, for those who cannot.
    """
    if not live():
        display(*_several(draw()))
        return
    import ipywidgets  # optional: without it the pictures are still

    picture, again = ipywidgets.HTML(), ipywidgets.Button(description=button)
    if button:
        controls["pressed"] = ipywidgets.IntText(0, layout={"display": "none"})
        again.on_click(lambda _: setattr(controls["pressed"], "value", controls["pressed"].value + 1))

    @wraps(draw)  # whose defaults the controls begin with
    def show(**values) -> None:
        picture.value = _page(draw, values, says)

    made = ipywidgets.interactive(show, **controls)
    for each in made.children[:-1]:
        each.style.description_width = "initial"
        if hasattr(each, "options"):
            each.layout.width = "max-content"  # names of runs are long
        if hasattr(each, "continuous_update"):  # or a slider asks for more pictures than can be drawn meanwhile
            each.continuous_update = False
    made.update()
    row = ipywidgets.HBox([*made.children[:-1], *[again] * bool(button)], layout={"flex_flow": "row wrap"})
    errors = made.children[-1]  # a traceback would stand there
    display(Playing(ipywidgets.VBox([row, picture, errors]), still(_several(draw())[0])))


def turn(draw: Callable[..., Figure], says: str, **menu: list) -> None:
    """Show `draw(value)`, a figure in three dimensions, to be turned with the mouse, all its axes together; or still.

    `menu` is one name with the values to choose from, the first of which is taken first.
    """
    [(name, values)] = menu.items()
    if not live():
        display(draw(values[0]))
        return
    import ipywidgets

    backend = matplotlib.get_backend()
    from ipympl.backend_nbagg import Canvas, FigureManager

    matplotlib.use(backend)  # that import takes over every other figure

    def canvas(value) -> Canvas:
        made = Canvas(draw(value))
        FigureManager(made, 0)
        made.toolbar_visible = made.header_visible = made.footer_visible = made.resizable = False
        made.mpl_connect("motion_notify_event", _together)
        return made

    choice = ipywidgets.Dropdown(options=values, description=name)
    box = ipywidgets.VBox([choice, canvas(values[0])])
    choice.observe(lambda change: setattr(box, "children", (choice, canvas(change["new"]))), "value")
    display(ipywidgets.HTML(f"<p>{html.escape(says)}</p>"), Playing(box, still(draw(values[0]))))


def lost(whose: str) -> None:
    """Say that a widget has no network to ask."""
    print(f"no weights of {whose} are in the store (they were released, or came without): nothing to play with here")


def _together(event) -> None:
    """The axes that the mouse turns take all others with them."""
    if event.button and hasattr(event.inaxes, "azim"):
        for ax in event.canvas.figure.axes:
            if hasattr(ax, "view_init"):
                ax.view_init(elev=event.inaxes.elev, azim=event.inaxes.azim)


def still(figure: Figure) -> str:
    """A figure as png in base64, at twice the pixels."""
    return retina_figure(figure, base64=True, bbox_inches=None)[0]


def _several(made: Pictures) -> Sequence[Figure]:
    return [made] if isinstance(made, Figure) else made


def _page(draw: Callable[..., Pictures], values: dict, says: str) -> str:
    """The pictures as HTML, as sharp as the screen; or what is wrong with the values."""
    try:
        figures = _several(draw(**values))
    except InputError as error:
        return f"<p>{html.escape(str(error))}</p>"
    how, images = f'alt="{html.escape(says, quote=True)}" style="max-width: 100%; height: auto"', []
    for figure in figures:
        width = round(figure.get_figwidth() * figure.dpi)
        images.append(f'<img {how} width="{width}" src="data:image/png;base64,{still(figure)}">')
    return "".join(images)
