"""An engine in use: one that was chosen by itself and fails gives way to the CPU."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from napari_deconv import engines
from napari_deconv.imaging.value import InputError, first_line
from napari_deconv.restoration.engine import Engine
from napari_deconv.restoration.restorer import Observation, Restorer, Step


class OpenedEngine:
    """The engine of a run; one that was chosen by itself and fails gives way to the CPU."""

    def __init__(self, asked: str) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            self.engine: Engine = engines.open_engine(asked)
        self.notes = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
        self.may_fall_back = asked == "auto" and self.engine.name != "cpu"

    def steps(
        self, method: Restorer, observation: Observation, *, may_cut: bool = False
    ) -> Iterator[Step]:
        """Yield the method's steps; where the CPU takes over, they begin again.

        With `may_cut`, a device without enough memory is an error: a smaller piece may do.
        """
        try:
            yield from method.steps(observation, self.engine)
        except InputError:
            raise
        except Exception as error:
            # Drivers fail in every way there is: out of memory, lost device, bad kernels.
            if not self.may_fall_back or (may_cut and engines.is_out_of_memory(error)):
                raise
            self.notes.append(
                f"{self.engine.device} failed ({first_line(error)}); the CPU took over"
            )
            self.engine.release()
            self.engine, self.may_fall_back = engines.open_engine("cpu"), False
            yield from method.steps(observation, self.engine)
