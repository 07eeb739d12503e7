"""Models that hear: speech synthesized by eSpeak NG out of a package, between silence and noise."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnxruntime import InferenceSession
from stranger import Array, Data, Feed, Outcome, Places, Run, Stranger, folder_of, mean
from text_images import WORDS

RATE = 16_000  # samples of sound a second
SPEECH = "espeakng-loader==0.2.4"
WAKE = ("alexa", "hey jarvis", "hey mycroft")
VOICES = ("en-us", "en-gb", "en-gb-scotland", "en-us+f2", "en-gb+f4", "en-us+m3", "de", "fr", "es")
HEADS = ("alexa", "hey_jarvis", "hey_mycroft")
CALIB, FRESH = range(12), range(100, 140)  # seeds of clips
FRAME, CONTEXT = 512, 64  # samples of a frame of Silero's, and of the one before


class Speaker:
    """eSpeak NG as a shared library of a package."""

    def __init__(self, folder: Path) -> None:
        self.library = ctypes.CDLL(str(folder / "libespeak-ng.so"))
        synchronous = 2
        self.rate = self.library.espeak_Initialize(synchronous, 0, str(folder).encode(), 0)
        if self.rate <= 0:
            raise RuntimeError(f"eSpeak NG finds no data in {folder}")
        self.heard: list[Array] = []
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int,
                                ctypes.c_void_p)  # fmt: skip
        self.callback = kind(self._take)  # kept: the library holds no reference
        self.library.espeak_SetSynthCallback(self.callback)

    def _take(self, samples: ctypes._Pointer[ctypes.c_short], count: int, _: int) -> int:
        if count:
            self.heard.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def say(self, text: str, voice: str, speed: int, pitch: int) -> Array:
        """What it says, 16,000 samples a second, -1 to 1. speed: words a minute. pitch: 0 to 99."""
        self.heard = []
        self.library.espeak_SetVoiceByName(voice.encode())
        for parameter, value in ((1, speed), (3, pitch)):
            self.library.espeak_SetParameter(parameter, value, 0)
        self.library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # its breath is drawn
        said = text.encode()
        utf8 = 1
        self.library.espeak_Synth(said, len(said) + 1, 0, 0, 0, utf8, None, None)
        x = np.concatenate([np.zeros(1, np.int16), *self.heard]).astype(np.float32) / 32768
        at = np.arange(0, len(x) - 1, self.rate / RATE)
        return np.interp(at, np.arange(len(x)), x).astype(np.float32)


@functools.cache
def speaker(places: Places) -> Speaker:
    """The one speaker: the library can be begun once a process."""
    return Speaker(places.packages / folder_of(SPEECH) / "espeakng_loader")


def noise(rng: np.random.Generator, count: int) -> Array:
    """White, pink or brown noise, or a hum; a level of its own."""
    kind = rng.integers(4)
    if kind == 3:
        x = np.sin(2 * np.pi * 50 * np.arange(count) / RATE) + 0.1 * rng.normal(size=count)
    else:
        spectrum = np.fft.rfft(rng.normal(size=count))
        x = np.fft.irfft(spectrum / np.maximum(np.arange(len(spectrum)), 1) ** (kind / 2), count)
    return np.float32(x / x.std() * 10 ** rng.uniform(-4, -1.6))


def clip(places: Places, seed: int, texts: Sequence[str]) -> tuple[Array, Array]:
    """(the texts spoken with pauses between, over noise; which samples are within a text)."""
    rng = np.random.default_rng(seed)
    parts, within = [], []
    for text in texts:
        voice, pause = str(rng.choice(VOICES)), int(rng.uniform(0.3, 1.2) * RATE)
        said = speaker(places).say(text, voice, int(rng.integers(120, 220)), int(rng.integers(99)))
        said *= np.float32(10 ** rng.uniform(-1.2, 0) / max(np.abs(said).max(), 1e-3))
        parts += [np.zeros(pause, np.float32), said]
        within += [np.zeros(pause, bool), np.abs(said) > 0]
    tail = RATE
    x = np.concatenate([*parts, np.zeros(tail, np.float32)])
    spoken = np.concatenate([*within, np.zeros(tail, bool)])
    return (x + noise(rng, len(x))).clip(-1, 1), spoken


def sentences(rng: np.random.Generator, count: int) -> list[str]:
    """Texts of three to seven words."""
    return [" ".join(rng.choice(WORDS, int(rng.integers(3, 8)))) for _ in range(count)]


# --- Silero: is this speech? --------------------------------------------------------------------


def frames(sound: Array) -> list[Array]:
    """Frames of 512 samples, each behind the last 64 of the one before."""
    x = np.concatenate([np.zeros(CONTEXT, np.float32), sound])
    count = len(sound) // FRAME
    return [x[None, k * FRAME : (k + 1) * FRAME + CONTEXT] for k in range(count)]


def listen(run: Run, sound: Array) -> tuple[list[float], list[Feed]]:
    """(the probability of speech, frame by frame, the state handed on; the feeds)."""
    state, found, feeds = np.zeros((2, 1, 128), np.float32), [], []
    for frame in frames(sound):
        feeds.append({"input": frame, "state": state, "sr": np.array(RATE, np.int64)})
        probability, state = run(feeds[-1])
        found.append(float(probability[0, 0]))
    return found, feeds


def vad_data(places: Places) -> Data:
    """Every 16th frame of eight clips with the state that float has there; whole clips to judge."""
    session = InferenceSession(str(places.file(SILERO.model)))
    rng = np.random.default_rng(1)
    feeds: list[Feed] = []
    for seed in range(8):
        sound, _ = clip(places, seed, sentences(rng, 4))
        feeds += listen(lambda feed: list(session.run(None, feed)), sound)[1][seed % 16 :: 16]
    fresh, truth = [], []
    for seed in range(100, 116):
        sound, spoken = clip(places, seed, sentences(rng, 4))
        fresh.append({"sound": sound})
        truth.append([bool(f.any()) for f in np.array_split(spoken, len(sound) // FRAME)])
    return Data(feeds, fresh, truth)


def vad_judge(ref: Run, test: Run, data: Data) -> Outcome:
    """Frames that are speech (0.5 or more), each model with its own state over whole clips."""
    rows = [
        [np.array(listen(run, x["sound"])[0]) >= 0.5 for run in (ref, test)] for x in data.fresh
    ]
    sizes = [len(a) for a, _ in rows]
    agreed = mean([float((a == b).mean()) for a, b in rows], sizes)
    right = [mean([float((r[k] == t[: len(r[k])]).mean())
                   for r, t in zip(rows, data.truth, strict=True)], sizes)[0]
             for k in (0, 1)]  # fmt: skip
    return Outcome(*agreed, right=(right[0], right[1]))


# --- openWakeWord: a mel spectrogram, embeddings of it, and a small model for each phrase ------


def session_of(places: Places, name: str) -> InferenceSession:
    """A model of the package in float."""
    folder = places.packages / folder_of(WAKEWORD) / "openwakeword" / "resources" / "models"
    return InferenceSession(str(folder / f"{name}.onnx"))


def windows(places: Places, sound: Array) -> list[Feed]:
    """Windows of 76 rows of the mel spectrogram, a new one every 8: 80 ms."""
    pcm = np.float32(np.int16(sound * 32767))[None]
    mel = session_of(places, "melspectrogram").run(None, {"input": pcm})[0].squeeze() / 10 + 2
    rows = [mel[k : k + 76] for k in range(0, len(mel) - 75, 8)]
    return [{"input_1": np.float32(r)[None, :, :, None]} for r in rows]


def wake_clips(places: Places, seeds: range) -> list[Array]:
    """Clips that say every phrase, and others."""
    rng = np.random.default_rng(seeds.start)
    texts = [[*WAKE, *sentences(rng, 1)] for _ in seeds]
    return [clip(places, s, [t[k] for k in rng.permutation(len(t))])[0]
            for s, t in zip(seeds, texts, strict=True)]  # fmt: skip


def embedding_data(places: Places) -> Data:
    """Every 12th window to calibrate on; all windows of other clips, clip by clip, to judge by."""
    calib = [f for sound in wake_clips(places, CALIB) for f in windows(places, sound)[::12]]
    fresh = [{"sound": np.concatenate([f["input_1"] for f in windows(places, sound)])}
             for sound in wake_clips(places, FRESH)]  # fmt: skip
    return Data(calib, fresh, [session_of(places, f"{n}_v0.1") for n in HEADS])


def embedding_judge(ref: Run, test: Run, data: Data) -> Outcome:
    """In which clips float's models of phrases hear theirs (0.5 or more): Dice of both."""

    def heard(run: Run, clip: Feed) -> list[bool]:
        rows = np.concatenate([run({"input_1": x[None]})[0].reshape(1, -1) for x in clip["sound"]])
        stacks = [rows[k : k + 16][None] for k in range(len(rows) - 15)]
        names = [head.get_inputs()[0].name for head in data.truth]
        return [max(float(head.run(None, {name: s})[0].max()) for s in stacks) >= 0.5
                for name, head in zip(names, data.truth, strict=True)]  # fmt: skip

    pairs = [zip(heard(ref, clip), heard(test, clip), strict=True) for clip in data.fresh]
    return dice([pair for clip in pairs for pair in clip])


def dice(pairs: Sequence[Sequence[bool]]) -> Outcome:
    """2 * heard by both / (heard by one + heard by the other)."""
    sizes = [float(sum(pair)) for pair in pairs]
    return Outcome(*mean([float(all(pair)) for pair in pairs], sizes))


def head_data(places: Places, name: str) -> Data:
    """16 float embeddings in a row to calibrate on, and clip by clip to judge by."""
    embed = session_of(places, "embedding_model")
    entry = session_of(places, name).get_inputs()[0].name

    def stacks(sound: Array, step: int) -> list[Feed]:
        rows = np.concatenate([embed.run(None, f)[0].reshape(1, -1)
                               for f in windows(places, sound)])  # fmt: skip
        return [{entry: rows[k : k + 16][None]} for k in range(0, len(rows) - 15, step)]

    calib = [f for sound in wake_clips(places, CALIB) for f in stacks(sound, 8)]
    fresh = [stacks(sound, 1) for sound in wake_clips(places, FRESH)]
    ends = np.cumsum([len(f) for f in fresh]).tolist()
    return Data(calib, [f for part in fresh for f in part], ends)


def jarvis_data(places: Places) -> Data:
    """For a model of Gemms."""
    return head_data(places, "hey_jarvis_v0.1")


def mycroft_data(places: Places) -> Data:
    """For a model of LSTMs."""
    return head_data(places, "hey_mycroft_v0.1")


def head_judge(ref: Run, test: Run, data: Data) -> Outcome:
    """In which clips each hears its phrase (0.5 or more): Dice of both."""
    found = np.array([[float(run(x)[0].max()) >= 0.5 for run in (ref, test)] for x in data.fresh])
    return dice([p.any(axis=0).tolist() for p in np.split(found, data.truth[:-1])])


WAKEWORD = "openwakeword==0.4.0"
SILERO = Stranger("silero_vad", "Silero VAD", "silero-vad==6.2.0",
                  "silero_vad/data/silero_vad.onnx", "frames of speech", vad_data, vad_judge,
                  stateless=False, options="--fix sr=16000")  # fmt: skip
_MODELS = "openwakeword/resources/models/"
HEARING = (
    SILERO,
    Stranger("wake_embedding", "openWakeWord embedding", WAKEWORD,
             _MODELS + "embedding_model.onnx", "phrases heard", embedding_data,
             embedding_judge, stateless=False),
    Stranger("wake_jarvis", "openWakeWord 'hey jarvis'", WAKEWORD,
             _MODELS + "hey_jarvis_v0.1.onnx", "phrases heard", jarvis_data, head_judge),
    Stranger("wake_mycroft", "openWakeWord 'hey mycroft', LSTM", WAKEWORD,
             _MODELS + "hey_mycroft_v0.1.onnx", "phrases heard", mycroft_data, head_judge),
)  # fmt: skip
