/** From a layout to what an exported model reads, and from what it gives to pixels. */
import { type LabelMap, resize } from '../canvas/label-map'
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
export function fitted(model: ExportedModel, layout: LabelMap): { map: LabelMap; position: Float32Array | null } {
  const encoded = model.position_rule && model.inputs.includes('position') ? intraClassPosition(layout, model.position_rule) : null
  const multiple = model.size_multiple
  const width = model.fixed_size ? model.size[1] : Math.ceil(layout.width / multiple) * multiple
  const height = model.fixed_size ? model.size[0] : Math.ceil(layout.height / multiple) * multiple
  const map = model.fixed_size ? resize(layout, width, height) : padded(layout, width, height)
  if (!encoded) return { map, position: null }
  const places = model.fixed_size ? resize(numbered(layout), width, height) : padded(numbered(layout), width, height)
  const position = new Float32Array(2 * width * height)
  const half = layout.width * layout.height
  for (let place = 0; place < places.data.length; place++) {
    position[place] = encoded[places.data[place]]
    position[width * height + place] = encoded[half + places.data[place]]
  }
  return { map, position }
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

interface Places {
  width: number
  height: number
  data: Uint32Array
}

/** A map that holds the number of each pixel, which may be above 65535. */
function numbered({ width, height }: LabelMap): LabelMap {
  const places: Places = { width, height, data: Uint32Array.from({ length: width * height }, (_, place) => place) }
  return places as unknown as LabelMap
}

function padded(map: LabelMap, width: number, height: number): LabelMap {
  if (width === map.width && height === map.height) return map
  const data = map.data.constructor === Uint32Array ? new Uint32Array(width * height) : new Uint16Array(width * height)
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      data[y * width + x] = map.data[Math.min(y, map.height - 1) * map.width + Math.min(x, map.width - 1)]
    }
  }
  return { width, height, data: data as Uint16Array }
}
