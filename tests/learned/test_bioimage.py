"""Archives of bioimage.io: ours come back bit by bit, and what is not to be trusted is refused."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_deconv.engines import open_engine
from napari_deconv.imaging.psf import Psf
from napari_deconv.imaging.value import InputError
from napari_deconv.learned import bioimage_archive, bioimage_rdf, bioimage_text
from napari_deconv.learned.bioimage import export_bioimage, import_bioimage
from napari_deconv.learned.bioimage_steps import applied
from napari_deconv.learned.designs import DESIGNS, Design, UNetDesign
from napari_deconv.learned.exchange import import_model
from napari_deconv.learned.inputs import IMAGE
from napari_deconv.learned.model_file import Card, Model
from napari_deconv.learned.pairs import Light
from napari_deconv.learned.torchscript import together_of, torchscript_of

yaml: Any = pytest.importorskip("yaml")

JIT: Any = torch.jit
SPACING = (0.2, 0.1, 0.1)
CITATION = "Ada 2024, On blur, doi 10.1000/blur.7"


def point(ndim: int) -> Psf:
    """Return a small blur."""
    sides = (3, 5, 5)[-ndim:]
    squares = sum(
        (np.arange(n) - n // 2).reshape([-1 if a == b else 1 for b in range(ndim)]) ** 2
        for a, n in enumerate(sides)
    )
    return Psf(np.exp(-np.asarray(squares) / 2), SPACING[-ndim:])


def made(design: Design, ndim: int, members: int = 1, **card: Any) -> Model:
    """Return a model with weights of which all matter."""
    torch.manual_seed(3)
    networks = [design.network().eval() for _ in range(members)]
    with torch.no_grad():
        for network in networks:
            for values in network.parameters():
                values.add_(0.05 * torch.randn_like(values))
    told = Card("beads, 60x", design, Light(), SPACING[-ndim:], members=members, **card)
    return Model(told, tuple(networks), (point(ndim),))


def small(name: str, ndim: int) -> Design:
    design = DESIGNS[name](point(ndim))
    return replace(design, first=4) if isinstance(design, UNetDesign) else design


@pytest.fixture(scope="module")
def care() -> Model:
    return made(small("care", 2), 2, license="MIT", citation=CITATION)


@pytest.fixture(scope="module")
def archive(care: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zoo") / "care.zip"
    return export_bioimage(care, path, open_engine("cpu"), authors=["Ada"])


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as zipped:
        return {name: zipped.read(name) for name in zipped.namelist()}


def written(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
    return path


def described(path: Path) -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load(contents(path)["rdf.yaml"])
    return tree


def require_same(found: Model, model: Model) -> None:
    assert found.card == model.card
    assert [psf.samples.tobytes() for psf in found.psfs] == [
        psf.samples.tobytes() for psf in model.psfs
    ]
    for one, other in zip(found.networks, model.networks, strict=True):
        for key, value in other.state_dict().items():
            assert torch.equal(one.state_dict()[key], value)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("name", list(DESIGNS))
def test_torchscript_does_the_same_on_any_size(name: str, ndim: int) -> None:
    model = made(small(name, ndim), ndim, members=2 if name in ("inverse", "wiener") else 1)
    together = together_of(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch has newer formats
        script = JIT.load(io.BytesIO(torchscript_of(model)))
    for sides in ((8, 16, 24), (9, 15, 32)):
        x = torch.rand(1, len(model.card.design.channels), *sides[-ndim:])
        with torch.no_grad():
            wanted, found = together(x), script(x)
        assert wanted.shape[1] == 1 + model.card.design.laplace
        assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_members_answer_as_they_do_here() -> None:
    from napari_deconv.learned.calibration import together as wanted

    model = made(small("care", 2), 2, members=3)
    x = torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        outs = [network(x)[0].numpy() for network in model.networks]
        found = together_of(model)(x)[0].numpy()
    image, scale = wanted(outs)
    assert np.allclose(found[0], image, atol=1e-6)
    assert np.allclose(found[1], scale, atol=1e-6)


def test_tracing_leaves_the_networks_as_they_were() -> None:
    from napari_deconv.learned import blurring, wiener_filter

    before = [dict(vars(module)) for module in (blurring, wiener_filter)]
    torchscript_of(made(small("wiener", 2), 2))
    assert [dict(vars(module)) for module in (blurring, wiener_filter)] == before


@pytest.mark.parametrize(("name", "ndim"), [("inverse", 2), ("unrolled-rl", 2), ("wiener-kpn", 2)])
def test_what_is_exported_comes_back_bit_by_bit(name: str, ndim: int, tmp_path: Path) -> None:
    model = made(small(name, ndim), ndim, members=2 if name == "inverse" else 1)
    path = export_bioimage(model, tmp_path / "m.zip", open_engine("cpu"))
    require_same(import_bioimage(path), model)
    folder = tmp_path / "folder"
    folder.mkdir()
    for file, content in contents(path).items():
        (folder / file).write_bytes(content)
    require_same(import_model(folder).model, model)
    words = contents(path)["README.md"].decode()
    for channel in model.card.design.channels:
        assert f"`{bioimage_rdf.channel_name(channel)}`" in words
    assert "at least 1. Divide by it before the network" in words
    assert ("the PSF is fixed" in words) == model.network.holds_blur


def test_the_description_is_true(care: Model, archive: Path) -> None:
    tree, files = described(archive), contents(archive)
    assert tree["name"] == "beads- 60x"
    assert tree["authors"] == [{"name": "Ada"}]
    assert tree["license"] == "MIT"
    assert tree["cite"][0] == {"text": CITATION, "doi": "10.1000/blur.7"}
    (told,), (out,) = tree["inputs"], tree["outputs"]
    assert [axis["type"] for axis in told["axes"]] == ["batch", "channel", "space", "space"]
    assert told["axes"][1]["channel_names"] == ["image"]
    assert out["axes"][1]["channel_names"] == ["restored", "scale"]
    strides, reach = care.network.strides, care.network.reach(care.psf, 1e-3)
    for number, (step, far) in enumerate(zip(strides, reach, strict=True), start=2):
        halo, size = out["axes"][number]["halo"], told["axes"][number]["size"]
        assert far <= halo < far + step
        assert halo % step == size["min"] % step == 0
        assert size["step"] == step
        assert size["min"] - 2 * halo >= 1
        assert told["axes"][number]["scale"] == pytest.approx(0.1)
    # No step divides by the brightness, and none is claimed.
    assert told["preprocessing"] == out["postprocessing"] == []
    named = [told["test_tensor"], out["test_tensor"], *tree["attachments"]]
    for entry in (*named, tree["weights"]["torchscript"]):
        assert hashlib.sha256(files[entry["source"]]).hexdigest() == entry["sha256"]
    x, y = (np.load(io.BytesIO(files[f"test_{kind}.npy"])) for kind in ("input", "output"))
    with torch.no_grad():
        assert np.allclose(care.network(torch.from_numpy(x)).numpy(), y, atol=1e-5)
    assert files["cover.png"].startswith(b"\x89PNG")


def test_a_network_that_looks_too_far_has_no_tiles() -> None:
    model = made(small("wiener-unet", 3), 3)
    assert bioimage_rdf.halo_of(model) == (0, 0, 0)
    assert min(bioimage_rdf.reach_of(model)) > 40
    assert "Run it on the whole image" in bioimage_text.documentation_of(model, ["Ada"])


def test_a_sample_is_shown(care: Model, tmp_path: Path) -> None:
    image = np.random.default_rng(0).poisson(100, (20, 300)).astype(np.uint16)
    path = export_bioimage(care, tmp_path / "m.zip", open_engine("cpu"), sample=image)
    x = np.load(io.BytesIO(contents(path)["test_input.npy"]))
    assert x.shape[2:] == bioimage_rdf.shown_sides(care)
    with pytest.raises(InputError, match="has 2 dimensions, not the shape"):
        export_bioimage(care, tmp_path / "n.zip", open_engine("cpu"), sample=image[None])


def test_an_archive_is_not_replaced_unasked(care: Model, archive: Path) -> None:
    with pytest.raises(InputError, match="exists already; choose another name"):
        export_bioimage(care, archive, open_engine("cpu"))
    with pytest.raises(InputError, match=r"m\.tar does not end in \.zip"):
        export_bioimage(care, archive.with_name("m.tar"), open_engine("cpu"))
    with pytest.raises(InputError, match="are names without a slash"):
        export_bioimage(care, archive, open_engine("cpu"), authors=["a/b"])


# -- what is refused ----------------------------------------------------------------------


Files = dict[str, bytes]


def told(files: Files, **changes: Any) -> Files:
    tree = {**yaml.safe_load(files["rdf.yaml"]), **changes}
    return {**files, "rdf.yaml": json.dumps(tree).encode()}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda f: {k: v for k, v in f.items() if k != "rdf.yaml"}, r"has no rdf\.yaml in it"),
        (lambda f: {**f, "rdf.yaml": b"a: [1"}, r"rdf\.yaml in a\.zip is no YAML"),
        (lambda f: {**f, "rdf.yaml": b"\xff\xfe\xfa"}, r"rdf\.yaml in a\.zip is no YAML"),
        (lambda f: {**f, "rdf.yaml": b"[" * 20_000}, r"rdf\.yaml in a\.zip is no YAML"),
        (lambda f: {**f, "rdf.yaml": b"!!python/object:os.system {}"}, "is no YAML"),
        (lambda f: {**f, "rdf.yaml": b"- 1"}, "holds no description"),
        (lambda f: {**f, "rdf.yaml": b" " * 2_000_000}, "more than 1 MB are not read"),
        (lambda f: told(f, type="dataset"), "describes no model but a 'dataset'"),
        (lambda f: told(f, format_version="0.4.10"), r"is of version 0\.4\.10 .* 0\.5 is read"),
        (lambda f: told(f, format_version="0.50"), r"is of version 0\.50 of the format"),
        (lambda f: {**f, "model.safetensors": b"x"}, "its SHA-256 is another one"),
        (lambda f: {k: v for k, v in f.items() if k[:5] != "model"}, "lacks the file 'model"),
        (lambda f: told(f, attachments=[]), "lacks the attachment 'model.safetensors'"),
        (lambda f: {**f, "../a": b""}, r"names a file outside of itself \('../a'\)"),
        (lambda f: {**f, "/etc/a": b""}, "names a file outside of itself"),
        (lambda f: {**f, "a\\..\\b": b""}, "names a file outside of itself"),
        (lambda f: {**f, "C:a": b""}, "names a file outside of itself"),
        (lambda f: told(f, config={}), "as TorchScript alone. TorchScript is a program"),
        (lambda f: told(f, config={}, weights={"onnx": {}}), "weights as onnx; pytorch_state"),
        (lambda f: told(f, config={}, weights=[]), "describes no weights"),
        (lambda f: told(f, config=[1]), "is not as the format asks"),
        (lambda f: told(f, attachments=7), "is not as the format asks"),
    ],
)
def test_what_is_wrong_is_told(
    archive: Path, tmp_path: Path, change: Callable[[Files], Files], sentence: str
) -> None:
    path = written(tmp_path / "a.zip", change(contents(archive)))
    with pytest.raises(InputError, match=sentence):
        import_bioimage(path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.zip"]


def test_a_file_elsewhere_is_not_read(archive: Path, tmp_path: Path) -> None:
    entry = {"source": "https://example.org/model.safetensors"}
    config = {"napari_deconv": {"model": entry["source"]}}
    path = written(tmp_path / "a.zip", told(contents(archive), attachments=[entry], config=config))
    with pytest.raises(InputError, match=r"has https://example.* elsewhere; download the whole"):
        import_bioimage(path)
    (tmp_path / "secret.safetensors").write_bytes(b"x")
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("../secret.safetensors", "link.safetensors"):
        files = told(
            contents(archive),
            attachments=[{"source": name}],
            config={"napari_deconv": {"model": name}},
        )
        (folder / "rdf.yaml").write_bytes(files["rdf.yaml"])
        (folder / "link.safetensors").unlink(missing_ok=True)
        (folder / "link.safetensors").symlink_to(tmp_path / "secret.safetensors")
        with pytest.raises(InputError, match="lacks the file"):
            import_bioimage(folder)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zip", {"rdf.yaml": b"type: model", "a": bytes(150 * 2**20)})
    with pytest.raises(InputError, match=r"would unpack to 0\.2 GB in 2 files from 0\.2 MB"):
        import_bioimage(path)
    many = {f"{n}": b"" for n in range(bioimage_archive.MOST_FILES + 1)}
    with pytest.raises(InputError, match="in 1001 files"):
        import_bioimage(written(tmp_path / "b.zip", many))


@pytest.mark.parametrize("part", [0.0, 0.3, 0.98])
def test_an_archive_that_is_cut_off_is_told(archive: Path, tmp_path: Path, part: float) -> None:
    data = archive.read_bytes()
    (tmp_path / "a.zip").write_bytes(data[: int(part * len(data))])
    with pytest.raises(InputError, match=r"a\.zip is no zip file, or is damaged"):
        import_bioimage(tmp_path / "a.zip")


def test_damage_inside_is_told(archive: Path, tmp_path: Path) -> None:
    data = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as zipped:
        start = zipped.getinfo("model.safetensors").header_offset
    data[start + 400 : start + 420] = bytes(20)
    (tmp_path / "a.zip").write_bytes(bytes(data))
    with pytest.raises(InputError, match=r"model\.safetensors in a\.zip cannot be read"):
        import_bioimage(tmp_path / "a.zip")


def test_without_pyyaml_it_is_told(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    with pytest.raises(InputError, match=r'pip install "napari-deconv\[models\]"'):
        import_bioimage(archive)


# -- networks from elsewhere --------------------------------------------------------------


def packed(save: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    save(file)
    return file.getvalue()


def elsewhere(
    path: Path,
    weights: tuple[str, bytes],
    tensors: tuple[np.ndarray, np.ndarray],
    steps: tuple[list[Any], list[Any]],
    *,
    last: bool = False,
) -> Path:
    """Write an archive as another program would; its channels go last where told."""
    space = [{"type": "space", "id": axis} for axis in "zyx"[-(tensors[0].ndim - 2) :]]
    channel = {"type": "channel", "channel_names": ["a"]}
    axes = [{"type": "batch"}, *([*space, channel] if last else [channel, *space])]
    files = {"evil.py": b"raise SystemExit", "weights": weights[1]}
    for name, values in zip(("in.npy", "out.npy"), tensors, strict=True):
        files[name] = packed(partial(np.save, arr=np.moveaxis(values, 1, -1) if last else values))
    tree = {
        "type": "model",
        "format_version": "0.5.3",
        "name": "stranger",
        "license": "MIT",
        "cite": [{"text": "Somebody", "doi": "10.1/2"}],
        "inputs": [{"axes": axes, "test_tensor": {"source": "in.npy"}, "preprocessing": steps[0]}],
        "outputs": [
            {"axes": axes, "test_tensor": {"source": "out.npy"}, "postprocessing": steps[1]}
        ],
        "weights": {
            weights[0]: {"source": "weights", "architecture": {"source": "evil.py"}},
            "torchscript": {"source": "none"},
        },
    }
    return written(path, {"rdf.yaml": yaml.safe_dump(tree).encode(), **files})


def counted(*sides: int) -> np.ndarray:
    return np.random.default_rng(1).normal(120, 30, (1, 1, *sides)).astype(np.float32)


def stranger(
    path: Path, design: UNetDesign, state: Any, before: list[Any], after: list[Any]
) -> Path:
    """Write an archive of a U-Net of ours, with the weights under names of its own."""
    given, model = counted(32, 32), made(design, 2)
    with torch.no_grad():
        out = model.network(torch.from_numpy(applied(before, given))).numpy()
    weights = packed(lambda file: torch.save(state(model.network.state_dict()), file))
    tensors = (given, applied(after, out))
    return elsewhere(path, ("pytorch_state_dict", weights), tensors, (before, after))


def renamed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"net.layer{n}": value for n, value in enumerate(state.values())}


FIXED: list[Any] = [{"id": "fixed_zero_mean_unit_variance", "kwargs": {"mean": 100.0, "std": 20.0}}]
RANGE: list[Any] = [
    {"id": "scale_range", "kwargs": {"min_percentile": 2.0, "max_percentile": 99.8}}
]
BACK: list[Any] = [
    {"id": "ensure_dtype"},
    {"id": "scale_linear", "kwargs": {"gain": 20.0, "offset": 100.0}},
]


@pytest.mark.parametrize(
    ("before", "after", "normalization", "numbers"),
    [
        (FIXED, BACK, "standard", (100, 20, 100, 20)),
        (FIXED, [], "standard", (100, 20, 0, 1)),
        (RANGE, [], "percentiles", (2.0, 99.8)),
        ([{"id": "zero_mean_unit_variance"}], [], "standard", ()),
    ],
)
@pytest.mark.parametrize("residual", [True, False])
def test_a_unet_from_elsewhere_is_told_by_its_test_tensors(
    tmp_path: Path,
    before: list[Any],
    after: list[Any],
    normalization: str,
    numbers: tuple[float, ...],
    residual: bool,
) -> None:
    design = UNetDesign((IMAGE,), ((2, 2), (2, 2)), first=4, residual=residual, upsampling="linear")
    path = stranger(tmp_path / "s.zip", design, renamed, before, after)
    found = import_bioimage(path)
    known = found.card.design
    assert isinstance(known, UNetDesign)
    assert known.normalization == normalization
    assert known.numbers == pytest.approx(numbers, rel=1e-4, abs=1e-4)
    assert replace(known, normalization="brightness", numbers=()) == design
    assert (found.card.name, found.card.license) == ("stranger", "MIT")
    assert found.card.citation == "Somebody 10.1/2"
    x = torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(found.network(x), made(design, 2).network(x))


def test_a_network_that_is_none_of_ours_is_told(tmp_path: Path) -> None:
    design = UNetDesign((IMAGE,), ((2, 2),), first=4)

    def without(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return dict(list(state.items())[2:])

    def other(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {key: torch.roll(value, 1, 0) for key, value in state.items()}

    cases: list[tuple[Any, str]] = [
        (without, "is no U-Net of the kind that is known here"),
        (other, "none that is known here gives the test output"),
        (lambda state: {k: v * float("nan") for k, v in state.items()}, "are not finite"),
        (lambda state: {}, "hold no tensors"),
        (lambda state: torch.nn.Linear(2, 2), "nothing in them was run"),
    ]
    for number, (state, sentence) in enumerate(cases):
        path = stranger(tmp_path / f"{number}.zip", design, state, FIXED, BACK)
        with pytest.raises(InputError, match=sentence):
            import_bioimage(path)
    files = contents(stranger(tmp_path / "s.zip", design, renamed, FIXED, BACK))
    inputs = yaml.safe_load(files["rdf.yaml"])["inputs"]
    changes: list[dict[str, Any]] = [{"axes": 5}, {"axes": []}, {"preprocessing": 5}]
    for change in (*changes, {"preprocessing": [{"id": 1}]}):
        path = written(tmp_path / "e.zip", told(files, inputs=[{**inputs[0], **change}]))
        with pytest.raises(InputError, match=r"the format asks|axes|normalization"):
            import_bioimage(path)
    path = stranger(tmp_path / "two.zip", design, renamed, [*RANGE, *FIXED], [])
    with pytest.raises(InputError, match="is more than one normalization"):
        import_bioimage(path)


def test_a_network_of_careamics_comes_from_its_archive(tmp_path: Path) -> None:
    from tests.learned.test_foreign import careamics

    net, given = careamics(2, norm=True, residual=True), counted(16, 24)
    with torch.no_grad():
        out = applied(BACK, net(torch.from_numpy(applied(FIXED, given))).numpy())
    weights = packed(lambda file: torch.save(net.state_dict(), file))
    path = elsewhere(
        tmp_path / "s.zip", ("pytorch_state_dict", weights), (given, out), (FIXED, BACK)
    )
    design = import_bioimage(path).card.design
    assert isinstance(design, UNetDesign)
    assert (design.residual, design.upsampling) == (True, "linear")
    assert design.numbers == pytest.approx((100, 20, 100, 20), rel=1e-4)


@pytest.mark.parametrize("residual", [True, False])
def test_a_network_of_csbdeep_comes_from_its_archive(tmp_path: Path, residual: bool) -> None:
    from tests.learned.test_foreign import csbdeep_pass, layers_of, written_h5

    layers, given = layers_of(2, heads=2), counted(16, 24)
    image = applied(RANGE, given)[0, 0].astype(np.float64)
    mean, scale = csbdeep_pass(layers, image, residual=residual)
    assert scale is not None
    weights = written_h5(tmp_path / "w.h5", layers).read_bytes()
    out = np.stack([mean, scale])[None].astype(np.float32)
    path = elsewhere(
        tmp_path / "s.zip", ("keras_hdf5", weights), (given, out), (RANGE, []), last=True
    )
    found = import_bioimage(path)
    design = found.card.design
    assert isinstance(design, UNetDesign)
    assert (design.residual, design.laplace) == (residual, True)
    assert (design.normalization, design.numbers) == ("percentiles", (2.0, 99.8))
    # It goes out again with the steps that it came with.
    again = export_bioimage(found, tmp_path / "again.zip", open_engine("cpu"))
    (step,) = described(again)["inputs"][0]["preprocessing"]
    assert step["id"] == "scale_range"
    assert (step["kwargs"]["min_percentile"], step["kwargs"]["max_percentile"]) == (2.0, 99.8)
    require_same(import_bioimage(again), found)


def test_code_in_weights_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path(tmp_path / "run").touch, ())

    design = UNetDesign((IMAGE,), ((2, 2),), first=4)
    files = contents(stranger(tmp_path / "s.zip", design, renamed, FIXED, BACK))
    for content in (pickle.dumps(Evil()), b"", b"no pickle"):
        path = written(tmp_path / "e.zip", {**files, "weights": content})
        with pytest.raises(InputError, match="nothing in them was run"):
            import_bioimage(path)
    array = io.BytesIO()
    np.save(array, np.array([Evil()], object), allow_pickle=True)
    path = written(tmp_path / "e.zip", {**files, "in.npy": array.getvalue()})
    with pytest.raises(InputError, match="is no array of numpy"):
        import_bioimage(path)
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore")
def test_the_checks_of_bioimage_io_pass(archive: Path) -> None:
    from bioimageio import core

    assert core.test_model(archive, determinism="seed_only", devices=["cpu"]).status == "passed"
