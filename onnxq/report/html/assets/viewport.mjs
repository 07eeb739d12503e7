// Pan by dragging, zoom by two fingers, Ctrl and the wheel, keys or buttons.

const CLOSEST = 2.5, FARTHEST = 0.02, READABLE = 0.75, SMALL = 0.48;
const NEAR = 0.7; // from which scale on shapes at edges can be read

export function viewport(canvas, layer) {
  const view = { x: 0, y: 0, k: 1, size: { w: 1, h: 1 } };
  const fingers = new Map();
  let moved = 0;

  function apply() {
    layer.setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.k})`);
    canvas.classList.toggle("far", view.k < NEAR);
  }
  function zoom(factor, cx, cy) {
    const k = Math.min(CLOSEST, Math.max(FARTHEST, view.k * factor));
    view.x = cx - (cx - view.x) * k / view.k;
    view.y = cy - (cy - view.y) * k / view.k;
    view.k = k;
    apply();
  }
  const middle = () => sizeOf(canvas).map((side) => side / 2);
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  canvas.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, place(event));
    moved = fingers.size > 1 ? 99 : 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const now = place(event), others = [...fingers].filter(([id]) => id !== event.pointerId);
    fingers.set(event.pointerId, now);
    moved += Math.hypot(now[0] - before[0], now[1] - before[1]);
    if (others.length) {
      const other = others[0][1], gap = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1;
      zoom(gap(now) / gap(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    } else if (moved > 4) {
      canvas.setPointerCapture(event.pointerId);
      view.x += now[0] - before[0];
      view.y += now[1] - before[1];
      apply();
    }
  });
  for (const end of ["pointerup", "pointercancel", "pointerleave"]) {
    canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
  }
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 300), ...place(event));
  }, { passive: false });

  return {
    view, apply,
    dragged: () => moved > 4,
    by: (factor) => zoom(factor, ...middle()),
    pan: (dx, dy) => { view.x += dx; view.y += dy; apply(); },
    // All of it; where that would be too small to read, its upper end.
    fit(readable = true) {
      const [w, h] = sizeOf(canvas);
      const whole = Math.min(1.2, (w - 20) / view.size.w, (h - 20) / view.size.h);
      const wide = Math.min(READABLE, Math.max(SMALL, (w - 20) / view.size.w));
      view.k = readable && whole < SMALL ? wide : whole;
      view.x = (w - view.size.w * view.k) / 2;
      view.y = view.size.h * view.k > h ? 10 : (h - view.size.h * view.k) / 2;
      apply();
    },
    // A place in the middle, large enough to read.
    center(x, y, k = Math.max(view.k, READABLE)) {
      const [cx, cy] = middle(), [w, h] = sizeOf(canvas);
      Object.assign(view, { k, x: within(cx - x * k, view.size.w * k, w),
        y: within(cy - y * k, view.size.h * k, h) });
      apply();
    },
    // A part of the drawing, as large as it gets.
    show({ x, y, w, h }) {
      const [width, height] = sizeOf(canvas);
      const k = Math.min(1.5, (width - 40) / w, (height - 40) / h);
      this.center(x + w / 2, y + h / 2, k);
    },
    // A box, wherever it is on the canvas; moves no further than it must.
    keep({ x, y, w, h }) {
      const [width, height] = sizeOf(canvas), edge = 24;
      const inside = (low, high, room) =>
        Math.max(0, edge - low) || Math.min(0, room - edge - high);
      view.x += inside(view.x + x * view.k, view.x + (x + w) * view.k, width);
      view.y += inside(view.y + y * view.k, view.y + (y + h) * view.k, height);
      apply();
    },
  };
}

// Where a side of the drawing begins, so that no part of the canvas is empty for nothing.
export function within(start, size, room, edge = 10) {
  if (size < room) return Math.min(Math.max(start, 0), room - size);
  return Math.min(Math.max(start, room - size - edge), edge);
}

const sizeOf = (canvas) => [canvas.clientWidth || 800, canvas.clientHeight || 500];
