/** A ZIP archive without compression: PNG files do not get smaller. */
import { crc32 } from './crc'

export async function zip(files: { name: string; content: Blob }[]): Promise<Blob> {
  const parts: Uint8Array<ArrayBuffer>[] = []
  const directory: Uint8Array<ArrayBuffer>[] = []
  let offset = 0
  for (const { name, content } of files) {
    const path = new TextEncoder().encode(name)
    const bytes = new Uint8Array(await content.arrayBuffer())
    const common = { crc: crc32(bytes), size: bytes.length, path: path.length }
    const local = record(30, 0x04034b50, 4, common)
    parts.push(local, path, bytes)
    const entry = record(46, 0x02014b50, 6, common)
    new DataView(entry.buffer).setUint16(4, 20, true)
    new DataView(entry.buffer).setUint32(42, offset, true)
    directory.push(entry, path)
    offset += local.length + path.length + bytes.length
  }
  const end = new DataView(new ArrayBuffer(22))
  end.setUint32(0, 0x06054b50, true)
  end.setUint16(8, files.length, true)
  end.setUint16(10, files.length, true)
  end.setUint32(12, directory.reduce((sum, part) => sum + part.length, 0), true)
  end.setUint32(16, offset, true)
  return new Blob([...parts, ...directory, end], { type: 'application/zip' })
}

/** The fields that a local header and an entry of the directory share, from `start` on. */
function record(
  length: number,
  magic: number,
  start: number,
  { crc, size, path }: { crc: number; size: number; path: number },
): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(length))
  view.setUint32(0, magic, true)
  view.setUint16(start, 20, true) // version that can read it
  view.setUint16(start + 2, 0x0800, true) // names are UTF-8
  view.setUint16(start + 8, 0x21, true) // 1 January 1980: the same picture is the same file
  view.setUint32(start + 10, crc, true)
  view.setUint32(start + 14, size, true)
  view.setUint32(start + 18, size, true)
  view.setUint16(start + 22, path, true)
  return new Uint8Array(view.buffer)
}
