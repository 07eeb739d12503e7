// A long chain in columns: where the rows of a drawing are cut, and how edges go on.
//
// An edge over a cut runs below its column, up beside it and above the next one, in a lane of its
// own; edges that leave from one place share theirs. Lanes lie within each other: that of the
// rightmost edge is the innermost below and beside the column and the outermost above the next.

export const GAP = 30; // between rows
const LANE = 7, MARGIN = 12, BELOW = 20; // what is told of a box stands below it
const WORTH = 1.2; // times larger it must be drawn for another column
const COLUMNS = 12;

// Rows are {h, left, right}, crossing[r] how many lanes a cut below row r has. Returns the first
// rows of columns: those with which all is drawn largest where width by height is `aspect`.
export function cuts(rows, crossing, aspect) {
  let best = [0], scale = aspect ? scaleOf(rows, crossing, best, aspect) : Infinity;
  for (let count = 2; count <= Math.min(COLUMNS, rows.length); count++) {
    const starts = even(rows, crossing, count);
    const found = starts.length === count ? scaleOf(rows, crossing, starts, aspect) : 0;
    if (found > scale * (best.length === 1 ? WORTH : 1.05)) [best, scale] = [starts, found];
  }
  return best;
}

function scaleOf(rows, crossing, starts, aspect) {
  const { w, h } = columnsOf(rows, crossing, starts);
  return Math.min(1.2, aspect * 500 / w, 500 / h);
}

// Columns of about the same height, cut near that where the fewest edges pass.
function even(rows, crossing, count) {
  const ends = [];
  let total = 0;
  for (const row of rows) ends.push(total += row.h + GAP);
  const starts = [0];
  for (let k = 1; k < count; k++) {
    const goal = (total * k) / count, room = total / count / 4;
    let best = null, least = Infinity;
    for (let r = starts[k - 1]; r < rows.length - 1; r++) {
      const cost = Math.abs(ends[r] - goal) / room + crossing[r] / 2;
      if (cost < least) [best, least] = [r + 1, cost];
    }
    if (best === null) return starts;
    starts.push(best);
  }
  return starts;
}

// Where the columns are: {columns: [{start, end, x, left, right, top, h}], w, h}.
export function columnsOf(rows, crossing, starts) {
  const columns = [];
  let x = 0, height = 0;
  starts.forEach((start, k) => {
    const end = starts[k + 1] ?? rows.length, part = rows.slice(start, end);
    const left = Math.min(...part.map((row) => row.left));
    const right = Math.max(...part.map((row) => row.right));
    const above = k ? crossing[start - 1] : 0, below = end < rows.length ? crossing[end - 1] : 0;
    const top = above ? above * LANE + MARGIN : 0;
    const h = part.reduce((sum, row) => sum + row.h + GAP, -GAP);
    columns.push({ start, end, x, left, right: x + right - left, top, h });
    x += right - left + (below ? below * LANE + 2 * MARGIN : 0);
    height = Math.max(height, top + h + (below ? below * LANE + BELOW : 0));
  });
  return { columns, w: x, h: height };
}

// The corners of lane `i` of `count`, by the places that they leave from, from (x, ...) in one
// column to (to, ...) in the next. right: of the column; below: the end of its last row.
export function corners(i, count, { x, right, below, to }) {
  const outer = (count - i) * LANE;
  const low = below + BELOW + outer - LANE, high = (count - 1 - i) * LANE;
  const side = right + MARGIN + outer - LANE / 2;
  return [[x, low, true], [side, low, true], [side, high, true], [to, high, true]];
}
