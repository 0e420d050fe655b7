/** From a layout to what an exported model reads, and from what it gives to pixels. */
import { type LabelMap, nearest } from '../canvas/label-map'
import type { Size } from '../canvas/viewport'
import type { ModelInfo } from './backend'
import { intraClassPosition, type PositionRule } from './position'

/** `model.json` of the static site: the model as the server would describe it, and what the file reads. */
export interface ExportedModel extends ModelInfo {
  /** Of `label_map`, `instance_map`, `position` and `style`. */
  inputs: string[]
  position_rule: PositionRule | null
  /** Of one picture's style; the sides of a map are those of the picture (null). */
  style_shape: (number | null)[] | null
  /** How many styles of classes are stored, first the neutral one; 0 where styles are drawn here. */
  stored_styles: number
}

/** What one picture is made from; the sizes are those that the network works at. */
export interface Inputs {
  width: number
  height: number
  labels: Int32Array
  position: Float32Array | null
  style: { values: Float32Array; shape: number[] } | null
}

/**
 * The layout at a size (height, width), and then at one that the network takes: resized if that is fixed, else padded
 * by its last row and column. The encoding is that of the objects as they are painted, as in training.
 */
export function fitted(model: ExportedModel, layout: LabelMap, [height, width]: [number, number]): Omit<Inputs, 'style'> {
  const up = (side: number) => Math.ceil(side / model.size_multiple) * model.size_multiple
  const [rows, columns] = model.fixed_size ? model.size : [up(height), up(width)]
  const sized = sources(layout, { width, height }, true)
  const places = sources({ width, height }, { width: columns, height: rows }, model.fixed_size).map((place) => sized[place])
  const common = { width: columns, height: rows, labels: Int32Array.from(places, (place) => layout.data[place]) }
  if (!model.position_rule || !model.inputs.includes('position')) return { ...common, position: null }
  const encoded = intraClassPosition(layout, model.position_rule)
  const position = new Float32Array(2 * places.length)
  places.forEach((place, target) => {
    position[target] = encoded[place]
    position[places.length + target] = encoded[layout.data.length + place]
  })
  return { ...common, position }
}

/** For each pixel of another size the one that it repeats: the nearest, or the same and at the end the last. */
function sources(from: Size, to: Size, scale: boolean): Int32Array {
  const along = (old: number, size: number) =>
    scale ? nearest(old, size) : Int32Array.from({ length: size }, (_, place) => Math.min(place, old - 1))
  const [columns, rows] = [along(from.width, to.width), along(from.height, to.height)]
  return Int32Array.from({ length: to.width * to.height }, (_, place) => {
    return rows[Math.floor(place / to.width)] * from.width + columns[place % to.width]
  })
}

/** The style of a sample: drawn from N(0, 1), or one of those stored, with the neutral codes where a class is absent. */
export function styleInput(
  model: ExportedModel,
  stored: Float32Array | null,
  { width, height, labels }: Omit<Inputs, 'style'>,
  seed: number,
  sample: number,
): Inputs['style'] {
  if (!model.style_shape) return null
  if (!stored) {
    const shape = model.style_shape.map(Number)
    const length = shape.reduce((product, side) => product * side, 1)
    return { values: seededNormal(length * (sample + 1), seed).slice(length * sample), shape }
  }
  const one = stored.length / model.stored_styles
  const from = one * chosenStyle(model, seed + sample)
  if (model.style?.kind === 'map') {
    const depth = Number(model.style_shape[0])
    const values = new Float32Array(depth * labels.length)
    for (let channel = 0; channel < depth; channel++) {
      labels.forEach((label, place) => (values[channel * labels.length + place] = stored[from + label * depth + channel]))
    }
    return { values, shape: [depth, height, width] }
  }
  const depth = Number(model.style_shape[1])
  const values = stored.slice(0, one)
  for (const label of new Set(labels)) {
    values.set(stored.subarray(from + label * depth, from + (label + 1) * depth), label * depth)
  }
  return { values, shape: [one / depth, depth] } // SEAN has one more than classes, for the edges of objects
}

/** Which of the stored styles a seed takes: the neutral one where there is no other. */
export function chosenStyle({ stored_styles: count }: ExportedModel, seed: number): number {
  return count > 1 ? 1 + (seed % (count - 1)) : 0
}

/** Uint8 RGBA of an image float32 `[3, height, width]` in [-1, 1], rounded as Segscape does, cut to a size. */
export function toPixels(image: Float32Array, from: { width: number; height: number }, width: number, height: number) {
  const pixels = new Uint8ClampedArray(4 * width * height)
  const plane = from.width * from.height
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [source, target] = [y * from.width + x, 4 * (y * width + x)]
      for (let channel = 0; channel < 3; channel++) {
        pixels[target + channel] = (image[channel * plane + source] + 1) * 127.5 // rounded half to even, clamped
      }
      pixels[target + 3] = 255
    }
  }
  return pixels
}

/** Numbers of N(0, 1), the same for the same seed (mulberry32, Box and Muller); not those of PyTorch. */
export function seededNormal(count: number, seed: number): Float32Array {
  let state = seed >>> 0
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let value = Math.imul(state ^ (state >>> 15), state | 1)
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61)
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32
  }
  return Float32Array.from({ length: count }, () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()))
}
