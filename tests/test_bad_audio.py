"""Bad input and bad targets: one clear AudioError each, and nothing left behind."""

import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import soundfile

from quieten import media
from quieten.audio import AudioInfo, AudioReader, AudioWriter, probe, read_audio, write_audio
from quieten.errors import AudioError, MissingExtra

KINDS = [
    (".wav", "PCM_16"),
    (".wav", "FLOAT"),
    (".flac", "PCM_16"),
    (".ogg", "VORBIS"),
    (".opus", "OPUS"),
    (".mp3", "MPEG_LAYER_III"),
    (".aiff", "PCM_24"),
    (".rf64", "PCM_16"),
    (".w64", "PCM_16"),
    (".au", "PCM_16"),
    (".caf", "PCM_16"),
]
NOISE = np.random.default_rng(0).normal(0, 0.1, (1, 48_000))


def complaint(path: Path) -> str:
    """The one line about a file, from `probe` and again from `read_audio`."""
    with pytest.raises(AudioError) as probed:
        probe(path)
    with pytest.raises(AudioError) as read:
        read_audio(path)
    assert str(probed.value) == str(read.value)
    assert "\n" not in str(read.value)
    assert str(read.value).startswith(f"{path}: ")
    assert ": " in str(read.value).removeprefix(f"{path}: ")  # what is wrong: what to do
    return str(read.value)


def test_missing(tmp_path: Path) -> None:
    assert "no such file or directory" in complaint(tmp_path / "gone.wav")


def test_folder(tmp_path: Path) -> None:
    assert "is a folder" in complaint(tmp_path)


@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".m4a"])
def test_empty(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.touch()
    assert "is empty (0 bytes)" in complaint(path)


@pytest.mark.parametrize("suffix", [".wav", ".aiff", ".flac", ".w64"])
def test_zero_samples(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, np.zeros((0, 1)), 16_000)
    assert str(path) in complaint(path)


def test_zero_samples_are_called_that(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((0, 1)), 16_000)
    assert "holds no samples" in complaint(tmp_path / "a.wav")


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3", ".ogg", ".au", ".txt"])
def test_text_renamed(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text("This is no sound, whatever the name says.\n" * 100)
    assert "is not an audio file" in complaint(path)


@pytest.mark.skipif(not media.decoders(), reason="needs PyAV or ffmpeg")
def test_text_renamed_to_a_media_file(tmp_path: Path) -> None:
    (tmp_path / "a.m4a").write_text("This is no sound, whatever the name says.\n" * 100)
    assert "cannot be decoded" in complaint(tmp_path / "a.m4a")


def test_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    assert "is not a regular file" in complaint(tmp_path / "a.wav")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", NOISE, 48_000)
    (tmp_path / "a.wav").chmod(0)
    assert "permission denied" in complaint(tmp_path / "a.wav")


@pytest.mark.parametrize("part", [0.3, 0.5, 0.9, 0.999])
@pytest.mark.parametrize(("suffix", "subtype"), KINDS)
def test_truncated(
    tmp_path: Path, suffix: str, subtype: str, part: float, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"a{suffix}"
    write_audio(path, NOISE, 48_000, subtype=subtype)
    os.truncate(path, int(part * path.stat().st_size))
    assert "is truncated" in complaint(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("suffix", "subtype"), KINDS)
def test_header_alone_is_never_taken_for_a_sound(tmp_path: Path, suffix: str, subtype: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_audio(path, NOISE, 48_000, subtype=subtype)
    data = path.read_bytes()
    for length in (3, 11, 40):
        path.write_bytes(data[:length])
        assert str(path) in complaint(path)


@pytest.mark.parametrize("promised", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_sizes_of_streaming_programs_are_no_truncation(tmp_path: Path, promised: int) -> None:
    path = tmp_path / "a.wav"
    write_audio(path, NOISE, 48_000)
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = promised.to_bytes(4, "little")
    path.write_bytes(data)
    if promised == 0:  # libsndfile takes the header's word
        assert "holds no samples" in complaint(path)
    else:
        assert read_audio(path)[0].shape == NOISE.shape


def test_damage_in_the_middle_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    write_audio(path, NOISE, 48_000)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 8000] = bytes(8000)
    path.write_bytes(data)
    with pytest.raises(AudioError, match=r"is (damaged after \d+\.\d s|truncated)"):
        read_audio(path)


def test_media_without_a_decoder_names_both_remedies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.m4a").write_bytes(b"something")
    monkeypatch.setattr(media, "decoders", lambda: ())
    with pytest.raises(MissingExtra, match=r"without ffmpeg .* pip install \"quieten\[media\]\""):
        probe(tmp_path / "a.m4a")


LIKE = AudioInfo(Path("in.wav"), 48_000, 1, 48_000, "WAV", "PCM_16")


def refusal(path: Path, like: AudioInfo = LIKE) -> str:
    """The one line about a target; checks that nothing changes in its folder."""
    before = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
    with pytest.raises(AudioError) as caught, AudioWriter(path, like) as writer:
        writer.write(NOISE)
    assert (sorted(path.parent.iterdir()) if path.parent.is_dir() else []) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_targets_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "file").touch()
    assert "it is a folder" in refusal(tmp_path / "folder.wav")
    assert "not a regular file" in refusal(tmp_path / "pipe.wav")
    assert "its folder does not exist" in refusal(tmp_path / "gone" / "a.wav")
    assert "cannot be written" in refusal(tmp_path / "file" / "a.wav")
    assert "cannot write .m4a: use one of" in refusal(tmp_path / "a.m4a")
    assert "cannot write no suffix" in refusal(tmp_path / "a")


def test_write_protected_target_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.wav"
    path.write_text("keep me")
    monkeypatch.setattr(os, "access", lambda *args: False)  # root may write everything
    assert "cannot be written (permission denied)" in refusal(path)
    assert path.read_text() == "keep me"


def test_wrong_number_of_channels(tmp_path: Path) -> None:
    with (
        pytest.raises(AudioError, match="got 2 channels, the file has 1"),
        AudioWriter(tmp_path / "a.wav", LIKE) as writer,
    ):
        writer.write(np.zeros((2, 10)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".wav", ".ogg", ".mp3"])
def test_nothing_written_is_an_error(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(AudioError, match="no samples to write"):
        write_audio(tmp_path / f"a{suffix}", np.zeros((1, 0)), 48_000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit])
def test_no_trace_after_an_interruption(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.wav"
    path.write_text("the old result")
    with pytest.raises(error), AudioWriter(path, LIKE) as writer:
        writer.write(NOISE)
        assert len(list(tmp_path.iterdir())) == 2  # the temporary file stands beside
        raise error
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]
    assert path.read_text() == "the old result"


def test_old_result_is_replaced_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_text("the old result")
    with AudioWriter(path, LIKE) as writer:
        writer.write(NOISE)
        assert path.read_text() == "the old result"
    assert probe(path).frames == NOISE.shape[1]


def test_result_obeys_the_umask_and_follows_links(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a.wav").symlink_to(tmp_path / "elsewhere" / "b.wav")
    old = os.umask(0o027)
    try:
        write_audio(tmp_path / "a.wav", NOISE, 48_000)
    finally:
        os.umask(old)
    assert (tmp_path / "a.wav").is_symlink()
    assert (tmp_path / "elsewhere" / "b.wav").stat().st_mode & 0o777 == 0o640


FULL_DISK = """
    import resource, signal, sys
    import numpy as np
    from quieten.audio import write_audio
    from quieten.errors import AudioError
    path, subtype, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 48_000))
    try:
        write_audio(path, noise, 48_000, subtype=subtype)
    except AudioError as error:
        sys.exit(str(error))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs limits on file sizes")
@pytest.mark.parametrize(("suffix", "subtype"), KINDS)
def test_full_disk(tmp_path: Path, suffix: str, subtype: str) -> None:
    assert resource.RLIMIT_FSIZE >= 0
    write_audio(tmp_path / f"whole{suffix}", NOISE, 48_000, subtype=subtype)
    size = (tmp_path / f"whole{suffix}").stat().st_size
    for limit in (10, size // 2, size - 100):
        path = str(tmp_path / f"a{suffix}")
        command = [sys.executable, "-c", textwrap.dedent(FULL_DISK), path, subtype, str(limit)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"{path}: cannot be written (")
        assert [p.name for p in tmp_path.iterdir()] == [f"whole{suffix}"]


OPEN_FILES = Path("/proc/self/fd")


@pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="needs /proc to count open files")
def test_reader_that_is_dropped_closes_its_file(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", NOISE, 48_000)
    before = len(list(OPEN_FILES.iterdir()))
    for _ in range(3):
        with AudioReader(tmp_path / "a.wav") as reader:
            next(reader.blocks(100))
    assert len(list(OPEN_FILES.iterdir())) == before
