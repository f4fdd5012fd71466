"""The command `napari-deconv`: the same road as the dock and the script.

Each verb has a room of its own; here is the door. What a person reads goes to stderr; stdout
carries only what was asked for (`--json`, lists), so that it can be piped. Exit codes: 0 done,
1 bad input or failed, 2 wrong usage, 130 stopped.
"""

from __future__ import annotations

import typer

from napari_deconv.imaging.value import InputError, in_a_sentence

from .afm import afm
from .batch import batch
from .beads import beads
from .comparing import compare
from .demo import demo
from .devices import devices
from .models import models
from .optics_options import in_options
from .predicting import predict
from .psf import psf
from .restore import restore
from .terminal import fail
from .training import train

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Deconvolution of fluorescence stacks, and reconstruction of AFM surfaces.",
)
# In the order of the help.
for verb in (restore, psf, beads, batch, train, predict, compare, devices, demo):
    app.command()(verb)
app.add_typer(models, name="models")
app.add_typer(afm, name="afm")


def main() -> None:
    """Run the command; every known failure is one sentence on stderr."""
    try:
        app(standalone_mode=True)
    except InputError as error:
        fail(in_options(str(error)), 1)
    except KeyboardInterrupt:
        fail("Stopped; nothing was written.", 130)
    except Exception as error:
        fail(f"{in_a_sentence(error)}.", 1)
