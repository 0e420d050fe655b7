/** A layout: the index of a class for each pixel, row by row. Colours exist on the screen only. */
export interface LabelMap {
  readonly width: number
  readonly height: number
  readonly data: Uint16Array
}

/** A rectangle of pixels; right and bottom are the first column and row outside. */
export interface Box {
  left: number
  top: number
  right: number
  bottom: number
}

export interface Point {
  x: number
  y: number
}

/** A layout of one class. */
export function blank(width: number, height: number, value: number): LabelMap {
  return { width, height, data: new Uint16Array(width * height).fill(value) }
}

export function copy(map: LabelMap): LabelMap {
  return { ...map, data: map.data.slice() }
}

/** The class at a pixel; null outside. */
export function at(map: LabelMap, x: number, y: number): number | null {
  if (x < 0 || y < 0 || x >= map.width || y >= map.height) return null
  return map.data[y * map.width + x]
}

/** The layout at another size: nearest neighbour, pixel centres aligned, as in Segscape. */
export function resize(map: LabelMap, width: number, height: number): LabelMap {
  if (width === map.width && height === map.height) return map
  const columns = nearest(map.width, width)
  const rows = nearest(map.height, height)
  const data = new Uint16Array(width * height)
  for (let y = 0; y < height; y++) {
    const from = rows[y] * map.width
    for (let x = 0; x < width; x++) data[y * width + x] = map.data[from + columns[x]]
  }
  return { width, height, data }
}

/** For each of `size` places the nearest of `old` ones, summed up as Pillow does, for the same rounding. */
export function nearest(old: number, size: number): Int32Array {
  const step = old / size
  const places = new Int32Array(size)
  for (let place = 0, at = step / 2; place < size; place++, at += step) places[place] = Math.min(old - 1, Math.floor(at))
  return places
}

/** The classes that a layout has. */
export function classesOf(map: LabelMap): Set<number> {
  return new Set(map.data)
}

/** The smallest box around both. */
export function union(a: Box | null, b: Box | null): Box | null {
  if (!a || !b) return a ?? b
  return {
    left: Math.min(a.left, b.left),
    top: Math.min(a.top, b.top),
    right: Math.max(a.right, b.right),
    bottom: Math.max(a.bottom, b.bottom),
  }
}

export function wholeBox(map: LabelMap): Box {
  return { left: 0, top: 0, right: map.width, bottom: map.height }
}
