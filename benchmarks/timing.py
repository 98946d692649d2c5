"""Measures one system in a process of its own; `speed.py` starts it and reads its JSON.

    python benchmarks/timing.py whole|stream|paced model|peer NAME FILE

Prints for `whole` and `stream` processor seconds for each second of sound, for `paced` the
milliseconds that each piece of 10 ms took. Imports quieten only for a model of it.
"""

import gc
import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

Waveform = NDArray[np.float32]
PIECE_S = 0.01
WARM_UP_S = 1.0


def whole_of(kind: str, name: str) -> Callable[[Waveform, int], Waveform]:
    """Returns what denoises a waveform (C, T) at a rate."""
    if kind == "model":
        from quieten import Denoiser

        return Denoiser(name)
    from peers import PEERS, denoise

    return lambda waveform, rate: denoise(PEERS[name], waveform, rate)


def stream_of(kind: str, name: str, rate: int, n_channels: int) -> Any:
    """Returns what has `feed` and `flush`; None for a peer that needs the whole."""
    if kind == "model":
        from quieten import Stream

        return Stream(rate, n_channels, model=name)
    from peers import PEERS, PeerStream

    return PeerStream(PEERS[name], rate, n_channels) if PEERS[name].framewise else None


def pieces(waveform: Waveform, rate: int) -> list[Waveform]:
    """Returns the waveform (C, T) in pieces of 10 ms; a shorter rest is left out."""
    length = round(PIECE_S * rate)
    count = waveform.shape[1] // length
    return [waveform[:, n * length : (n + 1) * length] for n in range(count)]


def cpu_s() -> float:
    """Returns the processor seconds of this process and of its ended children."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def whole(kind: str, name: str, waveform: Waveform, rate: int) -> float:
    """Returns the real-time factor of one call; loading is not counted."""
    denoise = whole_of(kind, name)
    denoise(waveform[:, : round(WARM_UP_S * rate)], rate)
    start = cpu_s()
    denoise(waveform, rate)
    return (cpu_s() - start) * rate / waveform.shape[1]


def stream(kind: str, name: str, waveform: Waveform, rate: int) -> float | None:
    """Returns the real-time factor of a stream fed 10 ms at a time; None: it is no stream."""
    running = stream_of(kind, name, rate, len(waveform))
    if running is None:
        return None
    running.feed(waveform[:, : round(WARM_UP_S * rate)])
    start = cpu_s()
    for piece in pieces(waveform, rate):
        running.feed(piece)
    running.flush()
    return (cpu_s() - start) * rate / waveform.shape[1]


def paced(kind: str, name: str, waveform: Waveform, rate: int) -> list[float] | None:
    """Returns how many ms each piece took, from call to answer, when one comes every 10 ms."""
    running = stream_of(kind, name, rate, len(waveform))
    if running is None:
        return None
    running.feed(waveform[:, : round(WARM_UP_S * rate)])
    gc.collect()
    took = []
    due = time.perf_counter()
    for piece in pieces(waveform, rate):
        due += PIECE_S
        time.sleep(max(0.0, due - time.perf_counter()))
        start = time.perf_counter()
        running.feed(piece)
        took.append(1000 * (time.perf_counter() - start))
    return took


def main() -> None:
    """Measures what the command line names."""
    what, kind, name, path = sys.argv[1:]
    sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
    measure = {"whole": whole, "stream": stream, "paced": paced}[what]
    print(json.dumps(measure(kind, name, np.ascontiguousarray(sound.T), rate)))


if __name__ == "__main__":
    main()
