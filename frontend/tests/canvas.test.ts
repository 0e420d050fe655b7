import { describe, expect, it } from 'vitest'
import { floodFill, replaceClass } from '../src/canvas/fill'
import { History, pack, unpack } from '../src/canvas/history'
import { blank, copy, type LabelMap, nearest, resize } from '../src/canvas/label-map'
import { clear, drop, lift, surrounding } from '../src/canvas/lasso'
import { polygon, rectangle, stroke } from '../src/canvas/shapes'

/** A layout as rows of digits. */
function rows({ width, height, data }: LabelMap): string[] {
  return Array.from({ length: height }, (_, y) => [...data.subarray(y * width, (y + 1) * width)].join(''))
}

function layout(...lines: string[]): LabelMap {
  return { width: lines[0].length, height: lines.length, data: Uint16Array.from(lines.join(''), Number) }
}

describe('brush', () => {
  it('of one pixel paints the pixel under it and an unbroken diagonal', () => {
    const map = blank(4, 4, 0)
    stroke(map, { x: 0.9, y: 0.1 }, { x: 0.9, y: 0.1 }, { size: 1, shape: 'round' }, 1)
    expect(rows(map)).toEqual(['1000', '0000', '0000', '0000'])
    stroke(map, { x: 0.5, y: 0.5 }, { x: 3.5, y: 3.5 }, { size: 1, shape: 'round' }, 1)
    expect(rows(map)).toEqual(['1000', '0100', '0010', '0001'])
  })

  it('is as large as it says, round or square, and cut at the border', () => {
    const round = blank(7, 7, 0)
    stroke(round, { x: 3.5, y: 3.5 }, { x: 3.5, y: 3.5 }, { size: 5, shape: 'round' }, 1)
    expect(rows(round).slice(1, 6)).toEqual(['0011100', '0111110', '0111110', '0111110', '0011100'])
    const square = blank(6, 4, 0)
    stroke(square, { x: 0, y: 2 }, { x: 0, y: 2 }, { size: 4, shape: 'square' }, 2)
    expect(rows(square)).toEqual(['220000', '220000', '220000', '220000'])
  })

  it.each(['round', 'square'] as const)('%s: a stroke is the union of its dots', (shape) => {
    for (const [from, to] of [[{ x: 3.5, y: 4.5 }, { x: 20.5, y: 9.5 }], [{ x: 9, y: 20 }, { x: 4, y: 3 }]]) {
      const size = from.x % 1 ? 5 : 6
      const [line, dots] = [blank(26, 26, 0), blank(26, 26, 0)]
      stroke(line, from, to, { size, shape }, 1)
      const radius = size / 2
      for (let y = 0; y < 26; y++) {
        for (let x = 0; x < 26; x++) {
          for (let t = 0; t <= 1; t += 1 / 4096) {
            const [dx, dy] = [x + 0.5 - from.x - t * (to.x - from.x), y + 0.5 - from.y - t * (to.y - from.y)]
            const distance = shape === 'round' ? Math.hypot(dx, dy) : Math.max(Math.abs(dx), Math.abs(dy))
            if (distance < radius - 1e-3) dots.data[y * 26 + x] = 1
          }
        }
      }
      const missing = dots.data.filter((value, place) => value && !line.data[place]).length
      const extra = line.data.filter((value, place) => value && !dots.data[place]).length
      expect(missing).toBe(0)
      expect(extra).toBeLessThanOrEqual(6) // pixels whose centre is just on the rim
    }
  })
})

describe('shapes', () => {
  it('a rectangle has both its corners, whichever comes first', () => {
    const map = blank(5, 4, 0)
    rectangle(map, { x: 3.2, y: 2.9 }, { x: 1.7, y: 1.1 }, 7)
    expect(rows(map)).toEqual(['00000', '07770', '07770', '00000'])
    expect(rectangle(map, { x: 9, y: 9 }, { x: 12, y: 12 }, 7)).toBeNull()
  })

  it('a polygon has the pixels whose centres are inside', () => {
    const map = blank(6, 5, 0)
    polygon(map, [{ x: 1, y: 0 }, { x: 5, y: 0 }, { x: 5, y: 4 }, { x: 1, y: 4 }], 1)
    expect(rows(map)).toEqual(['011110', '011110', '011110', '011110', '000000'])
    const star = blank(6, 6, 0)
    polygon(star, [{ x: 0, y: 0 }, { x: 6, y: 0 }, { x: 0, y: 6 }], 1)
    expect(star.data.reduce((sum, value) => sum + value, 0)).toBe(15) // centres above the diagonal
  })
})

describe('fill', () => {
  const before = layout('00100', '01100', '00011', '00010')

  it('stays within the region, over four neighbours', () => {
    const map = copy(before)
    expect(floodFill(map, 0, 0, 5)).toEqual({ left: 0, top: 0, right: 3, bottom: 4 })
    expect(rows(map)).toEqual(['55100', '51100', '55511', '55510'])
  })

  it('changes nothing where the class is there already, or outside', () => {
    const map = copy(before)
    expect(floodFill(map, 2, 0, 1)).toBeNull()
    expect(floodFill(map, -1, 0, 1)).toBeNull()
    expect(map).toEqual(before)
  })

  it('everywhere replaces all of a class', () => {
    const map = copy(before)
    replaceClass(map, 4, 2, 3)
    expect(rows(map)).toEqual(['00300', '03300', '00033', '00030'])
  })

  it('fills what a search from the first pixel reaches', () => {
    let seed = 7
    const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647
    const map = blank(40, 30, 0)
    map.data.forEach((_, place) => (map.data[place] = random() < 0.4 ? 1 : 0))
    map.data[0] = 0
    const reached = new Set([0])
    for (const place of reached) {
      const [x, y] = [place % 40, Math.floor(place / 40)]
      for (const [u, v] of [[x - 1, y], [x + 1, y], [x, y - 1], [x, y + 1]]) {
        if (u >= 0 && v >= 0 && u < 40 && v < 30 && map.data[v * 40 + u] === 0) reached.add(v * 40 + u)
      }
    }
    floodFill(map, 0, 0, 9)
    expect(new Set([...map.data.keys()].filter((place) => map.data[place] === 9))).toEqual(reached)
  })
})

describe('lasso', () => {
  it('moves a piece and fills its place', () => {
    const map = layout('0000', '0120', '0340', '0000')
    const piece = lift(map, [{ x: 1, y: 1 }, { x: 3, y: 1 }, { x: 3, y: 3 }, { x: 1, y: 3 }])!
    expect(surrounding(map, piece)).toBe(0)
    clear(map, piece, 9)
    drop(map, piece, 2, -1)
    expect(rows(map)).toEqual(['0001', '0993', '0990', '0000'])
    expect(lift(map, [{ x: 0, y: 0 }, { x: 1, y: 0 }])).toBeNull()
  })
})

describe('history', () => {
  it('goes back and forth over many changes, also of the size', () => {
    const history = new History()
    const states = [blank(30, 20, 0)]
    for (let step = 1; step < 60; step++) {
      const last = states.at(-1)!
      const next = step === 30 ? resize(last, 60, 40) : copy(last)
      const box = rectangle(next, { x: step % 17, y: step % 5 }, { x: (step % 17) + 7, y: (step % 5) + 3 }, step) ?? undefined
      if (history.record(last, next, step === 30 ? undefined : box)) states.push(next)
    }
    let map = states.at(-1)!
    for (const state of states.slice(0, -1).reverse()) {
      map = history.undo(map)!
      expect(map).toEqual(state)
    }
    expect(history.canUndo).toBe(false)
    expect(history.undo(map)).toBeNull()
    for (const state of states.slice(1)) {
      map = history.redo(map)!
      expect(map).toEqual(state)
    }
  })

  it('does not remember what changed nothing, and forgets what was undone', () => {
    const history = new History()
    const empty = blank(3, 3, 0)
    expect(history.record(empty, copy(empty))).toBe(false)
    const painted = copy(empty)
    painted.data[4] = 1
    history.record(empty, painted)
    history.undo(painted)
    history.record(empty, painted)
    expect(history.canRedo).toBe(false)
  })

  it('refuses damaged layouts', () => {
    const packed = pack(blank(4, 4, 3))
    expect(unpack(packed)).toEqual(blank(4, 4, 3))
    expect(() => unpack({ ...packed, height: 5 })).toThrow('do not fill')
  })
})

it('nearest reads what Pillow reads', () => {
  // PIL.Image.fromarray(np.arange(old)[None]).resize((new, 1), NEAREST)
  expect([...nearest(5, 3)]).toEqual([0, 2, 4])
  expect([...nearest(3, 7)]).toEqual([0, 0, 1, 1, 1, 2, 2])
  expect([...nearest(480, 256)].slice(-4)).toEqual([473, 475, 477, 479])
})
