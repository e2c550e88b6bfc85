// Where a slice cuts boxes that may be turned.

/** The outline, as points of the plane, of the cut through a box at a place; empty where it is not met. */
export function cutThrough(corners, plane, at) {
  const flat = (corner) => [corner[plane.right], corner[plane.up]];
  if (plane.across === null) return [0, 1, 3, 2].map((k) => flat(corners[k]));
  const points = [];
  for (let a = 0; a < corners.length; a++) {
    for (let axis = 0; axis < 3; axis++) {
      const b = a | (1 << axis);
      if (b === a) continue;
      const [first, second] = [corners[a][plane.across] - at, corners[b][plane.across] - at];
      if (first < 0 === second < 0) continue;
      const share = first / (first - second);
      const [p, q] = [flat(corners[a]), flat(corners[b])];
      points.push([p[0] + share * (q[0] - p[0]), p[1] + share * (q[1] - p[1])]);
    }
  }
  return around(points);
}

/** Points of a convex outline in their order around it. */
function around(points) {
  const middle = [0, 1].map(
    (k) => points.reduce((sum, each) => sum + each[k], 0) / Math.max(1, points.length),
  );
  const angle = (each) => Math.atan2(each[1] - middle[1], each[0] - middle[0]);
  return points.sort((a, b) => angle(a) - angle(b));
}

/** A path in pixels of the slice, whose first row is at the top. */
export function outlinePath(points, height, plane) {
  const pixel = ([x, y]) =>
    `${(x + 0.5).toFixed(2)} ${(plane.downwards ? y + 0.5 : height - y - 0.5).toFixed(2)}`;
  return points.length > 2 ? `M${points.map(pixel).join("L")}Z` : "";
}
