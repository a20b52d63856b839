"""DreamStream's Python interface, by the names of its README, on tiny models."""

import base64
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from safetensors.torch import save_file

from dreamrelay.errors import ConfigError, EngineError, ParameterError, ProtocolError
from dreamrelay.integrations.dreamstream import DiffusionProcessors, process_base64_frame
from examples import compare_processors
from tests.engines.tiny_controls import save_controlnet, save_depth_anything
from tests.engines.tiny_models import save_model, unet
from tests.support import ROOT, picture

pytestmark = pytest.mark.filterwarnings(
    # of the schedulers of diffusers with numpy 2
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

PROMPT = "Monet-style watercolor"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where the models of both processors are."""
    folder = tmp_path_factory.mktemp("models")
    models, nets = [], []
    for name, kind in (("standard", "sd15"), ("lightning", "sdxl")):
        model = save_model(folder / name, kind, "full")  # type: ignore[arg-type]
        net = UNet2DConditionModel.from_pretrained(
            str(model), subfolder="unet", local_files_only=True
        )
        models.append(f"{name}={model}")
        nets.append(f"{name}={save_controlnet(folder / f'{name}-net', net)}")
    weights = folder / "weights"
    weights.mkdir()
    for steps in (1, 4):
        torch.manual_seed(steps)
        name = f"sdxl_lightning_{steps}step_unet{'_x0' if steps == 1 else ''}.safetensors"
        save_file(unet("sdxl").state_dict(), weights / name)
    return {
        "DREAMRELAY_PROCESSORS": ",".join(models),
        "DREAMRELAY_CONTROLNETS": ",".join(nets),
        "DREAMRELAY_DEPTH_MODEL": str(save_depth_anything(folder / "depth")),
        "DREAMRELAY_LIGHTNING_WEIGHTS": str(weights),
        "DREAMRELAY_DEVICE": "cpu",
        "DREAMRELAY_OFFLINE": "1",
    }


@pytest.fixture(scope="module")
def processors(environment: dict[str, str]) -> Iterator[DiffusionProcessors]:
    processors = DiffusionProcessors.from_environment(environment)
    yield processors
    processors.close()


def size(jpeg: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(jpeg)) as image:
        assert image.format == "JPEG"
        return image.size


@pytest.mark.parametrize("kind", ["standard", "lightning"])
async def test_the_first_example_of_the_readme(kind: str, processors: DiffusionProcessors) -> None:
    processor = processors.get(
        processor_type=kind,
        use_controlnet=True,
        style_prompt="Van Gogh style painting",
        strength=0.7,
        num_steps=4,
    )
    for frame in (picture("red"), picture("red", (64, 48), "PNG")):
        text = base64.b64encode(frame).decode()
        for sent in (text, f"data:image/jpeg;base64,{text}"):
            result = await process_base64_frame(
                base64_frame=sent, processor=processor, prompt=PROMPT
            )
            assert size(base64.b64decode(result, validate=True)) == (64, 48)
    counted = processor.get_stats()
    assert counted["processed_frames"] == 4
    assert counted["total_time"] >= counted["last_time"] >= counted["inference_time"] > 0
    assert counted["average_time"] == counted["total_time"] / 4


@pytest.mark.parametrize("kind", ["standard", "lightning"])
async def test_direct_processing(kind: str, processors: DiffusionProcessors) -> None:
    jpeg, depth = await processors.apply(
        img_data=picture("red", (70, 50)),
        processor_type=kind,
        prompt=PROMPT,
        use_controlnet=True,
        strength=0.7,
        num_steps=4,
    )
    assert size(jpeg) == (70, 50)
    assert isinstance(depth, Image.Image)
    jpeg, depth = await processors.apply(
        picture(), PROMPT, kind, use_controlnet=False, num_steps=4, output_size=(90, 40)
    )
    assert size(jpeg) == (90, 40)
    assert depth is None


async def test_what_is_asked_for_acts(processors: DiffusionProcessors) -> None:
    processor = processors.get("standard", num_steps=4, strength=1.0)
    frame = picture("red")
    plain, _ = await processor.process_frame(frame, "a cat", "", 7.0)
    for asked in (("a dog", "", 7.0), ("a cat", "the sea", 7.0), ("a cat", "", 3.0)):
        assert (await processor.process_frame(frame, *asked))[0] != plain
    assert (await processor.process_frame(frame, "a cat", "", 7.0, 0.4))[0] != plain
    assert (await processor.process_frame(frame, "a cat", "", 7.0))[0] == plain
    in_style, _ = await processor.process_frame(frame, negative_prompt="")
    by_name, _ = await processor.process_frame(frame, processor.style_prompt, "")
    assert in_style == by_name


async def test_large_pictures_come_back_smaller(processors: DiffusionProcessors) -> None:
    jpeg, _ = await processors.apply(
        picture("red", (1000, 100)), PROMPT, use_controlnet=False, num_steps=1
    )
    assert size(jpeg) == (768, 77)


async def test_one_step_of_lightning_is_not_held(processors: DiffusionProcessors) -> None:
    processor = processors.get("lightning", num_steps=1)
    assert not processor.use_controlnet
    _, depth = await processor.process_frame(picture(), PROMPT)
    assert depth is None


def test_a_model_is_loaded_once(processors: DiffusionProcessors) -> None:
    one, other = processors.get("standard", strength=0.2), processors.get("standard")
    assert one._engine is other._engine
    assert (one.strength, other.strength) == (0.2, 0.6)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (("fast",), "standard or lightning"),
        (("lightning", {"num_steps": 25}), "1, 2, 4, 8"),
    ],
)
def test_what_there_is_not(processors: DiffusionProcessors, asked: Any, says: str) -> None:
    kind, *options = asked
    with pytest.raises(ValueError, match=says):
        processors.get(kind, **(options[0] if options else {}))


async def test_bad_input_to_the_direct_door_is_said(processors: DiffusionProcessors) -> None:
    with pytest.raises(ProtocolError):
        await processors.apply(b"no picture", PROMPT, num_steps=1)
    with pytest.raises(ParameterError, match="strength"):
        await processors.apply(picture(), PROMPT, num_steps=1, strength=7)


async def test_a_frame_that_cannot_be_processed_comes_back_as_it_is(
    processors: DiffusionProcessors,
) -> None:
    processor = processors.get("standard", num_steps=1)
    for frame in ("", "not base64!", base64.b64encode(b"no picture").decode(), "data:x", None, 3):
        same: Any = await process_base64_frame(frame, processor, PROMPT)  # type: ignore[arg-type]
        assert same == frame
    fine = base64.b64encode(picture()).decode()
    assert await process_base64_frame(fine, processor, PROMPT, strength=9.0) == fine
    lines = base64.encodebytes(picture()).decode()
    assert (await process_base64_frame(lines, processor, PROMPT)).startswith("/9j/")


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no folder"):
        DiffusionProcessors({"standard": str(tmp_path / "none")}).get("standard")
    with pytest.raises(ConfigError, match="DREAMRELAY_PROCESSORS: expected standard or lightning"):
        DiffusionProcessors.from_environment({"DREAMRELAY_PROCESSORS": "fast=x"})


def test_the_names_of_the_readme_can_be_imported(environment: dict[str, str]) -> None:
    code = (
        "from src.diffusion_processor import get_diffusion_processor\n"
        "from src.diffusion_processor import process_base64_frame\n"
        "from src.diffusion_processor import apply_diffusion\n"
        "print(get_diffusion_processor.__name__, apply_diffusion.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT / "compat" / "dreamstream",
        env={**environment, "PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["get", "apply"]


def test_both_processors_side_by_side(
    processors: DiffusionProcessors, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, output = tmp_path / "photo.jpg", tmp_path / "img" / "comparison"
    image.write_bytes(picture("red", (96, 64)))
    asked = ["--image", str(image), "--prompt", PROMPT, "--output", str(output)]
    assert compare_processors.main([*asked, "--no_controlnet"], processors) == 0
    assert f"{output}.jpg" in capsys.readouterr().out
    with Image.open(f"{output}.jpg") as beside:
        assert beside.size == (3 * 96, 64 + compare_processors.LABEL)
    asked[1] = str(tmp_path / "none.jpg")
    assert compare_processors.main(asked, processors) == 2
    assert "none.jpg" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("odd", "says"),
    [
        (["--strength", "5"], "less than or equal to 1"),
        (["--strength", "much"], "invalid number value"),
        (["--guidance", "-1"], "greater than or equal to 0"),
        (["compare"], "process_with_both_processors"),
    ],
)
def test_what_it_cannot_do_is_said_before_a_model_is_fetched(
    odd: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        compare_processors.main(
            ["--image", "none.jpg", "--prompt", "ink", *odd], DiffusionProcessors()
        )
    assert ended.value.code == 2
    assert says in capsys.readouterr().err
