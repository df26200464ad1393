"""The training loop: it learns, it is reproducible, it resumes bit by bit, it never loses what it did."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest
import torch

from napari_fidelity.core.errors import DivergedError, ImageError, ModelFileError, OptionError, OutputError
from napari_fidelity.networks.edsr import EDSR
from napari_fidelity.operators.resample import Downsample
from napari_fidelity.training import Degrade, Train, TrainingSet, TrainResult
from napari_fidelity.training.synthetic import dead_leaves

if TYPE_CHECKING:
    from napari_fidelity.core.step import Step

DATA = TrainingSet(tuple(dead_leaves(np.random.default_rng(s), (64, 64)) for s in range(3)), np.full(3, 1 / 3))
HELD_OUT = dead_leaves(np.random.default_rng(9), (41, 43))
OPTIONS = Train(
    n_steps=8,
    warmup=2,
    report_every=2,
    checkpoint_every=3,
    degrade=Degrade(batch_size=2, patch_size=8, margin=2),
)
A = Downsample(scale=2)


def network() -> EDSR:
    return EDSR(3, 6, 1, 2).start_as_interpolation(torch.Generator().manual_seed(0))


def train(
    options: Train = OPTIONS, checkpoint: Path | None = None, stop_at: int | None = None
) -> tuple[list[Step], TrainResult]:
    generator = options.steps(network(), DATA, A, checkpoint=checkpoint, validation=(HELD_OUT,))
    steps: list[Step] = []
    request = None
    while True:
        try:
            step = generator.send(request)
        except StopIteration as end:
            return steps, end.value
        if "val_psnr" in step.scores:  # those that are reports
            steps.append(step)
        request = "enough" if stop_at is not None and step.index + 1 >= stop_at else None


def same(a: TrainResult, b: TrainResult) -> bool:
    return all(torch.equal(a.weights[name], b.weights[name]) for name in a.weights)


def test_learns() -> None:
    options = OPTIONS.replace(n_steps=60, learning_rate=3e-3, report_every=20)
    steps, result = train(options)
    assert steps[-1].scores["val_psnr"] > steps[0].scores["val_psnr"]
    assert [step.index for step in steps] == [19, 39, 59]
    assert [record.loss for record in result.history] == [step.loss for step in steps]
    assert "60 steps" in result.stop_reason
    assert result.provenance["steps_done"] == 60


def test_a_request_is_heard_after_every_step() -> None:
    options = OPTIONS.replace(report_every=4)
    generator = options.steps(network(), DATA, A, validation=(HELD_OUT,))
    steps = [next(generator) for _ in range(3)]
    assert [step.index for step in steps] == [0, 1, 2]
    assert not any("val_psnr" in step.scores for step in steps)
    with pytest.raises(StopIteration) as end:
        generator.send("enough")
    result = end.value.value
    assert (result.stop_reason, result.provenance["steps_done"], result.history) == ("enough", 3, ())
    whole = list(options.steps(network(), DATA, A))
    assert [step.loss for step in whole[:3]] == [step.loss for step in steps]  # the validation changes nothing


def test_network_ends_with_the_averaged_weights() -> None:
    net = network()
    generator = OPTIONS.steps(net, DATA, A, validation=(HELD_OUT,))
    with pytest.raises(StopIteration) as end:
        while True:
            step = next(generator)
    assert all(torch.equal(value, end.value.value.weights[name]) for name, value in net.state_dict().items())
    assert not net.training
    x = torch.from_numpy(HELD_OUT[None, :, :40, :42])
    assert torch.equal(step.estimate(), net(A.A(x)))


def test_same_seed_same_weights() -> None:
    assert same(train()[1], train()[1])
    assert not same(train()[1], train(OPTIONS.replace(seed=1))[1])


def test_global_random_state_is_left_alone() -> None:
    generator = OPTIONS.steps(network(), DATA, A)
    before, legacy = torch.random.get_rng_state(), np.random.get_state()[2]
    next(generator)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.random.get_state()[2] == legacy


@pytest.mark.parametrize("every", [2, 3])  # with every report, and otherwise
@pytest.mark.parametrize("stop_at", [2, 3, 4])
def test_resumes_bit_by_bit(tmp_path: Path, stop_at: int, every: int) -> None:
    options = OPTIONS.replace(checkpoint_every=every)
    whole, expected = train(options)
    first, part = train(options, tmp_path / "t.pt", stop_at)
    assert part.stop_reason == "enough"
    second, result = train(options, tmp_path / "t.pt")
    assert same(result, expected)
    assert [s.loss for s in first + second] == [s.loss for s in whole]
    assert [s.scores for s in first + second] == [s.scores for s in whole]


def test_finished_training_resumes_to_its_result(tmp_path: Path) -> None:
    _, expected = train(checkpoint=tmp_path / "t.pt")
    steps, again = train(checkpoint=tmp_path / "t.pt")
    assert not steps
    assert same(again, expected)


def test_closing_keeps_what_was_done(tmp_path: Path) -> None:
    generator = OPTIONS.steps(network(), DATA, A, checkpoint=tmp_path / "t.pt")
    next(generator)
    generator.close()
    assert torch.load(tmp_path / "t.pt", weights_only=True)["state"]["index"] == 1


def test_failed_write_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.pt"
    train(checkpoint=path, stop_at=2)
    before = path.read_bytes()

    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OutputError, match="No space"):
        train(checkpoint=path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.pt"
    train(checkpoint=path, stop_at=2)
    with pytest.raises(ModelFileError, match="learning_rate"):
        train(OPTIONS.replace(learning_rate=1e-4), checkpoint=path)
    with pytest.raises(ModelFileError, match="weights"):
        next(OPTIONS.steps(EDSR(3, 5, 1, 2), DATA, A, checkpoint=path))
    with pytest.raises(ModelFileError, match="images"):
        next(OPTIONS.steps(network(), TrainingSet(DATA.images[:1], np.ones(1)), A, checkpoint=path))


@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_broken_checkpoint_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.pt").write_bytes(content)
    with pytest.raises(ModelFileError, match="no checkpoint"):
        train(checkpoint=tmp_path / "t.pt")


def test_checkpoint_executes_nothing(tmp_path: Path) -> None:
    torch.save({"identity": "{}", "state": Path("anything")}, tmp_path / "t.pt")
    with pytest.raises(ModelFileError, match="no checkpoint"):
        train(checkpoint=tmp_path / "t.pt")


def test_divergence_is_named() -> None:
    net = network()
    net.tail.weight.data.fill_(float("nan"))
    with pytest.raises(DivergedError, match="step 0"):
        next(OPTIONS.steps(net, DATA, A))


def test_images_must_hold_a_patch() -> None:
    with pytest.raises(ImageError, match="pixels"):
        next(OPTIONS.replace(degrade=Degrade(patch_size=64)).steps(network(), DATA, A))


def test_reduced_precision_and_any_module() -> None:
    options = OPTIONS.replace(precision="bfloat16", n_steps=2, loss="l1", weight_decay=0.01)
    generator = options.steps(torch.nn.Conv2d(3, 3, 3, padding=1), DATA, Downsample(scale=1))
    step = next(generator)
    assert np.isfinite(step.loss)
    assert step.estimate().numel() == 0


def test_rate_warms_up_and_decays_to_zero() -> None:
    rates = [OPTIONS.rate(i) for i in range(OPTIONS.n_steps + 1)]
    assert max(rates) == rates[OPTIONS.warmup] == OPTIONS.learning_rate
    assert rates[: OPTIONS.warmup] == sorted(rates[: OPTIONS.warmup])
    assert rates[-1] == pytest.approx(0)


@pytest.mark.parametrize("bad", [{"n_steps": 0}, {"learning_rate": 0}, {"loss": "l3"}, {"steps": 3}])
def test_options_are_checked(bad: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        Train(**bad)


def test_options_round_trip() -> None:
    assert Train.parse(OPTIONS.to_plain()) == OPTIONS


def test_importing_does_not_load_torch() -> None:
    code = "import sys, napari_fidelity.training; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Told(torch.nn.Module):
    """A network that takes the noise level and remembers what it was told."""

    takes_noise_level = True
    heard: ClassVar[list[torch.Tensor]] = []  # of all copies: the averaged weights are one

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(1))

    def forward(self, y: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        self.heard.append(sigma)
        return self.gain * y


def test_a_network_that_takes_the_noise_level_is_trained_with_it() -> None:
    options = OPTIONS.replace(n_steps=2, degrade=OPTIONS.degrade.replace(noise=(0.1, 0.2)))
    list(options.steps(Told(), DATA, Downsample(scale=1), validation=(HELD_OUT,)))
    training = [sigma for sigma in Told.heard if len(sigma) == 2]
    assert len(training) == 2
    assert all(bool(((0.1 <= sigma) & (sigma <= 0.2)).all()) for sigma in training)
    assert len(torch.cat(training).unique()) == 4  # each patch its own
    assert [float(sigma) for sigma in Told.heard if len(sigma) == 1] == pytest.approx([0.15])
