"""The shared fixtures keep their promises: no network, seeded sounds, something like speech."""

import socket

import numpy as np
import pytest


def test_the_network_is_refused():
    with pytest.raises(RuntimeError, match="wanted the network"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)  # an address kept for documents
    with pytest.raises(RuntimeError, match="wanted the network"):
        socket.getaddrinfo("example.org", 80)
    with socket.socket() as client, pytest.raises(RuntimeError, match="wanted the network"):
        client.connect_ex(("192.0.2.1", 80))


def test_localhost_is_allowed():
    server = socket.create_server(("127.0.0.1", 0))
    with server, socket.create_connection(server.getsockname(), timeout=5) as client:
        accepted, _ = server.accept()
        with accepted:
            client.sendall(b"hello")
            assert accepted.recv(5) == b"hello"


def test_unix_sockets_are_allowed():
    left, right = socket.socketpair()
    with left, right:
        left.sendall(b"hello")
        assert right.recv(5) == b"hello"


@pytest.fixture
def another_rng(rng: np.random.Generator) -> float:
    return float(rng.standard_normal())


def test_every_test_gets_the_same_numbers(another_rng):
    assert another_rng == np.random.default_rng(20261120).standard_normal()


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 44_100, 48_000])
def test_speech_like_has_the_asked_length_level_and_type(speech_like, sample_rate):
    waveform = speech_like(1.5, sample_rate)
    assert waveform.shape == (round(1.5 * sample_rate),)
    assert waveform.dtype == np.float32
    assert np.max(np.abs(waveform)) == pytest.approx(0.5)


def test_speech_like_depends_on_the_seed_only(speech_like):
    np.testing.assert_array_equal(speech_like(seed=3), speech_like(seed=3))
    assert not np.array_equal(speech_like(seed=3), speech_like(seed=4))


def test_speech_like_is_voiced_with_pauses(speech_like):
    frames = speech_like(4.0).reshape(-1, 320)  # 20 ms
    level = np.sqrt(np.mean(frames.astype(np.float64) ** 2, axis=1))
    assert 0.05 < np.mean(level < 1e-4) < 0.7  # silence between syllables
    loudest = frames[np.argmax(level)]
    spectrum = np.abs(np.fft.rfft(loudest * np.hanning(320)))
    assert np.sum(spectrum[:20] ** 2) > 0.5 * np.sum(spectrum**2)  # most of a vowel is below 1 kHz
