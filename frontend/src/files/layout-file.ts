/** A layout from a PNG of class indices or of the colours of the classes, without a server. */
import type { LabelMap } from '../canvas/label-map'
import { colorTable, type LabelSet, packColor } from '../labels'
import { type Pixels, readPng } from './png-read'

/** Raises an Error with one sentence if the file is no layout of this label set. */
export async function readLayout(file: Blob, labels: LabelSet): Promise<LabelMap> {
  const pixels = await readPng(file)
  const map = pixels.channels === 1 ? { ...pixels, data: pixels.values } : fromColors(pixels, labels)
  const wrong = map.data.find((value) => value >= labels.classes.length)
  if (wrong !== undefined) {
    throw new Error(`this file has the value ${wrong}, but the label set ${labels.name} ends at ${labels.classes.length - 1}`)
  }
  return { width: map.width, height: map.height, data: map.data }
}

function fromColors({ width, height, values }: Pixels, labels: LabelSet): LabelMap {
  const table = colorTable(labels)
  const data = new Uint16Array(width * height)
  for (let place = 0; place < data.length; place++) {
    const [red, green, blue] = values.subarray(3 * place, 3 * place + 3)
    const index = table.get(packColor(red, green, blue))
    if (index === undefined) {
      throw new Error(`this file has the colour (${red}, ${green}, ${blue}), which no class of ${labels.name} has`)
    }
    data[place] = index
  }
  return { width, height, data }
}
