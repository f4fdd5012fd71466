"""A model's file: all of it comes back, and what is no model is refused in a sentence."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import InputError
from napari_deconv.learned import model_file
from napari_deconv.learned.calibration import EDGES
from napari_deconv.learned.designs import UNetDesign, UnrolledDesign
from napari_deconv.learned.inputs import INVERSE_CHANNELS
from napari_deconv.learned.model_file import (
    CARD,
    Card,
    Model,
    read_card,
    read_model,
    require_place,
    write_model,
)
from napari_deconv.learned.pairs import Light


@pytest.fixture
def model() -> Model:
    design = UNetDesign(INVERSE_CHANNELS, ((1, 2, 2), (2, 2, 2)), first=2)
    card = Card("beads", design, Light(photons=(5.0, 90.0)), (0.2, 0.1, 0.1), steps=7)
    samples = np.random.default_rng(0).random((3, 5, 5))
    return Model(card, (design.network(),), (Psf(samples, (0.2, 0.1, 0.1)),))


@pytest.fixture
def path(model: Model, tmp_path: Path) -> Path:
    return write_model(tmp_path / "beads.safetensors", model)


def test_all_of_it_comes_back(model: Model, path: Path) -> None:
    found = read_model(path)
    assert found.card == model.card == read_card(path)
    assert np.array_equal(found.psf.samples, model.psf.samples)
    assert found.psf.spacing_um == model.psf.spacing_um
    x = torch.rand(1, len(model.card.design.channels), 4, 8, 8)
    with torch.no_grad():
        assert torch.equal(found.network(x), model.network(x))
    assert [entry.name for entry in path.parent.iterdir()] == ["beads.safetensors"]


def test_it_is_not_replaced_unasked(model: Model, path: Path) -> None:
    with pytest.raises(InputError, match="exists already; choose another name"):
        write_model(path, model)
    write_model(path, model, overwrite=True)
    with pytest.raises(InputError, match=r"beads\.pt does not end in \.safetensors"):
        write_model(path.with_suffix(".pt"), model)
    with pytest.raises(InputError, match="cannot be written"):
        write_model(path / "inside.safetensors", model)


def test_a_place_is_looked_at_before_there_is_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_place(tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match=r"a\.pt does not end in \.safetensors, as a checkpoint"):
        require_place(tmp_path / "a.pt", "a checkpoint")
    with pytest.raises(InputError, match=r"There is no folder .*no; create it, or choose another"):
        require_place(tmp_path / "no" / "a.safetensors")
    (tmp_path / "b.safetensors").mkdir()
    with pytest.raises(InputError, match="is a folder; choose another name"):
        require_place(tmp_path / "b.safetensors")

    def refused(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(model_file, "TemporaryFile", refused)
    with pytest.raises(
        InputError, match=r"cannot be written \(Permission denied\); choose another"
    ):
        require_place(tmp_path / "a.safetensors")


def test_a_pickle_is_refused_unread(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path(tmp_path / "run").touch, ())

    for name, data in (("a.safetensors", pickle.dumps(Evil())), ("b.safetensors", b"")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=r"is no safetensors file, or is cut off, and was not"):
            read_model(tmp_path / name)
    torch.save(Evil(), tmp_path / "c.safetensors")
    with pytest.raises(InputError, match="is no safetensors file"):
        read_model(tmp_path / "c.safetensors")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_told(path: Path, part: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(InputError, match=r"^beads\.safetensors is no safetensors file, or is cut"):
        read_model(path)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no model .*none\.safetensors; check the spell"):
        read_model(tmp_path / "none.safetensors")


def rewritten(path: Path, **changes: Any) -> None:
    """Write the file anew with another card, and its own weights."""
    from safetensors import safe_open

    with safe_open(str(path), "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        card = json.loads(file.metadata()[CARD])
    save_file(tensors, str(path), metadata={CARD: json.dumps(card | changes)})


def test_a_card_that_does_not_fit_is_told(path: Path) -> None:
    rewritten(path, design=UNetDesign(INVERSE_CHANNELS, ((1, 2, 2),), first=2).to_dict())
    with pytest.raises(InputError, match="are not those of the network that its card describes"):
        read_model(path)
    rewritten(path, format=99)
    with pytest.raises(InputError, match="was made by a later version of napari-deconv; update it"):
        read_model(path)
    rewritten(path, colour="blue")
    with pytest.raises(InputError, match=r"The card of beads.* cannot be read: Card has no field"):
        read_model(path)


COUNT = len(EDGES) + 1
CALIBRATION = {"half": [1.0] * COUNT, "most": [2.0] * COUNT}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"members": 0}, "The number of members must be at least 1, not 0"),
        ({"members": -1}, "The number of members must be at least 1, not -1"),
        ({"steps": -1}, "The steps of the training must be at least 0"),
        ({"spacing_um": [0.2, 0.0, 0.1]}, "The y spacing in um must be greater than 0"),
        ({"half": [1.0]}, "so many numbers of photons has 5 factors for each of its intervals"),
        ({"photons": [3.0, 9.0]}, "so many numbers of photons has 10 factors for each of its"),
        ({"most": [-2.0] * COUNT}, "The factors of a calibration must be finite and greater than"),
        ({"photons": [-3.0]}, "The numbers of photons of a calibration must be greater than 0"),
        ({"coverage": [0.5]}, "The coverage of a calibration is 2 parts from 0 to 1, or none"),
        ({"coverage": [0.5, 1.5]}, "The coverage of a calibration is 2 parts from 0 to 1, or none"),
        ({"first": 100_000}, "The number of channels of the first level must be at most 4096, not"),
        ({"first": 0}, "The number of channels of the first level must be at least 1, not 0"),
        ({"kernel": 4}, "The side of a kernel is odd, not 4"),
        ({"pools": [[1, 2, 2], [2, 2]]}, "Each level of a network pools the same two or three"),
        ({"pools": [[1, 0, 2]]}, "The number of voxels that are pooled must be at least 1, not 0"),
        ({"pools": [[1, 2, 2]] * 99}, "The number of levels must be at most 10, not 99"),
    ],
)
def test_numbers_that_no_network_has_are_told(
    model: Model, path: Path, changes: dict[str, Any], sentence: str
) -> None:
    """In the card, in its calibration and in its design."""
    if changes.keys() & {"half", "most", "photons", "coverage"}:
        changes = {"calibration": CALIBRATION | changes}
    elif changes.keys() & {"first", "kernel", "pools"}:
        changes = {"design": model.card.design.to_dict() | changes}
    rewritten(path, **changes)
    with pytest.raises(
        InputError, match=r"The card of beads\.safetensors cannot be read: "
    ) as told:
        read_model(path)
    assert sentence in str(told.value)


def test_a_card_of_a_large_network_takes_no_memory(model: Model, path: Path) -> None:
    """Its weights are not those in the file, which is seen before they are made."""
    design = model.card.design.to_dict()
    for more in ({"first": 4096}, {"kernel": 31}, {"first": 4096, "kernel": 31}):
        rewritten(path, design=design | more)
        with pytest.raises(InputError, match="are not those of the network that its card desc"):
            read_model(path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"iteration": "luck"}, "The iteration 'luck' is not known; choose richardson-lucy or"),
        ({"pools": ()}, "An unrolled network needs levels"),
        ({"stages": 101}, "The number of stages must be at most 100, not 101"),
        ({"inner": 1001}, "The number of inner iterations must be at most 1000, not 1001"),
        ({"first": 0}, "The number of channels of the first level must be at least 1, not 0"),
    ],
)
def test_numbers_that_no_unrolled_network_has_are_told(
    changes: dict[str, Any], sentence: str
) -> None:
    given: dict[str, Any] = {"iteration": "gradient", "pools": ((1, 2, 2),)}
    with pytest.raises(InputError, match=sentence):
        UnrolledDesign(**given | changes)


def test_a_file_without_a_card_is_told(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, str(tmp_path / "a.safetensors"))
    with pytest.raises(InputError, match="has no card of napari-deconv in it; choose a model"):
        read_card(tmp_path / "a.safetensors")


def test_weights_that_are_not_finite_are_told(model: Model, tmp_path: Path) -> None:
    torch.nn.init.constant_(next(model.network.parameters()), float("nan"))
    write_model(tmp_path / "m.safetensors", model)
    with pytest.raises(InputError, match="are not finite: its training had failed"):
        read_model(tmp_path / "m.safetensors")


def test_an_unknown_channel_is_told() -> None:
    with pytest.raises(InputError, match="The channel 'colour' of a network is not known"):
        UNetDesign(("colour",), ((2, 2),))
