"""Which file becomes which, and what is refused before anything is written."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from quieten import plan as planning
from quieten.audio import write_audio
from quieten.errors import ConfigError
from quieten.plan import Failure, Job, Request, explain, plan

Touch = Callable[..., Path]


@pytest.fixture
def touch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Touch:
    """A function that makes a short WAV below the working folder and returns its path."""
    monkeypatch.chdir(tmp_path)

    def make(name: str) -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_audio(path, np.full((1, 800), 0.25, np.float32), 8000, subtype="PCM_16")
        return path

    return make


def targets(jobs: list[Job]) -> list[str]:
    return [str(job.target) for job in jobs]


def only_reason(request: Request) -> str:
    """The one reason for which the only input of a request was refused."""
    jobs, failures = plan(request)
    assert jobs == []
    (failure,) = failures
    return failure.reason


def test_result_stands_beside_its_input_by_default(touch: Touch) -> None:
    touch("talks/one.wav")
    jobs, failures = plan(Request(("talks/one.wav",)))
    assert targets(jobs) == ["talks/one.quieten.wav"]
    assert failures == []
    assert jobs[0].duration_s == pytest.approx(0.1)


def test_output_is_a_file_for_one_input(touch: Touch) -> None:
    touch("one.wav")
    assert targets(plan(Request(("one.wav",), "new.wav"))[0]) == ["new.wav"]


@pytest.mark.parametrize("output", ["there", "new/", "new" + os.sep])
def test_output_is_a_folder_if_it_is_one_or_looks_like_one(touch: Touch, output: str) -> None:
    touch("one.wav")
    Path("there").mkdir()
    (job,) = plan(Request(("one.wav",), output))[0]
    assert job.target == Path(output) / "one.wav"


def test_output_is_a_folder_for_several_inputs(touch: Touch) -> None:
    touch("a/one.wav"), touch("b/two.wav")
    request = Request(("a/one.wav", "b/two.wav"), "new", "removed")
    jobs, _ = plan(request)
    assert targets(jobs) == ["new/one.wav", "new/two.wav"]
    assert [str(job.residual) for job in jobs] == ["removed/one.wav", "removed/two.wav"]


def test_several_inputs_into_one_file_are_refused(touch: Touch) -> None:
    touch("one.wav"), touch("two.wav"), touch("taken.wav")
    with pytest.raises(ConfigError, match="folder is needed"):
        plan(Request(("one.wav", "two.wav"), "taken.wav"))


def test_folder_is_mirrored(touch: Touch) -> None:
    touch("talks/one.wav"), touch("talks/deep/er/two.flac")
    jobs, failures = plan(Request(("talks",), "new"))
    assert targets(jobs) == ["new/one.wav", "new/deep/er/two.flac"]
    assert failures == []


def test_folder_scan_skips_results_hidden_files_and_the_output_folder(touch: Touch) -> None:
    for name in ("one.wav", "one.quieten.wav", ".hidden.wav", ".trash/x.wav", "new/one.wav"):
        touch(f"talks/{name}")
    Path("talks/notes.txt").write_text("no sound")
    jobs, failures = plan(Request(("talks",), "talks/new", overwrite=True))
    assert [str(job.source) for job in jobs] == ["talks/one.wav"]
    assert failures == []


def test_second_run_over_a_folder_finds_the_same_files(touch: Touch) -> None:
    touch("talks/one.wav")
    first, _ = plan(Request(("talks",)))
    touch(str(first[0].target))
    second, _ = plan(Request(("talks",), overwrite=True))
    assert second[0].source == first[0].source
    assert len(second) == 1


def test_a_result_can_be_named_explicitly(touch: Touch) -> None:
    touch("one.quieten.wav")
    assert targets(plan(Request(("one.quieten.wav",)))[0]) == ["one.quieten.quieten.wav"]


def test_a_file_named_twice_is_done_once(touch: Touch) -> None:
    path = touch("talks/one.wav")
    jobs, failures = plan(Request(("talks/one.wav", "talks", str(path.resolve()))))
    assert len(jobs) == 1
    assert failures == []


def test_clash_of_names_is_found(touch: Touch) -> None:
    touch("a/one.wav"), touch("b/one.wav")
    jobs, failures = plan(Request(("a", "b"), "new"))
    assert [str(job.source) for job in jobs] == ["a/one.wav"]
    assert [failure.source for failure in failures] == ["b/one.wav"]
    assert "would replace a file of a/one.wav" in failures[0].reason


def test_clash_after_a_change_of_suffix_is_found(
    touch: Touch, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch("talks/one.flac"), touch("talks/one.wav")
    monkeypatch.setattr(planning, "output_format", lambda info: (".flac", "FLAC instead"))
    jobs, failures = plan(Request(("talks",), "new"))
    assert targets(jobs) == ["new/one.flac"]
    assert [failure.source for failure in failures] == ["talks/one.wav"]


def test_a_result_never_replaces_the_input_of_another_job(touch: Touch) -> None:
    touch("a/one.wav"), touch("b/one.wav")
    request = Request(("a/one.wav", "b/one.wav"), "b", overwrite=True)
    jobs, failures = plan(request)
    assert [str(job.source) for job in jobs] == ["b/one.wav"]  # in place, as asked for
    assert [failure.source for failure in failures] == ["a/one.wav"]


def test_residual_and_output_in_one_folder_clash(touch: Touch) -> None:
    touch("one.wav")
    Path("new").mkdir()
    assert "are one file" in only_reason(Request(("one.wav",), "new", "new"))


def test_existing_output_needs_overwrite(touch: Touch) -> None:
    touch("one.wav"), touch("taken.wav")
    assert "taken.wav exists already" in only_reason(Request(("one.wav",), "taken.wav"))
    assert "exists already" in only_reason(Request(("one.wav",), "new.wav", "taken.wav"))
    assert targets(plan(Request(("one.wav",), "taken.wav", overwrite=True))[0]) == ["taken.wav"]


def link_itself(path: Path) -> str:
    return str(path)


def link_soft(path: Path) -> str:
    Path("soft.wav").symlink_to(path)
    return "soft.wav"


def link_hard(path: Path) -> str:
    Path("hard.wav").hardlink_to(path)
    return "hard.wav"


def link_folder(path: Path) -> str:
    Path("folder").symlink_to(path.resolve().parent, target_is_directory=True)
    return f"folder/{path.name}"


@pytest.mark.parametrize("link", [link_itself, link_soft, link_hard, link_folder])
def test_output_equal_to_input_is_refused(touch: Touch, link: Callable[[Path], str]) -> None:
    output = link(touch("one.wav"))
    assert "is the input" in only_reason(Request(("one.wav",), output))
    assert targets(plan(Request(("one.wav",), output, overwrite=True))[0]) == [output]
    assert "is the input" in only_reason(Request(("one.wav",), "new.wav", output, overwrite=True))


def test_missing_input_does_not_stop_the_others(touch: Touch) -> None:
    touch("one.wav")
    jobs, failures = plan(Request(("missing.wav", "one.wav")))
    assert targets(jobs) == ["one.quieten.wav"]
    assert [failure.source for failure in failures] == ["missing.wav"]


def test_folder_without_audio_fails(touch: Touch) -> None:
    Path("empty").mkdir()
    Path("empty/notes.txt").write_text("no sound")
    assert "no audio files" in only_reason(Request(("empty",)))


def test_named_pipe_and_device_are_refused(touch: Touch) -> None:
    os.mkfifo("pipe.wav")
    touch("one.wav")
    assert "not a regular file" in only_reason(Request(("pipe.wav",)))
    assert "not a regular file" in only_reason(Request(("one.wav",), "pipe.wav", overwrite=True))
    assert "not a regular file" in only_reason(
        Request(("one.wav",), residual=os.devnull, overwrite=True)
    )


def test_pipes(touch: Touch) -> None:
    touch("one.wav")
    assert plan(Request(("-",))) == ([Job(None, None)], [])
    assert plan(Request(("-",), "new.wav")) == ([Job(None, Path("new.wav"))], [])
    assert plan(Request(("one.wav",), "-")) == ([Job(Path("one.wav"), None)], [])
    Path("there").mkdir()
    assert plan(Request(("-",), "there"))[0][0].target == Path("there/stdin.wav")


@pytest.mark.parametrize("inputs", [("-", "one.wav"), ("one.wav", "-"), ("-", "-"), ("talks",)])
def test_a_pipe_takes_one_sound(touch: Touch, inputs: tuple[str, ...]) -> None:
    touch("talks/one.wav"), touch("one.wav")
    with pytest.raises(ConfigError, match="one sound at a time"):
        plan(Request(inputs, "-"))


def test_residual_to_stdout_is_refused(touch: Touch) -> None:
    touch("one.wav")
    with pytest.raises(ConfigError, match="--residual '-'"):
        plan(Request(("one.wav",), residual="-"))


def test_explain_gives_one_line_without_the_name() -> None:
    assert explain(ValueError("a.wav: is\nodd"), "a.wav") == "is odd"
    assert explain(OSError(28, "No space left", "b.wav"), "a.wav") == "No space left: b.wav"
    assert explain(MemoryError()) == "MemoryError"


def test_failures_are_values() -> None:
    assert Failure("a", "b") == Failure("a", "b")


def test_suffix_keeps_its_spelling(touch: Touch) -> None:
    touch("ONE.WAV")
    assert targets(plan(Request(("ONE.WAV",)))[0]) == ["ONE.quieten.WAV"]
    assert targets(plan(Request(("ONE.WAV",), "new/"))[0]) == ["new/ONE.WAV"]


def test_chosen_format_is_noted_where_samples_change(touch: Touch) -> None:
    touch("one.wav")
    notes = {name: plan(Request(("one.wav",), name))[0][0].note for name in ("a.flac", "a.ogg")}
    assert notes == {"a.flac": "", "a.ogg": "PCM_16 becomes VORBIS"}


def test_format_that_cannot_be_written_is_refused_at_once(touch: Touch) -> None:
    touch("one.wav")
    assert "cannot write .xyz" in only_reason(Request(("one.wav",), "a.xyz"))
