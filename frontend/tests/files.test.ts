import { deflateSync, inflateSync } from 'node:zlib'
import { expect, it } from 'vitest'
import type { LabelMap } from '../src/canvas/label-map'
import { crc32 } from '../src/files/crc'
import { readLayout } from '../src/files/layout-file'
import { readPng } from '../src/files/png-read'
import { greyPng, palettePng } from '../src/files/png-write'
import { zip } from '../src/files/zip'
import type { LabelSet } from '../src/labels'

const labels: LabelSet = {
  name: 'three',
  unknown: 2,
  classes: (['sky', 'road', 'unknown'] as const).map((name, index) => ({ index, name, color: [index * 9, 1, 200], thing: false })),
}
const map: LabelMap = { width: 5, height: 3, data: Uint16Array.from([0, 1, 2, 1, 0, 2, 2, 2, 1, 1, 0, 0, 0, 0, 1]) }

/** A PNG chunk by chunk, for forms that the studio does not write. */
function png(depth: number, kind: number, width: number, height: number, rows: number[][], interlaced = 0): Blob {
  const chunk = (name: string, data: Uint8Array) => {
    const body = Buffer.concat([Buffer.from(name), data])
    const ends = Buffer.alloc(8)
    ends.writeUInt32BE(data.length, 0)
    ends.writeUInt32BE(crc32(body), 4)
    return Buffer.concat([ends.subarray(0, 4), body, ends.subarray(4)])
  }
  const header = Buffer.alloc(13)
  header.writeUInt32BE(width, 0)
  header.writeUInt32BE(height, 4)
  header.set([depth, kind, 0, 0, interlaced], 8)
  const data = deflateSync(Buffer.from(rows.flat()))
  return new Blob([Buffer.from('89504e470d0a1a0a', 'hex'), chunk('IHDR', header), chunk('IDAT', data), chunk('IEND', Buffer.alloc(0))])
}

it('CRC-32 of the standard check value', () => {
  expect(crc32(new TextEncoder().encode('123456789'))).toBe(0xcbf43926)
})

it('a layout comes back index by index, grey, wide and with a palette', async () => {
  expect(await readLayout(await greyPng(map), labels)).toEqual(map)
  expect(await readLayout(await palettePng(map, labels), labels)).toEqual(map)
  const wide = { ...map, data: map.data.map((value) => value * 1000) }
  expect((await readPng(await greyPng(wide))).values).toEqual(wide.data)
})

it('rows of a written PNG are what the format says', async () => {
  const bytes = Buffer.from(await (await greyPng(map)).arrayBuffer())
  const start = bytes.indexOf('IDAT') + 4
  expect([...inflateSync(bytes.subarray(start, start + bytes.readUInt32BE(start - 8)))]).toEqual([
    0, 0, 1, 2, 1, 0, 0, 2, 2, 2, 1, 1, 0, 0, 0, 0, 0, 1,
  ])
})

it('reads the five filters of rows', async () => {
  const file = png(8, 0, 3, 5, [
    [0, 10, 20, 30],
    [1, 5, 5, 5], // left: 5 10 15
    [2, 1, 1, 1], // above: 6 11 16
    [3, 4, 4, 4], // mean: 7 13 18
    [4, 1, 1, 1], // Paeth: 8 14 19
  ])
  expect([...(await readPng(file)).values]).toEqual([10, 20, 30, 5, 10, 15, 6, 11, 16, 7, 13, 18, 8, 14, 19])
})

it('reads few bits, colours and alpha', async () => {
  expect([...(await readPng(png(2, 3, 5, 1, [[0, 0b00011011, 0b11000000]]))).values]).toEqual([0, 1, 2, 3, 3])
  const colours = png(8, 6, 2, 1, [[0, 9, 1, 200, 255, 0, 1, 200, 7]])
  expect([...(await readLayout(colours, labels)).data]).toEqual([1, 0])
})

it.each([
  ['no PNG', new Blob(['<svg/>']), 'not a PNG'],
  ['cut off', png(8, 0, 3, 9, [[0, 1, 1, 1]]), 'damaged'],
  ['interlaced', png(8, 0, 1, 1, [[0, 1]], 1), 'interlaced'],
  ['huge', png(8, 0, 100_000, 100_000, [[0]]), 'larger'],
  ['unknown index', png(8, 0, 1, 1, [[0, 3]]), 'value 3'],
  ['unknown colour', png(8, 2, 1, 1, [[0, 1, 2, 3]]), '(1, 2, 3)'],
])('refuses in a sentence: %s', async (_name, file, sentence) => {
  await expect(readLayout(file, labels)).rejects.toThrow(sentence)
})

it('a ZIP lists its files with their places', async () => {
  const bytes = Buffer.from(await (await zip([{ name: 'a/ä.txt', content: new Blob(['one']) }, { name: 'b', content: new Blob(['two!']) }])).arrayBuffer())
  const end = bytes.length - 22
  expect(bytes.readUInt32LE(end)).toBe(0x06054b50)
  expect(bytes.readUInt16LE(end + 10)).toBe(2)
  let entry = bytes.readUInt32LE(end + 16)
  const found: [string, string][] = []
  while (bytes.readUInt32LE(entry) === 0x02014b50) {
    const [size, length, offset] = [bytes.readUInt32LE(entry + 24), bytes.readUInt16LE(entry + 28), bytes.readUInt32LE(entry + 42)]
    const start = offset + 30 + bytes.readUInt16LE(offset + 26)
    const content = bytes.subarray(start, start + size)
    expect(bytes.readUInt32LE(entry + 16)).toBe(crc32(content))
    found.push([bytes.subarray(entry + 46, entry + 46 + length).toString(), content.toString()])
    entry += 46 + length
  }
  expect(found).toEqual([['a/ä.txt', 'one'], ['b', 'two!']])
})
