"""The family `vqvae_unet`: it learns, its windows agree, and its parts can be taken away."""

import numpy as np
import pytest
import torch

from quieten import Denoiser
from quieten.errors import ConfigError
from quieten.runtime import Model
from quieten.training import export as exporter
from quieten.training.checkpoint import save, start_from
from quieten.training.config import load_config
from quieten.training.layers import ABLATIONS, SqueezeExcitation, down, up
from quieten.training.models.vqvae_unet import (
    VQVAEUNet,
    VQVAEUNetConfig,
    VQVAEUNetNet,
)
from quieten.training.spectral import padded_stft, stft

N_FFT, HOP = 512, 128


@pytest.fixture
def make(telephone):
    """A function (*overrides) -> a tiny family with fixed weights."""

    def build(*more):
        torch.manual_seed(1)
        settings = ("optimizer.learning_rate=5e-3", "optimizer.warmup_steps=0", "steps=1000")
        return VQVAEUNet(telephone(*settings, *more))

    return build


@pytest.fixture
def trained(make):
    """A function (*overrides) -> a family after some steps, its averages close behind."""

    def train(*more):
        family = make("optimizer.ema_decay=0.5", *more)
        for step in range(12):
            torch.manual_seed(step)
            family.step(*pair(), step)
        return family

    return train


def pair(batch=2, hops=64):
    """A tone to keep, noise to remove: (noisy, clean)."""
    generator = torch.Generator().manual_seed(3)
    time = torch.arange(hops * HOP) / 8000
    clean = 0.1 * torch.sin(2 * torch.pi * 440 * time) * torch.sin(2 * torch.pi * 3 * time)
    clean = clean.repeat(batch, 1)
    return clean + 0.1 * torch.randn(batch, hops * HOP, generator=generator), clean


def averaged(family):
    net = family.updaters["net"].averaged
    assert isinstance(net, VQVAEUNetNet)
    return net


def test_the_default_network_keeps_its_promises():
    """At most 2 M parameters, and a code of about 9 kbit/s."""
    config = VQVAEUNetConfig()
    assert sum(p.numel() for p in VQVAEUNetNet(config).parameters()) <= 2_000_000
    codes = 8 * config.sample_rate / config.hop_length / 2 * config.codebook_groups
    assert codes * np.log2(config.codebook_size) == pytest.approx(9000)


def test_the_packaged_segment_is_a_window():
    config = load_config("vqvae_unet")
    frames = config.data.segment_s * config.data.sample_rate / HOP
    assert frames == VQVAEUNetConfig.model_validate(config.model).window_frames


@pytest.mark.parametrize("frames", [1, 2, 5, 24])
@pytest.mark.parametrize("level", [0.0, 1e-4, 0.1, 1000.0])
def test_masks_are_finite_and_never_amplify(trained, frames, level):
    """Magnitude tanh(...) < 1; 1e-6 is rounding."""
    net, spectrum = averaged(trained()), stft(level * pair(hops=frames)[0], N_FFT, HOP)
    with torch.no_grad():
        mask, _ = net(spectrum)
    assert mask.shape == (2, frames, 257, 2) and torch.isfinite(mask).all()
    assert mask.square().sum(-1).sqrt().max() <= 1 + 1e-6


def test_the_level_does_not_matter(trained):
    net, spectrum = averaged(trained()), stft(pair()[0], N_FFT, HOP)
    with torch.no_grad():
        plain, quiet = net(spectrum)[0], net(1e-3 * spectrum)[0]
    torch.testing.assert_close(plain, quiet, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "change",
    [
        "model.input=complex",
        "model.input=magnitude",
        "model.input=real",
        "model.squeeze_excitation=false",
        "model.quantizer=gradient",
        "model.quantizer=none",
        "model.codebook_depth=2",
        "model.skips=[false, true, true]",
        "model.hop_length=64",
    ],
)
def test_every_choice_learns_with_all_its_parameters(make, change):
    family = make(change, "model.quantize_from_step=0", "loss.codebook=1.0")
    net = family.updaters["net"].net
    noisy, clean = pair()
    first = family.step(noisy, clean, 0)
    missing = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert missing == []
    for step in range(1, 30):
        last = family.step(noisy, clean, step)
    assert last["waveform"] < first["waveform"] - 1 and last["magnitude"] < first["magnitude"]


@pytest.mark.parametrize("kind", ["magnitude", "real"])
def test_without_the_complex_spectrum_the_mask_is_real(trained, kind):
    mask, _ = averaged(trained(f"model.input={kind}"))(stft(pair()[0], N_FFT, HOP))
    assert mask[..., 0].any() and not mask[..., 1].any()


@pytest.mark.parametrize("term", ["mse", "l1", "mel", "stoi"])
def test_every_loss_term_can_lead_alone(make, term):
    weights = [f"loss.{name}=0" for name in ("magnitude", "complex", "waveform", "stoi")]
    family = make(*weights, f"loss.{term}=1", "optimizer.learning_rate=2e-3")
    reports = [family.step(*pair(), step)[term] for step in range(20)]
    assert reports[-1] < reports[0]


def test_the_code_begins_when_it_is_told_to(make):
    family = make("model.quantize_from_step=2")
    reports = [family.step(*pair(), step) for step in range(4)]
    assert [r["perplexity"] > 1 for r in reports] == [False, False, True, True]
    assert reports[1]["commitment"] == 0 and reports[2]["commitment"] > 0
    assert {r.keys() == reports[0].keys() for r in reports} == {True}  # one header of log.csv
    assert averaged(family).quantizer.ready


def test_the_averaged_network_has_the_codebooks_as_they_are(trained):
    updater = trained("model.quantize_from_step=0").updaters["net"]
    for name, value in updater.net.named_buffers():
        same = torch.equal(value, dict(updater.averaged.named_buffers())[name])
        assert same == (name.startswith("quantizer") or "tracked" in name), name


def test_the_code_has_an_effect_and_every_ablation_another(trained):
    family = trained()
    noisy, _ = pair()
    results = [family.denoise(noisy, ablation) for ablation in ABLATIONS]
    for i, one in enumerate(results):
        assert torch.isfinite(one).all()
        for other in results[i + 1 :]:
            assert (one - other).abs().max() > 2e-5  # twelve steps in, the code says little
    assert torch.equal(results[2], family.denoise(noisy, "latent_shuffled"))  # the same shuffle


def test_unknown_ablations_are_refused(make):
    with pytest.raises(ConfigError, match=r"no ablation head.*latent_zeroed"):
        make().denoise(pair()[0], "head")


def test_without_skips_the_decoder_sees_the_code_alone(trained):
    """What a frame holds then matters through its code only: the same code, the same mask."""
    net = averaged(trained())
    spectrum = stft(pair()[0], N_FFT, HOP)
    with torch.no_grad():
        encode = net.encode
        fixed = encode(net.features(spectrum))[0]
        net.encode = lambda x: (fixed, encode(x)[1])
        masks = [net(s, ablation="skips_zeroed")[0] for s in (spectrum, spectrum.flip(1))]
        assert not torch.equal(*(net(s)[0] for s in (spectrum, spectrum.flip(1))))
    assert torch.equal(*masks)


def test_skip_dropout_acts_in_training_only(make):
    noisy, clean = pair()
    reports = [make(f"model.skip_dropout={p}").step(noisy, clean, 0) for p in (0.0, 1.0)]
    assert reports[0]["magnitude"] != reports[1]["magnitude"]
    one, other = (make(f"model.skip_dropout={p}").denoise(noisy) for p in (0.0, 1.0))
    assert torch.equal(one, other)


def test_squeeze_excitation_lets_no_time_pass():
    torch.manual_seed(1)
    attention, x = SqueezeExcitation(8), torch.randn(1, 8, 6, 5)
    changed = x.clone()
    changed[:, :, 3:] *= 5
    assert torch.equal(attention(x)[:, :, :3], attention(changed)[:, :, :3])


@pytest.mark.parametrize("stride", [(1, 4), (1, 2), (2, 2)])
def test_up_undoes_the_shape_of_down(stride):
    x = torch.randn(1, 3, 8, 64)
    y = down(3, 5, stride)(x)
    assert y.shape == (1, 5, 8 // stride[0], 64 // stride[1])
    assert up(5, 3, stride)(y).shape == x.shape


@pytest.mark.parametrize("length", [1, 127, 128, 1000, 8193])
def test_denoising_keeps_the_length(trained, length):
    denoised = trained().denoise(pair(hops=65)[0][:, :length])
    assert denoised.shape == (2, length) and torch.isfinite(denoised).all()


def test_a_mask_of_one_gives_the_input_back(make):
    """Windows, framing and synthesis are exact to float32 rounding."""
    family = make()
    ones = torch.tensor([1.0, 0.0])
    averaged(family).forward = lambda x, **_: (ones.expand_as(x), None)
    noisy = pair()[0][:, :5003]
    torch.testing.assert_close(family.denoise(noisy), noisy, atol=1e-6, rtol=0)


def test_windows_give_what_the_network_says_about_them(trained):
    """24 frames with margins of 4: of frames 0-23 the first 20 count, of 16-39 those from 20."""
    family = trained()
    noisy, _ = pair(hops=50)
    seen = []
    net = averaged(family)
    forward = net.forward
    net.forward = lambda x, **settings: (seen.append(x), forward(x, **settings))[1]
    family.denoise(noisy)
    spectrum = padded_stft(noisy, N_FFT, HOP)  # 53 frames
    expected = [(0, 24), (16, 40), (29, 53)]
    assert len(seen) == 3
    for window, (start, end) in zip(seen, expected, strict=True):
        assert torch.equal(window, spectrum[:, start:end])


def test_bfloat16_is_near_float32(make):
    """8 bits of mantissa: a per cent or so of the loss."""
    reports = [make(f"precision={p}").step(*pair(), 0) for p in ("bfloat16", "float32")]
    for name in ("magnitude", "complex", "waveform"):
        assert reports[0][name] == pytest.approx(reports[1][name], rel=0.05, abs=0.03)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.width=3", r"unknown key model\.width.*channels"),
        ("model.margin_frames=12", r"margin_frames=12 leaves nothing.*less than half"),
        ("loss.pesq=1", "no loss is called pesq: choose among.*stoi"),
        ("model.codebook_groups=3", "3 groups do not divide"),
        ("model.input=phase", r"model\.input"),
    ],
)
def test_wrong_settings_stop_at_once(make, override, words):
    with pytest.raises(ConfigError, match=words):
        make(override)


@pytest.fixture
def exported(trained, telephone, tmp_path):
    """A function (*overrides) -> (family, what export made)."""

    def export(*more):
        family = trained(*more)
        save(family.updaters, tmp_path / "best.safetensors", telephone(*more), 12, 0.5)
        return family, exporter.main(tmp_path, tmp_path / "tiny.onnx", None)

    return export


@pytest.mark.parametrize("change", ["model.codebook_depth=2", "model.quantizer=none"])
def test_onnx_gives_the_masks_of_torch(exported, change):
    """For windows of 1, 2, 7 (odd) and all frames, which `export.compare` tries."""
    family, made = exported(change)
    assert made.largest_difference <= 1e-5  # float32 rounding over a few layers
    for frames in (1, 3, 24):
        spectrum = stft(pair(hops=frames)[0], N_FFT, HOP)
        with torch.no_grad():
            expected = averaged(family)(spectrum)[0].numpy()
        mask, state = Model(made.path).run(spectrum.numpy(), {})
        np.testing.assert_allclose(mask, expected, atol=1e-5)
        assert state == {}


def test_the_file_says_what_it_is(exported):
    info = Model(exported()[1].path).info
    assert (info.family, info.sample_rate) == ("vqvae_unet", 8000)
    assert (info.n_fft, info.hop_length, info.states) == (N_FFT, HOP, ())
    assert (info.window_frames, info.margin_frames) == (24, 4)


def test_whole_files_sound_as_torch_makes_them(exported, voice):
    family, made = exported()
    noisy = voice(7, 1.37, 8000)
    expected = family.denoise(torch.from_numpy(noisy[None]))[0].numpy()
    denoised = Denoiser(made.path)(noisy, 8000)
    np.testing.assert_allclose(denoised, expected, atol=2e-5)  # float32 transforms on both sides
    assert np.abs(denoised - noisy).max() > 0.01


@pytest.fixture
def clean_code(trained, telephone, tmp_path):
    """The checkpoint of a model of clean speech, and the family."""
    family = trained("model.stage=clean", "loss.reconstruction=10")
    save(family.updaters, tmp_path / "last.safetensors", telephone(), 12, best=0.5)
    return tmp_path / "last.safetensors", family


def test_a_code_of_clean_speech_gives_magnitudes_without_skips(trained):
    """What the skips carry has no way to the output; the mask is real and between 0 and 1."""
    family = trained("model.stage=clean", "loss.reconstruction=10")
    noisy, _ = pair()
    spectrum = padded_stft(noisy, N_FFT, HOP)
    net = averaged(family)
    with torch.no_grad():
        mask, _ = net(spectrum)
        x = net.features(spectrum)
        z_q, _ = net.quantize(net.encode(x)[0], start=False)
        made, again = (net.magnitudes(z_q, part, net.encode(part)[1]) for part in (x, 2 * x))
    assert torch.all(mask[..., 1] == 0) and torch.all((mask[..., 0] >= 0) & (mask[..., 0] <= 1))
    torch.testing.assert_close(made, again, atol=0, rtol=0)


def test_predicting_keeps_the_books_and_comes_nearer_to_the_codes(make, clean_code):
    path, teacher = clean_code
    family = make("model.stage=predict", "loss.codes=1", f"start_from={path}")
    start_from(family.updaters, str(path))
    losses = [family.step(*pair(), step)["codes"] for step in range(12)]
    assert losses[-1] < losses[0]
    books, theirs = (averaged(f).quantizer.books for f in (family, teacher))
    torch.testing.assert_close(books, theirs, atol=0, rtol=0)


def test_predicting_needs_a_model_of_clean_speech(make):
    family = make("model.stage=predict", "loss.codes=1", "model.quantize_from_step=0")
    with pytest.raises(ConfigError, match="needs start_from"):
        family.step(*pair(), 0)
