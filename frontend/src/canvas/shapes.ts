/**
 * Hard-edged drawing: every pixel is either wholly of the class or untouched. Coordinates are in pixels of the layout,
 * (0, 0) is its corner and (0.5, 0.5) the centre of its first pixel. Each function returns what it may have changed.
 */
import type { Box, LabelMap, Point } from './label-map'

export type BrushShape = 'round' | 'square'

export interface Brush {
  size: number
  shape: BrushShape
}

/** A stroke of the brush along a straight line; a dot where both ends are the same. */
export function stroke(map: LabelMap, from: Point, to: Point, brush: Brush, value: number): Box | null {
  const [start, end] = [snapped(from, brush.size), snapped(to, brush.size)]
  return brush.shape === 'round' ? capsule(map, start, end, brush.size / 2, value) : sweep(map, start, end, brush.size / 2, value)
}

/** Odd brushes are centred on a pixel, even ones on a corner, so that a dot is the same everywhere. */
function snapped({ x, y }: Point, size: number): Point {
  return size % 2 ? { x: Math.floor(x) + 0.5, y: Math.floor(y) + 0.5 } : { x: Math.round(x), y: Math.round(y) }
}

/** All pixels whose centre is within `radius` of the line. */
function capsule(map: LabelMap, from: Point, to: Point, radius: number, value: number): Box | null {
  const [dx, dy] = [to.x - from.x, to.y - from.y]
  const length = dx * dx + dy * dy
  const box = clipped(map, around(from, to, radius))
  if (!box) return null
  for (let y = box.top; y < box.bottom; y++) {
    for (let x = box.left; x < box.right; x++) {
      const [px, py] = [x + 0.5 - from.x, y + 0.5 - from.y]
      const along = length ? Math.min(1, Math.max(0, (px * dx + py * dy) / length)) : 0
      if ((px - along * dx) ** 2 + (py - along * dy) ** 2 <= radius * radius) map.data[y * map.width + x] = value
    }
  }
  return box
}

/** What an upright square covers on its way along the line. */
function sweep(map: LabelMap, from: Point, to: Point, half: number, value: number): Box | null {
  const [dx, dy] = [to.x - from.x, to.y - from.y]
  const box = clipped(map, around(from, to, half))
  if (!box) return null
  for (let y = box.top; y < box.bottom; y++) {
    const centre = y + 0.5 - from.y
    const [enter, leave] = dy ? [(centre - half) / dy, (centre + half) / dy] : [0, 1]
    const first = Math.max(0, Math.min(enter, leave))
    const last = Math.min(1, Math.max(enter, leave))
    if (first > last) continue
    const [a, b] = [from.x + first * dx, from.x + last * dx]
    span(map, y, Math.min(a, b) - half, Math.max(a, b) + half, value)
  }
  return box
}

/** The rectangle between two corners, the pixels under both included. */
export function rectangle(map: LabelMap, from: Point, to: Point, value: number): Box | null {
  const box = clipped(map, {
    left: Math.floor(Math.min(from.x, to.x)),
    top: Math.floor(Math.min(from.y, to.y)),
    right: Math.floor(Math.max(from.x, to.x)) + 1,
    bottom: Math.floor(Math.max(from.y, to.y)) + 1,
  })
  if (!box) return null
  for (let y = box.top; y < box.bottom; y++) map.data.fill(value, y * map.width + box.left, y * map.width + box.right)
  return box
}

/** All pixels whose centre is inside (even-odd rule). */
export function polygon(map: LabelMap, corners: readonly Point[], value: number): Box | null {
  return eachSpan(map, corners, (y, left, right) => map.data.fill(value, y * map.width + left, y * map.width + right))
}

/** Calls `visit` with the stretches of pixels in each row of a polygon. */
export function eachSpan(
  map: LabelMap,
  corners: readonly Point[],
  visit: (y: number, left: number, right: number) => void,
): Box | null {
  if (corners.length < 3) return null
  const [xs, ys] = [corners.map(({ x }) => x), corners.map(({ y }) => y)]
  const least = { x: Math.min(...xs), y: Math.min(...ys) }
  const box = clipped(map, around(least, { x: Math.max(...xs), y: Math.max(...ys) }, 0))
  if (!box) return null
  for (let y = box.top; y < box.bottom; y++) {
    const crossings = crossed(corners, y + 0.5)
    for (let i = 0; i + 1 < crossings.length; i += 2) {
      const left = Math.max(0, Math.ceil(crossings[i] - 0.5))
      const right = Math.min(map.width, Math.ceil(crossings[i + 1] - 0.5))
      if (left < right) visit(y, left, right)
    }
  }
  return box
}

/** Where the sides of a polygon cross a height, from left to right. */
function crossed(corners: readonly Point[], y: number): number[] {
  const found: number[] = []
  corners.forEach((a, index) => {
    const b = corners[(index + 1) % corners.length]
    if (a.y <= y !== b.y <= y) found.push(a.x + ((y - a.y) / (b.y - a.y)) * (b.x - a.x))
  })
  return found.sort((a, b) => a - b)
}

/** The pixels of a row whose centre is at `from` or right of it, and left of `to`. */
function span(map: LabelMap, y: number, from: number, to: number, value: number): void {
  const left = Math.max(0, Math.ceil(from - 0.5))
  const right = Math.min(map.width, Math.ceil(to - 0.5))
  if (left < right) map.data.fill(value, y * map.width + left, y * map.width + right)
}

function around(a: Point, b: Point, margin: number): Box {
  return {
    left: Math.floor(Math.min(a.x, b.x) - margin),
    top: Math.floor(Math.min(a.y, b.y) - margin),
    right: Math.ceil(Math.max(a.x, b.x) + margin),
    bottom: Math.ceil(Math.max(a.y, b.y) + margin),
  }
}

function clipped(map: LabelMap, box: Box): Box | null {
  const inside = {
    left: Math.max(0, box.left),
    top: Math.max(0, box.top),
    right: Math.min(map.width, box.right),
    bottom: Math.min(map.height, box.bottom),
  }
  return inside.left < inside.right && inside.top < inside.bottom ? inside : null
}
