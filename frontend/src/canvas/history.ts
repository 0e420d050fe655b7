/** Undo and redo without limit: only changed rectangles are kept, and these as runs of equal classes. */
import { type Box, type LabelMap, wholeBox } from './label-map'

/** Pairs of a count and a class. */
export type Runs = Uint32Array

interface Patch {
  box: Box
  before: Runs
  after: Runs
}

interface Replacement {
  before: Packed
  after: Packed
}

/** A whole layout as runs. */
export interface Packed {
  width: number
  height: number
  runs: Runs
}

type Change = Patch | Replacement

export class History {
  private done: Change[] = []
  private undone: Change[] = []

  get canUndo(): boolean {
    return this.done.length > 0
  }

  get canRedo(): boolean {
    return this.undone.length > 0
  }

  /** Remembers that `before` became `after`; `box` is all that may differ. Returns whether anything does. */
  record(before: LabelMap, after: LabelMap, box: Box = wholeBox(after)): boolean {
    if (before.width !== after.width || before.height !== after.height) {
      this.push({ before: pack(before), after: pack(after) })
      return true
    }
    const [old, next] = [encode(before, box), encode(after, box)]
    if (old.length === next.length && old.every((value, place) => value === next[place])) return false
    this.push({ box, before: old, after: next })
    return true
  }

  /** The layout before the last change; null if there is none. */
  undo(map: LabelMap): LabelMap | null {
    const change = this.done.pop()
    if (!change) return null
    this.undone.push(change)
    return apply(map, change, 'before')
  }

  redo(map: LabelMap): LabelMap | null {
    const change = this.undone.pop()
    if (!change) return null
    this.done.push(change)
    return apply(map, change, 'after')
  }

  private push(change: Change): void {
    this.done.push(change)
    this.undone = []
  }
}

function apply(map: LabelMap, change: Change, side: 'before' | 'after'): LabelMap {
  if (!('box' in change)) return unpack(change[side])
  const data = map.data.slice()
  decode(change[side], { ...map, data }, change.box)
  return { ...map, data }
}

export function pack(map: LabelMap): Packed {
  return { width: map.width, height: map.height, runs: encode(map, wholeBox(map)) }
}

/** Raises an error if the runs do not fill the layout. */
export function unpack({ width, height, runs }: Packed): LabelMap {
  const map = { width, height, data: new Uint16Array(width * height) }
  decode(runs, map, wholeBox(map))
  return map
}

function encode(map: LabelMap, box: Box): Runs {
  const runs: number[] = []
  let [value, count] = [-1, 0]
  for (let y = box.top; y < box.bottom; y++) {
    for (let place = y * map.width + box.left; place < y * map.width + box.right; place++) {
      if (map.data[place] === value) count++
      else {
        if (count) runs.push(count, value)
        ;[value, count] = [map.data[place], 1]
      }
    }
  }
  if (count) runs.push(count, value)
  return Uint32Array.from(runs)
}

function decode(runs: Runs, map: LabelMap, box: Box): void {
  const width = box.right - box.left
  let place = 0
  for (let i = 0; i < runs.length; i += 2) {
    for (let left = runs[i]; left > 0; ) {
      const [row, column] = [Math.floor(place / width), place % width]
      const length = Math.min(left, width - column)
      const start = (box.top + row) * map.width + box.left + column
      map.data.fill(runs[i + 1], start, start + length)
      place += length
      left -= length
    }
  }
  if (place !== width * (box.bottom - box.top)) throw new Error('the runs do not fill the layout')
}
