/** Layouts as PNG: the browser's own encoder knows colours only, and a layout must come back index by index. */
import type { LabelMap } from '../canvas/label-map'
import type { LabelSet } from '../labels'
import { crc32 } from './crc'

export const SIGNATURE = Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10)

/** Grey, the class indices being the grey values: 8 bits, or 16 where an index is above 255. */
export async function greyPng(map: LabelMap): Promise<Blob> {
  const wide = map.data.some((value) => value > 255)
  return png(map, wide ? 16 : 8, 0, [])
}

/** With the colours of the classes, which shows the layout in any viewer; grey where there are more than 256 classes. */
export async function palettePng(map: LabelMap, labels: LabelSet): Promise<Blob> {
  if (labels.classes.length > 256) return greyPng(map)
  const colors = Uint8Array.from(labels.classes.flatMap(({ color }) => color))
  return png(map, 8, 3, [chunk('PLTE', colors)])
}

async function png(map: LabelMap, depth: 8 | 16, kind: number, more: Uint8Array<ArrayBuffer>[]): Promise<Blob> {
  const header = new Uint8Array(13)
  const view = new DataView(header.buffer)
  view.setUint32(0, map.width)
  view.setUint32(4, map.height)
  header[8] = depth
  header[9] = kind
  const data = await through(new CompressionStream('deflate'), rows(map, depth))
  return new Blob([SIGNATURE, chunk('IHDR', header), ...more, chunk('IDAT', data), chunk('IEND', new Uint8Array(0))], {
    type: 'image/png',
  })
}

/** The pixels, each row after a 0 for "no filter". */
function rows(map: LabelMap, depth: 8 | 16): Uint8Array<ArrayBuffer> {
  const bytes = depth / 8
  const stride = 1 + map.width * bytes
  const out = new Uint8Array(stride * map.height)
  for (let y = 0; y < map.height; y++) {
    for (let x = 0; x < map.width; x++) {
      const value = map.data[y * map.width + x]
      const place = y * stride + 1 + x * bytes
      if (bytes === 2) out[place] = value >> 8
      out[place + bytes - 1] = value & 255
    }
  }
  return out
}

function chunk(name: string, data: Uint8Array): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(12 + data.length)
  const view = new DataView(out.buffer)
  view.setUint32(0, data.length)
  out.set(new TextEncoder().encode(name), 4)
  out.set(data, 8)
  view.setUint32(8 + data.length, crc32(out.subarray(4, 8 + data.length)))
  return out
}

/** Bytes sent through a (de)compression stream; raises a TypeError if they are damaged. */
export async function through(
  stream: CompressionStream | DecompressionStream,
  bytes: Uint8Array<ArrayBuffer>,
): Promise<Uint8Array<ArrayBuffer>> {
  const sent = new Blob([bytes]).stream().pipeThrough(stream)
  return new Uint8Array(await new Response(sent).arrayBuffer())
}
