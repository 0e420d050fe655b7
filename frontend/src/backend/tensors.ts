/** From a layout to what an exported model reads, and from what it gives to pixels. */
import { type LabelMap, nearest } from '../canvas/label-map'
import type { ModelInfo } from './backend'
import { intraClassPosition, type PositionRule } from './position'

/** `model.json` of the static site: the model as the server would describe it, and what the file reads. */
export interface ExportedModel extends ModelInfo {
  /** Of `label_map`, `instance_map`, `position` and `style`. */
  inputs: string[]
  position_rule: PositionRule | null
  style_shape: number[] | null
}

/** What one picture is made from; the sizes are those that the network works at. */
export interface Inputs {
  width: number
  height: number
  labels: Int32Array
  position: Float32Array | null
  style: Float32Array | null
}

/** The layout at a size that the network takes: resized if that is fixed, else padded by its last row and column. */
export function fitted(model: ExportedModel, layout: LabelMap): Omit<Inputs, 'style'> {
  const up = (side: number) => Math.ceil(side / model.size_multiple) * model.size_multiple
  const [height, width] = model.fixed_size ? model.size : [up(layout.height), up(layout.width)]
  const places = sources(layout, width, height, model.fixed_size)
  const labels = Int32Array.from(places, (place) => layout.data[place])
  if (!model.position_rule || !model.inputs.includes('position')) return { width, height, labels, position: null }
  const encoded = intraClassPosition(layout, model.position_rule)
  const position = new Float32Array(2 * places.length)
  places.forEach((place, target) => {
    position[target] = encoded[place]
    position[places.length + target] = encoded[layout.data.length + place]
  })
  return { width, height, labels, position }
}

/** For each pixel of another size the one of the layout that it repeats. */
function sources(layout: LabelMap, width: number, height: number, scale: boolean): Int32Array {
  const along = (old: number, size: number) =>
    scale ? nearest(old, size) : Int32Array.from({ length: size }, (_, place) => Math.min(place, old - 1))
  const [columns, rows] = [along(layout.width, width), along(layout.height, height)]
  return Int32Array.from({ length: width * height }, (_, place) => {
    return rows[Math.floor(place / width)] * layout.width + columns[place % width]
  })
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
