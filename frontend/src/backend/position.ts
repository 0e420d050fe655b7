/** The intra-class positional encoding of CLADE-ICPE, as `segscape.position` computes it. */
import type { LabelMap } from '../canvas/label-map'

export type PositionRule = 'official' | 'official-all' | 'paper'

interface Extent {
  pixels: number
  sum: number
  least: number
  largest: number
}

/** Offsets of each pixel from the centre of its object (8-connected, one class): two planes, `2 * height * width`. */
export function intraClassPosition(map: LabelMap, rule: PositionRule): Float32Array {
  const { width, height, data } = map
  const owner = objects(map)
  const rows = new Map<number, Extent>()
  const columns = new Map<number, Extent>()
  for (let place = 0; place < data.length; place++) {
    extend(rows, owner[place], Math.floor(place / width))
    extend(columns, owner[place], place % width)
  }
  const out = new Float32Array(2 * width * height)
  const [vertical, horizontal] = rule === 'paper' ? [data.length, 0] : [0, data.length]
  for (let place = 0; place < data.length; place++) {
    if (rule === 'official' && data[place] === 0) continue
    out[vertical + place] = encoded(rows.get(owner[place])!, Math.floor(place / width), rule)
    out[horizontal + place] = encoded(columns.get(owner[place])!, place % width, rule)
  }
  return out
}

function encoded({ pixels, sum, least, largest }: Extent, value: number, rule: PositionRule): number {
  const centre = sum / pixels
  if (rule === 'paper') return (value - centre) / (largest > centre ? largest - centre : 1)
  return (value - centre) / (Math.max(largest - centre, centre - least) + 1e-5)
}

function extend(extents: Map<number, Extent>, owner: number, value: number): void {
  const found = extents.get(owner)
  if (!found) {
    extents.set(owner, { pixels: 1, sum: value, least: value, largest: value })
    return
  }
  found.pixels++
  found.sum += value
  if (value < found.least) found.least = value
  if (value > found.largest) found.largest = value
}

/** For each pixel a number that all pixels of its object share: the union of neighbours, to the left and above. */
function objects({ width, height, data }: LabelMap): Int32Array {
  const parent = Int32Array.from(data, (_, place) => place)
  const root = (place: number) => {
    while (parent[place] !== place) place = parent[place] = parent[parent[place]]
    return place
  }
  const join = (a: number, b: number) => {
    const [first, second] = [root(a), root(b)]
    if (first < second) parent[second] = first
    else parent[first] = second
  }
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const place = y * width + x
      const value = data[place]
      if (x && data[place - 1] === value) join(place, place - 1)
      if (!y) continue
      for (let other = Math.max(0, x - 1); other <= Math.min(width - 1, x + 1); other++) {
        const above = place - width - x + other
        if (data[above] === value) join(place, above)
      }
    }
  }
  return parent.map((_, place) => root(place))
}
