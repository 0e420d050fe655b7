import { describe, expect, it } from 'vitest'
import { staticPage } from '../build/assets.ts'
import type { ModelInfo } from '../src/backend/backend'
import { intraClassPosition } from '../src/backend/position'
import { type ExportedModel, fitted, seededNormal, styleInput, toPixels } from '../src/backend/tensors'
import { blank, type LabelMap } from '../src/canvas/label-map'
import { fit, pan, toLayout, toScreen, zoom } from '../src/canvas/viewport'
import { type LabelSet, searchClasses } from '../src/labels'
import { choose, resolutions } from '../src/resolution'
import { packLayout, restoredLayout } from '../src/storage'

function labelSet(...names: string[]): LabelSet {
  const classes = names.map((name, index) => ({ index, name, color: [index, 0, 0] as [number, number, number], thing: false }))
  return { name: 'own', unknown: null, classes }
}

const model: ModelInfo = {
  id: 'a',
  name: 'A',
  size: [192, 256],
  size_multiple: 32,
  fixed_size: false,
  use_instances: false,
  style: null,
  noise: false,
  labels: labelSet('sky', 'road'),
  unseen: [],
  segmenter: false,
}
const exported: ExportedModel = { ...model, size_multiple: 2, inputs: ['label_map', 'position'], position_rule: 'official', style_shape: null, stored_styles: 0 }
const small: LabelMap = { width: 3, height: 3, data: Uint16Array.from([0, 0, 1, 2, 1, 1, 2, 2, 0]) }

describe('positional encoding', () => {
  // of segscape.position.intra_class_position, rounded to 4 digits
  it.each([
    ['official', [0, 0, -1, -1, 0.5, 0.5, 0.5, 0.5, 0, 0, 0, 0.5, -0.5, -1, 0.5, -0.5, 1, 0]],
    ['official-all', [0, 0, -1, -1, 0.5, 0.5, 0.5, 0.5, 0, -1, 1, 0.5, -0.5, -1, 0.5, -0.5, 1, 0]],
    ['paper', [-1, 1, 1, -0.5, -2, 1, -0.5, 1, 0, 0, 0, -2, -2, 1, 1, 1, 1, 0]],
  ] as const)('%s', (rule, expected) => {
    const found = intraClassPosition(small, rule)
    expected.forEach((value, place) => expect(found[place]).toBeCloseTo(value, 3))
  })
})

describe('tensors', () => {
  it('pads by the last row and column, the encoding too', () => {
    const { width, height, labels, position } = fitted(exported, small, [3, 3])
    expect([width, height]).toEqual([4, 4])
    expect([...labels]).toEqual([0, 0, 1, 1, 2, 1, 1, 1, 2, 2, 0, 0, 2, 2, 0, 0])
    expect(position![6]).toBe(position![7])
    expect(position![8]).toBe(position![12])
  })

  it('resizes where the size is fixed', () => {
    const { width, height, labels } = fitted({ ...exported, fixed_size: true, size: [1, 6] }, small, [3, 3])
    expect([width, height]).toEqual([6, 1])
    expect([...labels]).toEqual([2, 2, 1, 1, 1, 1])
  })

  it('encodes the objects before they are resized', () => {
    const { labels, position } = fitted(exported, small, [2, 2])
    const encoded = intraClassPosition(small, 'official')
    expect([...labels]).toEqual([0, 1, 2, 0])
    expect([...position!]).toEqual([...encoded].filter((_, place) => [0, 2, 6, 8].includes(place % 9)))
  })

  it('rounds and cuts pictures', () => {
    const image = Float32Array.from([-1, 1, 0, 9, -1, 1, 0, 9, -2, 2, 0, 9])
    expect([...toPixels(image, { width: 2, height: 2 }, 2, 1)]).toEqual([0, 0, 0, 255, 255, 255, 255, 255])
  })

  it('draws normal numbers that a seed repeats', () => {
    const numbers = seededNormal(20_000, 5)
    const mean = numbers.reduce((sum, value) => sum + value, 0) / numbers.length
    const variance = numbers.reduce((sum, value) => sum + (value - mean) ** 2, 0) / numbers.length
    expect(mean).toBeCloseTo(0, 1)
    expect(variance).toBeCloseTo(1, 1)
    expect(seededNormal(3, 5)).toEqual(numbers.slice(0, 3))
    expect(seededNormal(3, 6)).not.toEqual(numbers.slice(0, 3))
  })
})

describe('styles', () => {
  const where = { width: 2, height: 1, labels: Int32Array.from([1, 1]), position: null }
  const codes: ExportedModel = { ...exported, style: { kind: 'codes', random: true }, style_shape: [2, 2], stored_styles: 3 }
  const stored = Float32Array.from([0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23])

  it('that are drawn: one sample after another from one seed', () => {
    const latent: ExportedModel = { ...exported, style_shape: [3], style: { kind: 'latent', random: true } }
    const numbers = seededNormal(6, 5)
    expect(styleInput(latent, null, where, 5, 0)).toEqual({ values: numbers.slice(0, 3), shape: [3] })
    expect(styleInput(latent, null, where, 5, 1)).toEqual({ values: numbers.slice(3), shape: [3] })
    expect(styleInput(exported, null, where, 5, 1)).toBeNull()
  })

  it('that are stored: the seed chooses one; absent classes keep the neutral code', () => {
    expect(styleInput(codes, stored, where, 0, 0)).toEqual({ values: Float32Array.from([0, 1, 12, 13]), shape: [2, 2] })
    expect(styleInput(codes, stored, where, 2, 1)).toEqual({ values: Float32Array.from([0, 1, 22, 23]), shape: [2, 2] })
    const neutral = { ...codes, stored_styles: 1 }
    expect([...styleInput(neutral, stored.slice(0, 4), where, 7, 0)!.values]).toEqual([0, 1, 2, 3])
  })

  it('of a map lie where their class is', () => {
    const map: ExportedModel = { ...codes, style: { kind: 'map', random: true }, style_shape: [2, null, null] }
    const both = { ...where, labels: Int32Array.from([1, 0]) }
    expect(styleInput(map, stored, both, 0, 0)).toEqual({ values: Float32Array.from([12, 10, 13, 11]), shape: [2, 1, 2] })
  })
})

describe('resolution', () => {
  it('offers the size of training in the shape of the layout', () => {
    const found = resolutions(model, { width: 480, height: 360 }, 1)
    expect(found.map(({ size }) => size)).toEqual([[192, 256], [360, 480], [384, 512]])
    expect(choose(found, 'double').text).toBe('Twice as trained · 512 × 384')
  })

  it('keeps the shape where no multiple is near', () => {
    const [own] = resolutions({ ...model, size: [32, 32] }, { width: 480, height: 360 }, 1)
    expect(own.size).toEqual([28, 37])
  })

  it('says each size once, and none that is too large for the samples', () => {
    expect(resolutions(model, { width: 256, height: 192 }, 1).map(({ name }) => name)).toEqual(['model', 'double'])
    const many = resolutions(model, { width: 2048, height: 1024 }, 8)
    expect(many.map(({ name }) => name)).toEqual(['model', 'double'])
    expect(choose(many, 'layout').name).toBe('model')
  })
})

describe('viewport', () => {
  const [layout, area] = [{ width: 200, height: 100 }, { width: 416, height: 316 }]

  it('fits, and goes to the screen and back', () => {
    const view = fit(layout, area)
    expect(view).toEqual({ scale: 2, left: 8, top: 58 })
    expect(toLayout(view, toScreen(view, { x: 12.5, y: 7 }))).toEqual({ x: 12.5, y: 7 })
  })

  it('zooms about the pointer and keeps some of the layout in sight', () => {
    const view = fit(layout, area)
    const place = toLayout(view, { x: 100, y: 90 })
    const near = zoom(view, 3, { x: 100, y: 90 }, layout, area)
    expect(toLayout(near, { x: 100, y: 90 }).x).toBeCloseTo(place.x)
    expect(pan(view, 9999, -9999, layout, area)).toEqual({ scale: 2, left: 368, top: -152 })
    expect(zoom(view, 1e9, { x: 0, y: 0 }, layout, area).scale).toBe(64)
  })
})

it('finds classes by their words', () => {
  const labels = labelSet('wall-brick', 'brick', 'wall', 'red brick wall')
  expect(searchClasses(labels, 'brick').map(({ index }) => index)).toEqual([1, 0, 3])
  expect(searchClasses(labels, 'WALL brick').map(({ index }) => index)).toEqual([0, 3])
  expect(searchClasses(labels, ' ')).toHaveLength(4)
})

it('a layout goes to another label set by the names', () => {
  const map = { ...blank(2, 1, 0), data: Uint16Array.from([0, 1]) }
  const packed = packLayout(map, labelSet('sky', 'road'))
  expect([...restoredLayout(packed, labelSet('road', 'tree', 'sky'))!.data]).toEqual([2, 0])
  expect(restoredLayout(packed, labelSet('road', 'tree'))).toBeNull()
  expect([...restoredLayout(packed, { ...labelSet('road', 'none'), unknown: 1 })!.data]).toEqual([1, 0])
})

it('the page of the static site says what it is and brings its policy', () => {
  const page = staticPage('<html data-backend="server"><meta charset="utf-8"></html>')
  expect(page).toContain('data-backend="browser"')
  expect(page).toContain("default-src 'none'")
  expect(() => staticPage('<html></html>')).toThrow('data-backend')
})
