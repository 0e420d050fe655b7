import { at, type Box, type LabelMap, union, wholeBox } from './label-map'

/** Gives the connected region (4 neighbours) of one class at a pixel another class. */
export function floodFill(map: LabelMap, x: number, y: number, value: number): Box | null {
  const old = at(map, x, y)
  if (old === null || old === value) return null
  const { width, height, data } = map
  const pending = [y * width + x]
  let box: Box | null = null
  while (pending.length) {
    const place = pending.pop()!
    if (data[place] !== old) continue
    const row = Math.floor(place / width)
    let left = place
    let right = place + 1
    while (left > row * width && data[left - 1] === old) left--
    while (right < (row + 1) * width && data[right] === old) right++
    data.fill(value, left, right)
    box = union(box, { left: left - row * width, top: row, right: right - row * width, bottom: row + 1 })
    if (row > 0) pushStarts(data, pending, left - width, right - width, old)
    if (row + 1 < height) pushStarts(data, pending, left + width, right + width, old)
  }
  return box
}

/** Gives all pixels of the class at a pixel another class. */
export function replaceClass(map: LabelMap, x: number, y: number, value: number): Box | null {
  const old = at(map, x, y)
  if (old === null || old === value) return null
  map.data.forEach((found, place) => {
    if (found === old) map.data[place] = value
  })
  return wholeBox(map)
}

/** The first pixel of each stretch of a class between two places of a row. */
function pushStarts(data: Uint16Array, pending: number[], from: number, to: number, value: number): void {
  for (let place = from; place < to; place++) {
    if (data[place] === value && (place === from || data[place - 1] !== value)) pending.push(place)
  }
}
