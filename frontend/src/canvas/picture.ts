/** A layout as pixels on a canvas, in the colours of its classes; only what changed is drawn again. */
import type { LabelSet } from '../labels'
import { context } from '../dom'
import { type Box, type LabelMap, wholeBox } from './label-map'

export class LayoutPicture {
  readonly canvas = document.createElement('canvas')
  private colors = new Uint32Array(0)

  set labels(labels: LabelSet) {
    this.colors = Uint32Array.from(labels.classes, ({ color: [red, green, blue] }) => {
      return (255 << 24) | (blue << 16) | (green << 8) | red // bytes in memory are R, G, B, A
    })
  }

  draw(map: LabelMap, box: Box = wholeBox(map)): void {
    if (this.canvas.width !== map.width || this.canvas.height !== map.height) {
      this.canvas.width = map.width
      this.canvas.height = map.height
      box = wholeBox(map)
    }
    const [width, height] = [box.right - box.left, box.bottom - box.top]
    if (width < 1 || height < 1) return
    const image = new ImageData(width, height)
    const pixels = new Uint32Array(image.data.buffer)
    for (let y = 0; y < height; y++) {
      const row = (box.top + y) * map.width + box.left
      for (let x = 0; x < width; x++) pixels[y * width + x] = this.colors[map.data[row + x]]
    }
    context(this.canvas).putImageData(image, box.left, box.top)
  }
}
