"""Foreign programs: no shell, copies only, reasons a user can act on, nothing left running."""

import sys
from pathlib import Path

import numpy as np
import pytest

from quieten.audio import probe, read_audio, write_audio
from quieten.errors import AudioError, ConfigError
from quieten.evaluation.foreign import check_command, denoise_files, takes_folder
from tiny_testset import program, wait_for_end, write_items

COPY = "shutil.copyfile(args[0], args[1])"
ODD_NAMES = (
    "a b",
    "it's",
    'say "hi"',
    "x;touch hacked",
    "$(touch hacked)",
    "{out}",
    "-rf",
    "ä|b&c",
)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    return write_items(tmp_path, 1)[0].noisy


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_is_one_argument_and_nothing_else(
    tmp_path: Path, work: Path, noisy: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = noisy.rename(tmp_path / f"{name}.wav")
    made = tmp_path / "made" / f"{name}.wav"
    denoise_files(program(tmp_path, COPY) + " {in} {out}", [source], [made], work)
    assert made.read_bytes() == source.read_bytes()
    assert not (tmp_path / "hacked").exists()
    assert list(work.iterdir()) == []


def test_places_are_filled_inside_arguments_and_the_rest_is_left_alone(
    tmp_path: Path, work: Path, noisy: Path
) -> None:
    body = "assert args[1] == 'a b {x} $HOME *', args\n" + (
        "shutil.copyfile(args[0].removeprefix('--in='), args[2].removeprefix('--out='))"
    )
    command = program(tmp_path, body) + " --in={in} 'a b {x} $HOME *' --out={out}"
    made = tmp_path / "made.wav"
    denoise_files(command, [noisy], [made], work)
    assert made.read_bytes() == noisy.read_bytes()


def test_a_program_cannot_spoil_the_test_set(tmp_path: Path, work: Path, noisy: Path) -> None:
    before = noisy.read_bytes()
    body = COPY + "\nopen(args[0], 'wb').close()"
    denoise_files(program(tmp_path, body) + " {in} {out}", [noisy], [tmp_path / "made.wav"], work)
    assert noisy.read_bytes() == before


@pytest.mark.parametrize(
    ("suffix", "subtype", "expected"),
    [(".flac", "PCM_16", "PCM_16"), (".flac", "PCM_24", "PCM_24"), (".ogg", "VORBIS", "FLOAT")],
)
def test_programs_get_wav_with_the_same_samples(
    tmp_path: Path, work: Path, noisy: Path, suffix: str, subtype: str, expected: str
) -> None:
    source, made = tmp_path / f"sound{suffix}", tmp_path / "made.wav"
    write_audio(source, read_audio(noisy)[0], 16_000, subtype=subtype)
    denoise_files(program(tmp_path, COPY) + " {in} {out}", [source], [made], work)
    assert (probe(made).format, probe(made).subtype) == ("WAV", expected)
    np.testing.assert_array_equal(read_audio(made)[0], read_audio(source)[0])


def test_a_folder_is_one_call_for_all_files(tmp_path: Path, work: Path) -> None:
    items = write_items(tmp_path)
    calls = tmp_path / "calls"
    body = f"""
open({str(calls)!r}, 'a').write('called ')
for name in os.listdir(args[0]):
    shutil.copyfile(os.path.join(args[0], name), os.path.join(args[1], name))
"""
    command = program(tmp_path, body) + " {in_dir} {out_dir}"
    noisy = [item.noisy for item in items]
    made = [tmp_path / "made" / f"{item.name}.wav" for item in items]
    denoise_files(command, noisy, made, work)
    assert calls.read_text() == "called "
    assert [path.read_bytes() for path in made] == [path.read_bytes() for path in noisy]
    assert takes_folder(command)
    assert not takes_folder("tool {in} {out_dir}")


def test_equal_names_in_different_folders_stay_apart(tmp_path: Path, work: Path) -> None:
    paths = [write_items(tmp_path / name, 1, seed=seed)[0].noisy for seed, name in enumerate("ab")]
    body = "\nfor name in os.listdir(args[0]): shutil.copy(f'{args[0]}/{name}', args[1])"
    made = [tmp_path / "a.wav", tmp_path / "b.wav"]
    denoise_files(program(tmp_path, body) + " {in_dir} {out_dir}", paths, made, work)
    assert made[0].read_bytes() == paths[0].read_bytes() != paths[1].read_bytes()
    assert made[1].read_bytes() == paths[1].read_bytes()


def test_a_program_may_add_to_the_name_of_its_result(
    tmp_path: Path, work: Path, noisy: Path
) -> None:
    body = "shutil.copy(args[0], f'{args[1]}/{os.path.basename(args[0])[:-4]}_Strong3.wav')"
    made = tmp_path / "made.wav"
    denoise_files(program(tmp_path, body) + " {in} {out_dir}", [noisy], [made], work)
    assert made.read_bytes() == noisy.read_bytes()


def test_a_link_to_the_input_becomes_a_file(tmp_path: Path, work: Path, noisy: Path) -> None:
    made = tmp_path / "made.wav"
    command = program(tmp_path, "os.symlink(args[0], args[1])") + " {in} {out}"
    denoise_files(command, [noisy], [made], work)
    assert not made.is_symlink()
    assert made.read_bytes() == noisy.read_bytes()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("sys.exit(3)", r"exit status 3$"),
        ("print('no model', file=sys.stderr); sys.exit(1)", r"exit status 1: no model$"),
        (COPY + "\nprint('first\\n \\t 2\\rlast one'); sys.exit(1)", r"exit status 1: last one$"),
        ("print('done')", r"wrote no result: done$"),
        ("os.mkdir(args[1])", r"wrote no result$"),
        ("os.kill(os.getpid(), 9)", r"ended by signal SIGKILL$"),
        ("print('x' * 5000); sys.exit(1)", r"exit status 1: x{200}$"),
    ],
)
def test_failures_say_what_the_program_said(
    tmp_path: Path, work: Path, noisy: Path, body: str, reason: str
) -> None:
    made = tmp_path / "made.wav"
    with pytest.raises(AudioError, match=reason):
        denoise_files(program(tmp_path, body) + " {in} {out}", [noisy], [made], work)
    assert not made.exists()
    assert list(work.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are of POSIX")
def test_a_program_that_takes_too_long_is_ended_with_its_children(
    tmp_path: Path, work: Path, noisy: Path
) -> None:
    pids = tmp_path / "pids"
    body = f"""
child = os.fork()
if child:
    open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child}}')
time.sleep(600)
"""
    with pytest.raises(AudioError, match="took longer than 2 s"):
        command = program(tmp_path, body) + " {in} {out}"
        denoise_files(command, [noisy], [tmp_path / "made.wav"], work, timeout_s=2)
    started = [int(pid) for pid in pids.read_text().split()]
    assert len(started) == 2
    assert wait_for_end(started)


@pytest.mark.skipif(sys.platform == "win32", reason="counts processor time on POSIX only")
def test_processor_seconds_are_those_of_the_program(
    tmp_path: Path, work: Path, noisy: Path
) -> None:
    body = COPY + "\nwhile time.process_time() < 0.3: pass"
    command = program(tmp_path, body) + " {in} {out}"
    assert denoise_files(command, [noisy], [tmp_path / "made.wav"], work) >= 0.3


def test_a_program_reads_nothing_from_the_terminal(tmp_path: Path, work: Path, noisy: Path) -> None:
    command = program(tmp_path, "assert sys.stdin.read() == ''\n" + COPY) + " {in} {out}"
    denoise_files(command, [noisy], [tmp_path / "made.wav"], work)
    assert (tmp_path / "made.wav").read_bytes() == noisy.read_bytes()


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("", "empty"),
        ("python 'x {in} {out}", "no closing quotation"),
        ("python tool.py {in}", r"use \{in\} \{out\}"),
        ("python tool.py {out}", r"use \{in\} \{out\}"),
        ("python {in} {in_dir} {out}", r"use \{in\} \{out\}"),
        ("python {in_dir} {out}", r"use \{out_dir\}"),
        ("no-such-program-anywhere {in} {out}", "no program no-such-program-anywhere"),
        ("./no-such-program {in} {out}", r"no program \./no-such-program"),
    ],
)
def test_commands_that_cannot_work_are_refused_at_once(command: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        check_command(command)


@pytest.mark.parametrize("places", ["{in} {out}", "-i{in} {out_dir}", "{in_dir} --to={out_dir}"])
def test_commands_that_may_work_pass(tmp_path: Path, places: str) -> None:
    check_command(f"{program(tmp_path, COPY)} {places}")
