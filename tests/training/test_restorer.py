"""The family `restorer`: it learns, extras join when they should, ONNX says what torch says."""

import json

import numpy as np
import pytest
import torch

from quieten.denoise import Denoiser
from quieten.errors import ConfigError
from quieten.restore import Restorer as RestoringTool
from quieten.signals import SignalDenoiser
from quieten.training import export as exporter
from quieten.training.checkpoint import save, start_from
from quieten.training.config import load_config
from quieten.training.models.restorer import Restorer, RestorerAE, open_autoencoder
from quieten.training.reload import open_collaborative, open_denoiser
from quieten.training.restoring import rectify
from quieten.training.spectral import stft
from quieten.training.tensorfile import load_checkpoint
from quieten.training.train import main, train

RATE = 8000
SPECTRAL = (
    "model.n_fft=256",
    "model.hop_length=64",
    "model.depth=2",
    "model.patch=2",
    "model.channels=[8,12]",
    "model.window_frames=40",
    "model.margin_frames=8",
    "model.window=512",
    "model.judge_depth=3",
    "model.judge_width=0.05",
)
KINDS = {
    "spectrogram": (),
    "waveform": ("model.domain=waveform", "model.kernels=[[9],[33]]", "model.activation=prelu"),
    "audiounet": (
        "model.generator=audiounet",
        "model.domain=waveform",
        "model.width=0.05",
        "model.dropout=0.1",
    ),
}


def settings(*more):
    return load_config(
        "restorer",
        [
            f"model.sample_rate={RATE}",
            f"data.sample_rate={RATE}",
            *SPECTRAL,
            "precision=float32",
            "optimizer.learning_rate=5e-3",
            "optimizer.warmup_steps=0",
            "optimizer.ema_decay=0.5",
            *more,
        ],
    )


@pytest.fixture
def make():
    """A function (*overrides, kind="spectrogram") -> a tiny family with fixed weights."""

    def build(*more, kind="spectrogram"):
        torch.manual_seed(1)
        return Restorer(settings(*KINDS[kind], *more))

    return build


def pair(batch=2, length=2048):
    """Tones whose upper half is lost: (degraded, clean)."""
    time = torch.arange(length) / RATE
    generator = torch.Generator().manual_seed(3)
    pitch = 200 + 100 * torch.rand(batch, 1, generator=generator)
    low, high = (0.1 * torch.sin(2 * torch.pi * k * pitch * time) for k in (1, 8))
    return low, low + 0.3 * high


@pytest.fixture
def trained(make):
    """A function (*overrides, kind=...) -> a family after some steps."""

    def run(*more, kind="spectrogram", steps=12):
        family = make(*more, kind=kind)
        for step in range(steps):
            torch.manual_seed(step)
            family.step(*pair(), step)
        return family

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_every_generator_learns(make, kind):
    family = make("loss={l2=1.0,snr=0.1}", kind=kind)
    losses = []
    for step in range(30):
        torch.manual_seed(step)
        losses.append(family.step(*pair(), step)["l2"])
    assert losses[-1] < 0.7 * losses[0]
    assert all(p.grad is not None for p in family.updaters["net"].net.parameters())


@pytest.mark.parametrize("term", ["l2", "snr", "lsd", "magnitude", "complex"])
def test_every_loss_term_can_lead_alone(make, term):
    family = make(f"loss={{{term}=1.0}}")
    report = family.step(*pair(length=4096), 0)
    assert term in report and report["gradient_norm"] > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [100, 700, 5000])
def test_restoring_keeps_the_length(trained, kind, length):
    family = trained(kind=kind, steps=1)
    sound = 0.1 * torch.randn(1, length)
    assert family.denoise(sound).shape == sound.shape


def test_the_level_does_not_matter(trained):
    family = trained()
    sound = pair()[0]
    torch.testing.assert_close(
        family.denoise(100 * sound), 100 * family.denoise(sound), rtol=1e-3, atol=1e-3
    )


def test_rectified_spectra_are_those_of_the_rectified_sound():
    """The window is nowhere negative, so frames can be rectified after it."""
    sound = torch.randn(2, 1024)
    torch.testing.assert_close(
        rectify(stft(sound, 256, 64), 256), stft(sound.abs(), 256, 64), rtol=1e-4, atol=1e-4
    )


def test_extras_join_after_the_warm_up(make):
    """Before, the adversarial term has no say; the discriminator only looks."""
    plain, late = (
        make("loss={l2=1.0}"),
        make("loss={l2=1.0,adversarial=5.0}", "model.extras_from_step=2"),
    )
    judge = late.updaters["discriminator"].net
    start = judge.head.weight.detach().clone()
    for step in range(3):
        reports = []
        for family in (plain, late):
            torch.manual_seed(step)
            reports.append(family.step(*pair(), step))
        same = all(
            torch.allclose(one, other, atol=1e-7)
            for one, other in zip(
                plain.updaters["net"].net.parameters(),
                late.updaters["net"].net.parameters(),
                strict=True,
            )
        )
        assert same is (step < 2)
        assert torch.equal(judge.head.weight, start) is (step < 2)
        assert 0 <= reports[1]["acceptance"] <= 1


@pytest.mark.parametrize("conditional", ["true", "false"])
def test_the_discriminator_learns_to_tell(make, conditional):
    family = make("loss={adversarial=0.001,l2=1.0}", f"model.conditional={conditional}")
    for step in range(25):
        torch.manual_seed(step)
        report = family.step(*pair(8), step)
    assert report["discriminator_accuracy"] > 0.75


@pytest.fixture
def autoencoder(tmp_path):
    """A checkpoint of an autoencoder after a few steps."""
    config = load_config(
        "restorer_ae",
        [
            "model.window=512",
            "model.depth=3",
            "model.width=0.05",
            "optimizer.warmup_steps=0",
            "optimizer.ema_decay=0.5",
            "optimizer.learning_rate=5e-3",
        ],
    )
    torch.manual_seed(0)
    family = RestorerAE(config)
    losses = [family.step(*pair(4), step)["l2"] for step in range(20)]
    assert losses[-1] < 0.9 * losses[0]
    assert family.denoise(torch.randn(1, 700)).shape == (1, 700)
    save(family.updaters, tmp_path / "ae.safetensors", config, 20, 1.0)
    return tmp_path / "ae.safetensors"


def test_features_compare_sounds_by_the_autoencoder(make, autoencoder):
    family = make("loss={features=1.0}", f"model.autoencoder={autoencoder}")
    frozen = [p.detach().clone() for p in family.autoencoder.parameters()]
    degraded, clean = pair()
    report = family.step(degraded, clean, 0)
    assert report["features"] > 0 and report["gradient_norm"] > 0
    assert family.losses(clean, clean, degraded)["features"] == 0
    for before, after in zip(frozen, family.autoencoder.parameters(), strict=True):
        assert torch.equal(before, after)


def test_an_autoencoder_restores_nothing(autoencoder, tmp_path):
    with pytest.raises(ConfigError, match="no ONNX form"):
        exporter.main(autoencoder, tmp_path / "ae.onnx", None)
    made = exporter.main(autoencoder, tmp_path / "weights.safetensors", None)
    assert open_autoencoder(str(made.path)).skips is False


def test_collaborative_sampling_raises_acceptance(trained):
    family = trained("loss={l2=1.0,adversarial=0.01}", "model.collaborative_step=0.5", steps=20)
    family.updaters["discriminator"].net.head.bias.data -= 0.3  # a stern judge
    made, alone = family.refined(pair(8)[0])
    assert (made.after > 0).sum() > (made.before > 0).sum()
    assert made.waveform.shape == alone.shape
    accepted = made.moves == 0
    torch.testing.assert_close(made.waveform[accepted], alone[accepted])


def test_shaping_trains_the_discriminator_alone(trained):
    family = trained("loss={l2=1.0,adversarial=0.01}")
    shaping = Restorer(settings("model.shaping=true", "loss={l2=1.0}"))
    for name, updater in family.updaters.items():
        shaping.updaters[name].begin_with(updater.averaged.state_dict())
    before = {k: v.clone() for k, v in shaping.updaters["net"].net.state_dict().items()}
    judge = shaping.updaters["discriminator"].net.head.weight.detach().clone()
    report = shaping.step(*pair(), 0)
    assert {"moves", "accepted_before", "acceptance"} <= report.keys()
    for name, value in shaping.updaters["net"].net.state_dict().items():
        assert torch.equal(value, before[name])
    assert not torch.equal(shaping.updaters["discriminator"].net.head.weight, judge)


@pytest.fixture
def exported(trained, tmp_path):
    """A function (kind) -> (family, ONNX file) of a trained tiny network."""

    def write(kind):
        family = trained(kind=kind)
        config = settings(*KINDS[kind])
        save(family.updaters, tmp_path / "best.safetensors", config, 12, 1.0)
        return family, exporter.main(tmp_path / "best.safetensors", tmp_path / f"{kind}.onnx", None)

    return write


def test_whole_sounds_are_as_torch_makes_them(exported, rng):
    family, made = exported("spectrogram")
    assert made.largest_difference < 1e-4
    sound = (0.1 * rng.standard_normal(9000)).astype(np.float32)
    expected = family.denoise(torch.from_numpy(sound)[None])[0].numpy()
    np.testing.assert_allclose(Denoiser(made.path)(sound, RATE), expected, atol=2e-6)
    np.testing.assert_allclose(
        open_denoiser(made.path.with_suffix(".safetensors"))(sound), expected, atol=2e-6
    )


@pytest.mark.parametrize("kind", ["waveform", "audiounet"])
def test_waveform_generators_are_models_of_signals(exported, kind, rng):
    family, made = exported(kind)
    sound = (0.1 * rng.standard_normal(3000)).astype(np.float32)
    expected = family.denoise(torch.from_numpy(sound)[None])[0].numpy()
    np.testing.assert_allclose(SignalDenoiser(made.path)(sound, RATE), expected, atol=2e-6)
    restored = RestoringTool(model=made.path, rate=RATE)(sound, RATE)
    np.testing.assert_allclose(restored, expected, atol=2e-6)


def test_collaborative_inference_is_a_model_of_waveforms(trained, tmp_path, rng):
    more = ("loss={l2=1.0,adversarial=0.01}", "model.collaborative_most=3")
    family = trained(*more)
    save(family.updaters, tmp_path / "best.safetensors", settings(*more), 12, 1.0)
    model = open_collaborative(str(tmp_path))
    windows = (0.1 * rng.standard_normal((2, 512))).astype(np.float32)
    expected = family.collaborate(torch.from_numpy(windows)).numpy()
    np.testing.assert_allclose(model.run(windows), expected, atol=1e-5)
    sound = (0.1 * rng.standard_normal(3000)).astype(np.float32)
    assert RestoringTool(model=model, rate=RATE)(sound, RATE).shape == sound.shape


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model.kernels=[[9]]"], "a spectrogram needs such as"),
        (["model.kernels=[[4,3]]"], "sizes must be odd"),
        (["model.n_fft=250", "model.hop_length=125"], "must be a multiple of 4"),
        (["loss={features=1.0}"], "needs model.autoencoder"),
        (["loss={stoi=1.0}"], "no loss is called stoi"),
        (["model.window=1000", "loss={adversarial=1.0}"], "model.depth=|a window of 1000"),
        (["model.window_frames=16"], "leaves nothing"),
    ],
)
def test_wrong_settings_stop_at_once(make, overrides, words):
    with pytest.raises(ConfigError, match=words):
        make(*overrides)


@pytest.fixture
def run(folders, tmp_path):
    """A function (out, steps, *overrides) -> trains the tiny family on tiny recordings."""

    def start(out, steps, *more, resume=False):
        places = [
            f"data.clean={json.dumps(str(folders['clean']))}",
            f"validation.clean={json.dumps(str(folders['valid_clean']))}",
            f"data.cache={json.dumps(str(folders['cache']))}",
            "data.segment_s=0.256",
            "data.batch_size=2",
            "data.preprocessing=sample 4000, whitenoise snr_db=20",
            "validation.items=2",
            "validation.seconds=0.5",
            "validation.every_steps=2",
            "checkpoint_every_steps=2",
            f"steps={steps}",
            "loss={l2=1.0,adversarial=0.01}",
        ]
        config = settings(*places, *more)
        train(config, tmp_path / out, resume)
        return tmp_path / out

    return start


def test_a_run_is_resumed_exactly(run):
    """Interrupted at step 5: the last checkpoint is of step 4; discriminator and all go on."""
    whole = run("whole", 6)
    step_of = Restorer.step

    def stop(self, noisy, clean, number):
        if number == 5:
            raise KeyboardInterrupt
        return step_of(self, noisy, clean, number)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Restorer, "step", stop)
        run("cut", 6)
    cut = run("cut", 6, resume=True)
    ours, theirs = (load_checkpoint(out / "last.safetensors") for out in (whole, cut))
    assert ours[1] == theirs[1] and any(key.startswith("discriminator/") for key in ours[0])
    assert all(torch.equal(tensor, theirs[0][key]) for key, tensor in ours[0].items())


def test_wrong_steps_stop_before_the_run(folders, tmp_path):
    overrides = [
        f"data.clean={json.dumps(str(folders['clean']))}",
        f"validation.clean={json.dumps(str(folders['valid_clean']))}",
        "data.preprocessing=shout",
    ]
    with pytest.raises(ConfigError, match="no step is called 'shout'"):
        main("restorer", None, overrides, tmp_path / "run", resume=False)
    assert not (tmp_path / "run").exists()


TAPS = ("model.past_frames=2", "model.future_frames=1")


def test_a_run_with_taps_begins_as_the_run_without(trained, tmp_path):
    """Weights that lack the taps are taken; the taps start at zero."""
    family = trained()
    save(family.updaters, tmp_path / "plain.safetensors", settings(), 12, 1.0)
    wider = Restorer(settings(*TAPS))
    start_from(wider.updaters, str(tmp_path / "plain.safetensors"))
    sound = pair()[0]
    assert torch.equal(wider.denoise(sound), family.denoise(sound))
    other = Restorer(settings("model.channels=[8,16]"))
    with pytest.raises(ConfigError, match="holds another network"):
        start_from(other.updaters, str(tmp_path / "plain.safetensors"))


def test_a_network_with_taps_is_exported(make, tmp_path, rng):
    family = make(*TAPS)
    for step in range(8):
        family.step(*pair(), step)
    assert family.updaters["net"].averaged.taps.weight.abs().max() > 0
    save(family.updaters, tmp_path / "best.safetensors", settings(*TAPS), 8, 1.0)
    made = exporter.main(tmp_path / "best.safetensors", tmp_path / "taps.onnx", None)
    sound = (0.1 * rng.standard_normal(5000)).astype(np.float32)
    expected = family.denoise(torch.from_numpy(sound)[None])[0].numpy()
    np.testing.assert_allclose(Denoiser(made.path)(sound, RATE), expected, atol=5e-6)
