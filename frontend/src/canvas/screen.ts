/** Draws the layout, the brush and outlines on the visible canvas, at most once a frame. */
import { context } from '../dom'
import type { Point } from './label-map'
import type { LayoutPicture } from './picture'
import type { Brush } from './shapes'
import type { Outline } from './tools'
import { type Size, toScreen, type View } from './viewport'

export interface Scene {
  view: View
  outline: Outline | null
  /** Where the brush would paint; null where there is none. */
  brush: { at: Point; brush: Brush } | null
  /** The place that the keyboard points at. */
  cross: Point | null
  /** A photo under the layout, and how much of the layout is seen. */
  under: { photo: ImageBitmap; opacity: number } | null
}

const GRID_FROM = 14 // screen pixels for one of the layout

export class Screen {
  private planned = false

  constructor(
    readonly canvas: HTMLCanvasElement,
    private readonly picture: LayoutPicture,
    private readonly scene: () => Scene,
  ) {}

  /** In CSS pixels. */
  get size(): Size {
    return { width: this.canvas.clientWidth, height: this.canvas.clientHeight }
  }

  redraw(): void {
    if (this.planned) return
    this.planned = true
    requestAnimationFrame(() => {
      this.planned = false
      this.draw()
    })
  }

  private draw(): void {
    const ratio = window.devicePixelRatio || 1
    const [width, height] = [Math.round(this.size.width * ratio), Math.round(this.size.height * ratio)]
    if (this.canvas.width !== width) this.canvas.width = width
    if (this.canvas.height !== height) this.canvas.height = height
    const pen = context(this.canvas)
    pen.setTransform(ratio, 0, 0, ratio, 0, 0)
    pen.clearRect(0, 0, this.size.width, this.size.height)
    const scene = this.scene()
    this.drawLayout(pen, scene)
    if (scene.view.scale >= GRID_FROM) this.drawGrid(pen, scene.view)
    if (scene.outline) this.drawOutline(pen, scene.view, scene.outline)
    if (scene.brush) this.drawBrush(pen, scene.view, scene.brush)
    if (scene.cross) drawCross(pen, toScreen(scene.view, scene.cross))
  }

  private drawLayout(pen: CanvasRenderingContext2D, { view, under }: Scene): void {
    const layout = this.picture.canvas
    const [width, height] = [layout.width * view.scale, layout.height * view.scale]
    if (under) pen.drawImage(under.photo, view.left, view.top, width, height)
    pen.globalAlpha = under ? under.opacity : 1
    pen.imageSmoothingEnabled = view.scale < 1
    pen.drawImage(layout, view.left, view.top, width, height)
    pen.globalAlpha = 1
  }

  private drawGrid(pen: CanvasRenderingContext2D, view: View): void {
    pen.beginPath()
    for (let x = 0; x <= this.picture.canvas.width; x++) {
      pen.moveTo(view.left + x * view.scale, Math.max(0, view.top))
      pen.lineTo(view.left + x * view.scale, Math.min(this.size.height, view.top + this.picture.canvas.height * view.scale))
    }
    for (let y = 0; y <= this.picture.canvas.height; y++) {
      pen.moveTo(Math.max(0, view.left), view.top + y * view.scale)
      pen.lineTo(Math.min(this.size.width, view.left + this.picture.canvas.width * view.scale), view.top + y * view.scale)
    }
    pen.strokeStyle = 'rgb(127 127 127 / 0.35)'
    pen.lineWidth = 1
    pen.stroke()
  }

  private drawOutline(pen: CanvasRenderingContext2D, view: View, { points, closed }: Outline): void {
    pen.beginPath()
    for (const point of points) {
      const { x, y } = toScreen(view, point)
      pen.lineTo(x, y)
    }
    if (closed) pen.closePath()
    if (points.length === 1) {
      const { x, y } = toScreen(view, points[0])
      pen.arc(x, y, 3, 0, 2 * Math.PI)
    }
    strokeTwice(pen, [6, 4])
  }

  private drawBrush(pen: CanvasRenderingContext2D, view: View, { at, brush }: { at: Point; brush: Brush }): void {
    const centre = brush.size % 2 ? { x: Math.floor(at.x) + 0.5, y: Math.floor(at.y) + 0.5 } : { x: Math.round(at.x), y: Math.round(at.y) }
    const { x, y } = toScreen(view, centre)
    const radius = (brush.size / 2) * view.scale
    pen.beginPath()
    if (brush.shape === 'round' && brush.size > 1) pen.arc(x, y, radius, 0, 2 * Math.PI)
    else pen.rect(x - radius, y - radius, 2 * radius, 2 * radius)
    strokeTwice(pen)
  }
}

function drawCross(pen: CanvasRenderingContext2D, { x, y }: Point): void {
  pen.beginPath()
  for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
    pen.moveTo(x + 4 * dx, y + 4 * dy)
    pen.lineTo(x + 14 * dx, y + 14 * dy)
  }
  strokeTwice(pen)
}

/** Dark under light, to be seen on every class. */
function strokeTwice(pen: CanvasRenderingContext2D, dash: number[] = []): void {
  pen.setLineDash([])
  pen.lineWidth = 3
  pen.strokeStyle = 'rgb(0 0 0 / 0.65)'
  pen.stroke()
  pen.setLineDash(dash)
  pen.lineWidth = 1.25
  pen.strokeStyle = '#fff'
  pen.stroke()
  pen.setLineDash([])
}
