/** Reading PNG value by value: the browser's own decoder turns 16 bits into 8 and a palette into colours. */
import { SIGNATURE, through } from './png-write'

/** What is in the pixels: one value each (grey, or an index of the palette), or red, green and blue. */
export interface Pixels {
  width: number
  height: number
  channels: 1 | 3
  values: Uint16Array
}

/** Grey, grey with alpha, palette, and colour of 1 to 16 bits. Raises an Error with one sentence for anything else. */
export async function readPng(file: Blob): Promise<Pixels> {
  const bytes = new Uint8Array(await file.arrayBuffer())
  if (SIGNATURE.some((value, place) => bytes[place] !== value)) throw new Error('this file is not a PNG')
  const { header, data } = chunks(bytes)
  const [width, height] = [header.getUint32(0), header.getUint32(4)]
  const [depth, kind, interlaced] = [header.getUint8(8), header.getUint8(9), header.getUint8(12)]
  const stored = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }[kind]
  if (!stored || !width || !height || width > 4096 || height > 4096) throw new Error('this PNG is larger than 4096 x 4096')
  if (interlaced) throw new Error('this PNG is interlaced: save it without interlacing')
  const stride = Math.ceil((width * stored * depth) / 8)
  const raw = await inflate(data)
  if (raw.length < height * (stride + 1)) throw new Error('this PNG is truncated or damaged')
  const plain = unfiltered(raw, height, stride, Math.max(1, (stored * depth) / 8))
  const channels = stored >= 3 ? 3 : 1
  return { width, height, channels, values: unpacked(plain, { width, height, stride, stored, depth, channels }) }
}

function chunks(bytes: Uint8Array<ArrayBuffer>): { header: DataView; data: Uint8Array<ArrayBuffer> } {
  const view = new DataView(bytes.buffer)
  const parts: Uint8Array<ArrayBuffer>[] = []
  let header: DataView | null = null
  for (let place = 8; place + 12 <= bytes.length; ) {
    const length = view.getUint32(place)
    const name = String.fromCharCode(...bytes.subarray(place + 4, place + 8))
    if (place + 12 + length > bytes.length) break
    if (name === 'IHDR' && length === 13) header = new DataView(bytes.buffer, place + 8, 13)
    if (name === 'IDAT') parts.push(bytes.subarray(place + 8, place + 8 + length))
    place += 12 + length
  }
  if (!header || !parts.length) throw new Error('this PNG is truncated or damaged')
  return { header, data: joined(parts) }
}

function joined(parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let place = 0
  for (const part of parts) {
    all.set(part, place)
    place += part.length
  }
  return all
}

async function inflate(data: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  try {
    return await through(new DecompressionStream('deflate'), data)
  } catch {
    throw new Error('this PNG is truncated or damaged')
  }
}

/** Undoes the filters of the rows (PNG specification, section 9). */
function unfiltered(raw: Uint8Array, height: number, stride: number, step: number): Uint8Array {
  const out = new Uint8Array(height * stride)
  for (let y = 0; y < height; y++) {
    const filter = raw[y * (stride + 1)]
    if (filter > 4) throw new Error('this PNG is truncated or damaged')
    for (let i = 0; i < stride; i++) {
      const place = y * stride + i
      const left = i >= step ? out[place - step] : 0
      const above = y ? out[place - stride] : 0
      const corner = y && i >= step ? out[place - stride - step] : 0
      out[place] = raw[y * (stride + 1) + 1 + i] + predicted(filter, left, above, corner)
    }
  }
  return out
}

function predicted(filter: number, left: number, above: number, corner: number): number {
  if (filter === 1) return left
  if (filter === 2) return above
  if (filter === 3) return (left + above) >> 1
  if (filter !== 4) return 0
  const guess = left + above - corner
  const [a, b, c] = [Math.abs(guess - left), Math.abs(guess - above), Math.abs(guess - corner)]
  return a <= b && a <= c ? left : b <= c ? above : corner
}

interface Form {
  width: number
  height: number
  stride: number
  stored: number
  depth: number
  channels: 1 | 3
}

/** The values without alpha, one after another. */
function unpacked(plain: Uint8Array, { width, height, stride, stored, depth, channels }: Form): Uint16Array {
  const values = new Uint16Array(width * height * channels)
  let next = 0
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let channel = 0; channel < channels; channel++) {
        values[next++] = sample(plain, y * stride, x * stored + channel, depth)
      }
    }
  }
  return values
}

function sample(plain: Uint8Array, row: number, index: number, depth: number): number {
  if (depth === 8) return plain[row + index]
  if (depth === 16) return (plain[row + 2 * index] << 8) | plain[row + 2 * index + 1]
  const bit = index * depth
  return (plain[row + (bit >> 3)] >> (8 - depth - (bit & 7))) & ((1 << depth) - 1)
}
