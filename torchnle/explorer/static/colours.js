// Maps become pictures: one scale, bicubic enlargement as the library's (a = -0.75, corners not aligned).

// Nine colours of matplotlib's inferno.
const STOPS = [
  [0, 0, 4], [33, 12, 74], [87, 16, 110], [138, 34, 106], [188, 55, 84],
  [227, 89, 51], [249, 140, 10], [249, 201, 50], [252, 255, 164],
];

/** The colour of a share between 0 and 1. */
export function colour(share) {
  const position = Math.min(Math.max(share, 0), 1) * (STOPS.length - 1);
  const at = Math.min(Math.floor(position), STOPS.length - 2);
  return STOPS[at].map((value, i) => value + (position - at) * (STOPS[at + 1][i] - value));
}

/** The weights of the four neighbours of each of `size` places on a line of `count` values. */
function cubic(count, size) {
  const a = -0.75;
  const near = (t) => ((a + 2) * t - (a + 3)) * t * t + 1;
  const far = (t) => ((a * t - 5 * a) * t + 8 * a) * t - 4 * a;
  return Array.from({ length: size }, (_, i) => {
    const x = ((i + 0.5) * count) / size - 0.5;
    const left = Math.floor(x);
    const t = x - left;
    const clamp = (k) => Math.min(Math.max(left + k, 0), count - 1);
    return [[-1, 0, 1, 2].map(clamp), [far(t + 1), near(t), near(1 - t), far(2 - t)]];
  });
}

/** Enlarge values (rows x columns) to size x size. */
export function enlarge(values, [rows, columns], size) {
  const across = cubic(columns, size);
  const wide = new Float64Array(rows * size);
  for (let r = 0; r < rows; r++) {
    across.forEach(([at, w], x) => {
      wide[r * size + x] = at.reduce((sum, c, k) => sum + w[k] * values[r * columns + c], 0);
    });
  }
  const tall = new Float64Array(size * size);
  cubic(rows, size).forEach(([at, w], y) => {
    for (let x = 0; x < size; x++) {
      tall[y * size + x] = at.reduce((sum, r, k) => sum + w[k] * wide[r * size + x], 0);
    }
  });
  return tall;
}

/** Paint a map on a canvas, on the scale from low to high. */
export function paint(canvas, values, grid, low, high, size) {
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(size, size);
  const range = high > low ? high - low : 1;
  enlarge(values, grid, size).forEach((value, i) => {
    picture.data.set([...colour((value - low) / range), 255], 4 * i);
  });
  context.putImageData(picture, 0, 0);
}

/** Paint the scale itself. */
export function paintScale(canvas) {
  const context = canvas.getContext("2d");
  for (let x = 0; x < canvas.width; x++) {
    context.fillStyle = `rgb(${colour(x / (canvas.width - 1)).map(Math.round)})`;
    context.fillRect(x, 0, 1, canvas.height);
  }
}
