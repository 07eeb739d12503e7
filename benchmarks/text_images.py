"""Images with text, drawn: pages and single lines to calibrate and judge detectors and readers on.

    python benchmarks/text_images.py OUT --n 64 [--seed 0] [--width 640] [--height 480]

`page` draws a few lines of text over a flat, graded, striped or noisy ground, each line in a size,
a colour and a slope of its own; `line` draws one line that fills a strip, as a reader gets it from
a detector. Both are seeded: the same seed gives the same pixels with the same Pillow. Its own
scalable font is used, so nothing has to be installed; needs Pillow with FreeType.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Pixels = NDArray[np.uint8]
Corners = NDArray[np.float64]  # [4, 2], x and y, from the upper left one clockwise
Color = tuple[int, int, int]

_WORDS = """
open closed exit enter street market station total invoice date price order table page north south
east west bridge river garden school museum library coffee bread water milk please return ticket
platform number signal model layer weight image camera battery warning maximum minimum speed limit
pressure voltage serial made quality control fragile this side up
"""
WORDS = _WORDS.split()
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
MARKS = ".,:;-/%&()+#"


@dataclass(frozen=True)
class Page:
    """pixels: [height, width, 3], RGB. texts: what each line says. corners: where it stands."""

    pixels: Pixels
    texts: tuple[str, ...]
    corners: tuple[Corners, ...]


def page(seed: int, width: int = 640, height: int = 480, lines: int | None = None) -> Page:
    """An image with `lines` lines of text (2 to 9 where None) that do not overlap, as far as they
    find a place."""
    rng = np.random.default_rng(seed)
    image = Image.fromarray(_ground(rng, width, height))
    free = np.ones((height, width), bool)
    texts, corners = [], []
    for _ in range(lines or int(rng.integers(2, 10))):
        text = phrase(rng)
        size = int(np.exp(rng.uniform(np.log(12), np.log(max(13, height / 7)))))
        slope = float(rng.choice([0.0, rng.normal(0, 4), rng.uniform(-25, 25)], p=[0.6, 0.3, 0.1]))
        placed = _place(rng, image, free, text, size, slope)
        if placed is not None:
            texts.append(text)
            corners.append(placed)
    return Page(_worn(rng, image), tuple(texts), tuple(corners))


def line(seed: int, height: int = 48) -> tuple[Pixels, str]:
    """(a strip with one line of text, [height, width, 3], RGB; what it says)."""
    rng = np.random.default_rng(seed)
    text = phrase(rng)
    font = ImageFont.load_default(size=float(height * rng.uniform(0.55, 0.8)))
    left, top, right, bottom = font.getbbox(text)
    width = int(right - left + height * rng.uniform(0.1, 0.8))
    image = Image.fromarray(_ground(rng, width, height))
    at = ((width - (right - left)) / 2 - left, (height - (bottom - top)) / 2 - top)
    ImageDraw.Draw(image).text(at, text, fill=_ink(rng, np.asarray(image)), font=font)
    slope = float(rng.normal(0, 0.7))
    image = image.rotate(slope, Image.Resampling.BILINEAR, fillcolor=image.getpixel((0, 0)))
    return _worn(rng, image), text


def phrase(rng: np.random.Generator) -> str:
    """One to four words, made up or of a list, in a case of their own; some end in a mark."""
    words = []
    for _ in range(int(rng.integers(1, 5))):
        kind = rng.random()
        if kind < 0.6:
            word = str(rng.choice(WORDS))
        elif kind < 0.8:
            word = "".join(rng.choice(list(LETTERS), int(rng.integers(2, 9))))
        else:
            word = str(int(10 ** rng.uniform(0, 7)))
        word = (word, word.upper(), word.capitalize())[int(rng.integers(3))]
        words.append(word + (str(rng.choice(list(MARKS))) if rng.random() < 0.2 else ""))
    return " ".join(words)


def _ground(rng: np.random.Generator, width: int, height: int) -> Pixels:
    """What text stands on: one colour, a slope between two, stripes, or patches, with noise."""
    first, second = rng.uniform(0, 255, (2, 3))
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    angle, waves = rng.uniform(0, np.pi), rng.uniform(2, 20)
    along = x * np.cos(angle) + y * np.sin(angle)
    kind = rng.integers(4)
    if kind == 0:
        mix = np.zeros((height, width))
    elif kind == 1:
        mix = (along - along.min()) / max(np.ptp(along), 1e-9)
    elif kind == 2:
        mix = 0.25 * (1 + np.sin(2 * np.pi * waves * along))
    else:
        small = Image.fromarray(rng.integers(0, 128, (5, 7), np.uint8))
        mix = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)) / 255
    color = first + mix[..., None] * (second - first)
    color += rng.normal(0, rng.uniform(0, 10), color.shape)
    return np.asarray(color.clip(0, 255), np.uint8)


def _ink(rng: np.random.Generator, behind: Pixels) -> Color:
    """A colour that can be told from what lies behind it: its luma is 70 or more away."""
    luma = np.array([0.299, 0.587, 0.114])
    ground = float((behind.reshape(-1, 3) @ luma).mean())
    while True:
        color = rng.integers(0, 256, 3)
        if abs(float(color @ luma) - ground) >= 70:
            return int(color[0]), int(color[1]), int(color[2])


def _place(
    rng: np.random.Generator,
    image: Image.Image,
    free: NDArray[np.bool_],
    text: str,
    size: int,
    slope: float,
) -> Corners | None:
    """Draw a line where nothing is yet; its corners, None where 20 tries find no place."""
    font = ImageFont.load_default(size=float(size))
    left, top, right, bottom = (int(v) for v in font.getbbox(text))
    pad = 2
    mask = Image.new("L", (right - left + 2 * pad, bottom - top + 2 * pad))
    ImageDraw.Draw(mask).text((pad - left, pad - top), text, fill=255, font=font)
    turned = mask.rotate(slope, Image.Resampling.BICUBIC, expand=True)
    if turned.width > image.width or turned.height > image.height:
        return None
    for _ in range(20):
        x = int(rng.integers(image.width - turned.width + 1))
        y = int(rng.integers(image.height - turned.height + 1))
        window = np.s_[y : y + turned.height, x : x + turned.width]
        if free[window].all():
            free[window] = False
            image.paste(_ink(rng, np.asarray(image)[window]), (x, y), turned)
            half = np.array([mask.width, mask.height]) / 2 - pad
            box = half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
            turn = np.deg2rad(slope)
            spin = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
            center = np.array([x + turned.width / 2, y + turned.height / 2])
            return np.asarray(box @ spin.T + center, np.float64)
    return None


def _worn(rng: np.random.Generator, image: Image.Image) -> Pixels:
    """As a camera might give it: a little blur or noise, or neither."""
    kind = rng.random()
    if kind < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.0)))
    pixels = np.asarray(image, np.float64)
    if kind > 0.6:
        pixels = pixels + rng.normal(0, rng.uniform(1, 8), pixels.shape)
    return np.asarray(pixels.clip(0, 255), np.uint8)


def pages(n: int, seed: int = 0, width: int = 640, height: int = 480) -> list[Page]:
    """n pages; the k-th is that of seed * 1,000,000 + k."""
    return [page(seed * 1_000_000 + k, width, height) for k in range(n)]


def lines(n: int, seed: int = 0, height: int = 48) -> list[tuple[Pixels, str]]:
    """n strips with what they say; the k-th is that of seed * 1,000,000 + k."""
    return [line(seed * 1_000_000 + k, height) for k in range(n)]


def save(found: list[Page], folder: Path) -> list[Path]:
    """Write the pages as JPEG files 0000.jpg, 0001.jpg, ...; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{k:04}.jpg" for k in range(len(found))]
    for one, path in zip(found, paths, strict=True):
        Image.fromarray(one.pixels).save(path, quality=92)
    return paths


def main() -> None:
    """Write pages into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="the folder to write into")
    parser.add_argument("--n", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    args = parser.parse_args()
    save(pages(args.n, args.seed, args.width, args.height), args.out)


if __name__ == "__main__":
    main()
