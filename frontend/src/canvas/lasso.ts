/** A piece of a layout that was cut out, to be moved or copied. */
import { type Box, type LabelMap, type Point, union } from './label-map'
import { eachSpan } from './shapes'

export interface Piece {
  /** The outline that was drawn, in pixels of the layout. */
  outline: Point[]
  /** Stretches of pixels: row, first column, and the classes there. */
  spans: { y: number; left: number; values: Uint16Array }[]
}

/** What lies within an outline; null if that is nothing. */
export function lift(map: LabelMap, outline: readonly Point[]): Piece | null {
  const spans: Piece['spans'] = []
  eachSpan(map, outline, (y, left, right) => {
    spans.push({ y, left, values: map.data.slice(y * map.width + left, y * map.width + right) })
  })
  return spans.length ? { outline: [...outline], spans } : null
}

/** Fills the place of a piece with one class. */
export function clear(map: LabelMap, piece: Piece, value: number): Box | null {
  return eachPart(map, piece, 0, 0, (start, values) => map.data.fill(value, start, start + values.length))
}

/** Puts a piece back at an offset in whole pixels; what would lie outside the layout is cut off. */
export function drop(map: LabelMap, piece: Piece, dx: number, dy: number): Box | null {
  return eachPart(map, piece, dx, dy, (start, values) => map.data.set(values, start))
}

/** The class around a piece that is most frequent: what its place is filled with if there is no unknown class. */
export function surrounding(map: LabelMap, piece: Piece): number {
  const counts = new Map<number, number>()
  const count = (x: number, y: number) => {
    if (x < 0 || x >= map.width) return
    const found = map.data[y * map.width + x]
    counts.set(found, (counts.get(found) ?? 0) + 1)
  }
  for (const { y, left, values } of piece.spans) {
    count(left - 1, y)
    count(left + values.length, y)
  }
  return [...counts].sort((a, b) => b[1] - a[1])[0]?.[0] ?? piece.spans[0].values[0]
}

function eachPart(
  map: LabelMap,
  piece: Piece,
  dx: number,
  dy: number,
  visit: (start: number, values: Uint16Array) => void,
): Box | null {
  let box: Box | null = null
  for (const { y, left, values } of piece.spans) {
    const row = y + dy
    const first = Math.max(0, left + dx)
    const last = Math.min(map.width, left + dx + values.length)
    if (row < 0 || row >= map.height || first >= last) continue
    visit(row * map.width + first, values.subarray(first - left - dx, last - left - dx))
    box = union(box, { left: first, top: row, right: last, bottom: row + 1 })
  }
  return box
}
