// Slices of a volume, and the pixels of one: grey, regions over it, outlines.

export const PLANES = {
  3: [
    { name: "axial", across: 2, right: 0, up: 1, letters: ["L", "R", "A", "P"] },
    { name: "coronal", across: 1, right: 0, up: 2, letters: ["L", "R", "S", "I"] },
    { name: "sagittal", across: 0, right: 1, up: 2, letters: ["P", "A", "S", "I"] },
  ],
  2: [{ name: "image", across: null, right: 0, up: 1, downwards: true }],
};

export const COLOURS = [
  [86, 180, 233],
  [230, 159, 0],
  [0, 158, 115],
  [204, 121, 167],
  [240, 228, 66],
  [213, 94, 0],
  [0, 114, 178],
  [200, 200, 200],
];

/** Base64 of compressed bytes, as bytes. */
export async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** How far apart neighbours along every axis lie in the bytes: the last axis is the fastest. */
function strides(shape) {
  const found = new Array(shape.length).fill(1);
  for (let i = shape.length - 2; i >= 0; i--) found[i] = found[i + 1] * shape[i + 1];
  return found;
}

/** The bytes of a slice, row by row from the top. */
export function slice(volume, shape, plane, at) {
  const step = strides(shape);
  const width = shape[plane.right];
  const height = shape[plane.up];
  const first = plane.across === null ? 0 : at * step[plane.across];
  const found = new Uint8Array(width * height);
  for (let row = 0; row < height; row++) {
    let from = first + (plane.downwards ? row : height - 1 - row) * step[plane.up];
    for (let column = 0; column < width; column++) {
      found[row * width + column] = volume[from];
      from += step[plane.right];
    }
  }
  return found;
}

/** Pixels of a slice in grey, black at `low` and white at `high`. */
export function greys(values, low, high) {
  const pixels = new Uint8ClampedArray(values.length * 4);
  const factor = 255 / Math.max(high - low, 1e-6);
  for (let i = 0; i < values.length; i++) {
    const grey = Math.round((values[i] - low) * factor);
    pixels[4 * i] = pixels[4 * i + 1] = pixels[4 * i + 2] = grey;
    pixels[4 * i + 3] = 255;
  }
  return pixels;
}

/** Lay regions over pixels: all of them, or those at an edge. */
export function lay(pixels, regions, width, outlined, opacity) {
  if (opacity === 0) return;
  for (let i = 0; i < regions.length; i++) {
    if (regions[i] === 0 || (outlined && !isEdge(regions, i, width))) continue;
    const colour = COLOURS[(regions[i] - 1) % COLOURS.length];
    for (let c = 0; c < 3; c++) {
      pixels[4 * i + c] = pixels[4 * i + c] * (1 - opacity) + colour[c] * opacity;
    }
  }
}

function isEdge(regions, i, width) {
  const x = i % width;
  const value = regions[i];
  if (x === 0 || x === width - 1 || i < width || i >= regions.length - width) return true;
  return (
    regions[i - 1] !== value ||
    regions[i + 1] !== value ||
    regions[i - width] !== value ||
    regions[i + width] !== value
  );
}
