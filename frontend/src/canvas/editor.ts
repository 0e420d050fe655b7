/** The canvas that is painted on: turns mouse, pen, touch and keys into what the tools do. */
import { Signal } from '../signal'
import type { LabelSet } from '../labels'
import type { LayoutDocument } from './document'
import { at, type Point } from './label-map'
import { LayoutPicture } from './picture'
import { Screen } from './screen'
import type { Brush } from './shapes'
import { type Held, makeTools, type Tool, type ToolName } from './tools'
import { fit, pan, toLayout, toScreen, type View, zoom } from './viewport'

interface Pressed {
  at: Point
  kind: string
}

export interface Under {
  photo: ImageBitmap
  opacity: number
}

export class Editor {
  readonly tool = new Signal<ToolName>('brush')
  readonly brush = new Signal<Brush>({ size: 24, shape: 'round' })
  readonly value = new Signal(0)
  readonly unknown = new Signal<number | null>(null)
  /** The pixel under the pointer or the keyboard's cross, and its class. */
  readonly place = new Signal<{ x: number; y: number; value: number } | null>(null)
  readonly scale = new Signal(1)
  readonly under = new Signal<Under | null>(null)
  readonly picture = new LayoutPicture()

  private readonly screen: Screen
  private readonly tools: Record<Exclude<ToolName, 'hand'>, Tool>
  private view: View = { scale: 1, left: 0, top: 0 }
  private fitted = true
  private readonly pressed = new Map<number, Pressed>()
  private active: { tool: Tool | 'pan'; pointer: number } | null = null
  private hovering: Point | null = null
  private cross: Point | null = null
  private crossDown = false
  private penSeen = false
  /** The space bar is held. */
  panning = false

  constructor(
    private readonly canvas: HTMLCanvasElement,
    readonly document: LayoutDocument,
  ) {
    this.screen = new Screen(canvas, this.picture, () => this.scene())
    const bench = {
      document,
      brush: () => this.brush.value,
      value: () => this.value.value,
      unknown: () => this.unknown.value,
      pick: (value: number) => (this.value.value = value),
    }
    this.tools = makeTools(bench, (a, b) => Math.hypot(a.x - b.x, a.y - b.y) * this.view.scale < 9)
    document.onChange((box, done) => {
      this.picture.draw(document.map, box)
      if (this.fitted) this.fit()
      if (done) this.name(this.cross ?? this.hovering)
      this.screen.redraw()
    })
    this.tool.onChange(() => this.cancel())
    for (const signal of [this.brush, this.under]) signal.onChange(() => this.screen.redraw())
    this.listen()
    new ResizeObserver(() => (this.fitted ? this.fit() : this.screen.redraw())).observe(canvas)
  }

  /** The colours to show the layout in. */
  set labels(labels: LabelSet) {
    this.picture.labels = labels
    this.picture.draw(this.document.map)
    this.unknown.value = labels.unknown
    this.screen.redraw()
  }

  /** Shows the whole layout. */
  fit(): void {
    this.fitted = true
    this.look(fit(this.document.map, this.screen.size))
  }

  zoomBy(factor: number, centre?: Point): void {
    const { width, height } = this.screen.size
    this.fitted = false
    this.look(zoom(this.view, factor, centre ?? { x: width / 2, y: height / 2 }, this.document.map, this.screen.size))
  }

  /** Ends a polygon. */
  finish(): void {
    this.current()?.finish?.()
    this.screen.redraw()
  }

  cancel(): void {
    for (const tool of Object.values(this.tools)) tool.cancel()
    this.active = null
    this.crossDown = false
    this.screen.redraw()
  }

  /** Whether a stroke, polygon or selection would be lost by `cancel`. */
  get isBusy(): boolean {
    return this.active !== null || this.crossDown || Boolean(this.current()?.outline?.())
  }

  /** Moves the keyboard's cross by pixels of the layout. */
  moveCross(dx: number, dy: number): void {
    const { width, height } = this.document.map
    const from = this.cross ?? { x: Math.floor(width / 2) + 0.5, y: Math.floor(height / 2) + 0.5 }
    const clamp = (value: number, side: number) => Math.min(side - 0.5, Math.max(0.5, value))
    this.cross = { x: clamp(from.x + dx, width), y: clamp(from.y + dy, height) }
    if (this.crossDown) this.current()?.move(this.cross, { shift: false, alt: false })
    else this.current()?.hover?.(this.cross)
    this.name(this.cross)
    this.screen.redraw()
  }

  /** Presses or lifts the tool at the keyboard's cross. */
  pressCross(): void {
    const tool = this.current()
    if (!tool) return
    if (!this.cross) this.moveCross(0, 0)
    const held = { shift: false, alt: false }
    if (!this.crossDown) tool.down(this.cross!, held)
    if (this.crossDown || ['fill', 'picker', 'polygon'].includes(this.tool.value)) {
      tool.up(this.cross!, held)
      this.crossDown = false
    } else this.crossDown = true
    this.screen.redraw()
  }

  private current(): Tool | null {
    return this.tool.value === 'hand' ? null : this.tools[this.tool.value]
  }

  private listen(): void {
    const { canvas } = this
    canvas.addEventListener('pointerdown', (event) => this.down(event))
    canvas.addEventListener('pointermove', (event) => this.moved(event))
    canvas.addEventListener('pointerup', (event) => this.up(event))
    canvas.addEventListener('pointercancel', (event) => this.lost(event))
    canvas.addEventListener('pointerleave', () => this.leave())
    canvas.addEventListener('dblclick', () => this.finish())
    canvas.addEventListener('contextmenu', (event) => event.preventDefault())
    canvas.addEventListener('wheel', (event) => this.wheel(event), { passive: false })
    canvas.addEventListener('blur', () => this.leaveCross())
  }

  private down(event: PointerEvent): void {
    this.canvas.focus({ preventScroll: true })
    this.leaveCross()
    event.preventDefault()
    this.canvas.setPointerCapture(event.pointerId)
    this.pressed.set(event.pointerId, { at: this.screenPoint(event), kind: event.pointerType })
    this.penSeen ||= event.pointerType === 'pen'
    if (this.pressed.size > 1) {
      this.cancel() // a second finger: what began as a stroke is a pinch
      return
    }
    const tool = this.chosen(event)
    this.active = { tool, pointer: event.pointerId }
    if (tool !== 'pan') tool.down(this.point(event), heldKeys(event))
    this.screen.redraw()
  }

  /** Middle button, space and the fingers beside a pen pan; the right button picks; the other end of a pen erases. */
  private chosen(event: PointerEvent): Tool | 'pan' {
    const pans = event.button === 1 || this.panning || (event.pointerType === 'touch' && this.penSeen)
    if (pans || this.tool.value === 'hand') return 'pan'
    if (event.button === 2) return this.tools.picker
    if (event.button === 5) return this.tools.eraser
    return this.tools[this.tool.value]
  }

  private moved(event: PointerEvent): void {
    const now = this.screenPoint(event)
    const before = this.pressed.get(event.pointerId)
    if (before && this.pressed.size === 2) this.pinch(event.pointerId, now)
    else if (before && this.active?.pointer === event.pointerId) this.drag(event, before.at, now)
    else this.current()?.hover?.(this.point(event))
    if (before) before.at = now
    this.hovering = this.point(event)
    this.name(this.hovering)
    this.screen.redraw()
  }

  private drag(event: PointerEvent, before: Point, now: Point): void {
    const { tool } = this.active!
    if (tool === 'pan') {
      this.fitted = false
      this.look(pan(this.view, now.x - before.x, now.y - before.y, this.document.map, this.screen.size))
      return
    }
    const parts = event.getCoalescedEvents?.() ?? []
    for (const part of parts.length ? parts : [event]) tool.move(this.point(part), heldKeys(event))
  }

  private pinch(pointer: number, now: Point): void {
    const [other] = [...this.pressed].filter(([id]) => id !== pointer).map(([, pressed]) => pressed.at)
    const before = this.pressed.get(pointer)!.at
    const middle = (a: Point) => ({ x: (a.x + other.x) / 2, y: (a.y + other.y) / 2 })
    const distance = (a: Point) => Math.max(1, Math.hypot(a.x - other.x, a.y - other.y))
    const [from, to] = [middle(before), middle(now)]
    this.zoomBy(distance(now) / distance(before), to)
    this.look(pan(this.view, to.x - from.x, to.y - from.y, this.document.map, this.screen.size))
  }

  private up(event: PointerEvent): void {
    this.pressed.delete(event.pointerId)
    if (this.active?.pointer === event.pointerId) {
      const { tool } = this.active
      this.active = null
      if (tool !== 'pan') tool.up(this.point(event), heldKeys(event))
    }
    if (event.pointerType === 'touch') this.leave()
    this.screen.redraw()
  }

  private lost(event: PointerEvent): void {
    this.pressed.delete(event.pointerId)
    this.cancel()
  }

  private leave(): void {
    this.hovering = null
    this.name(this.cross)
    this.screen.redraw()
  }

  private leaveCross(): void {
    if (this.crossDown) this.cancel()
    this.cross = null
    this.screen.redraw()
  }

  private wheel(event: WheelEvent): void {
    event.preventDefault()
    const unit = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1
    if (event.shiftKey) {
      this.fitted = false
      const [dx, dy] = event.deltaX ? [event.deltaX, event.deltaY] : [event.deltaY, 0]
      this.look(pan(this.view, -dx * unit, -dy * unit, this.document.map, this.screen.size))
    } else this.zoomBy(Math.exp(-event.deltaY * unit * 0.002), this.screenPoint(event))
  }

  private look(view: View): void {
    this.view = view
    this.scale.value = view.scale
    this.screen.redraw()
  }

  private name(point: Point | null): void {
    const [x, y] = point ? [Math.floor(point.x), Math.floor(point.y)] : [-1, -1]
    const value = at(this.document.map, x, y)
    this.place.value = value === null ? null : { x, y, value }
  }

  private scene() {
    const at = this.cross ?? this.hovering
    const brushes = ['brush', 'eraser', 'line'].includes(this.tool.value) && !this.panning
    const area = this.screen.size
    const seen = this.cross && toScreen(this.view, this.cross)
    if (seen && (seen.x < 0 || seen.y < 0 || seen.x > area.width || seen.y > area.height)) {
      this.view = pan(this.view, area.width / 2 - seen.x, area.height / 2 - seen.y, this.document.map, area)
    }
    return {
      view: this.view,
      outline: this.current()?.outline?.() ?? null,
      brush: at && brushes ? { at, brush: this.brush.value } : null,
      cross: this.cross,
      under: this.under.value,
    }
  }

  private screenPoint(event: MouseEvent): Point {
    const { left, top } = this.canvas.getBoundingClientRect()
    return { x: event.clientX - left - this.canvas.clientLeft, y: event.clientY - top - this.canvas.clientTop }
  }

  private point(event: MouseEvent): Point {
    return toLayout(this.view, this.screenPoint(event))
  }
}

function heldKeys(event: MouseEvent): Held {
  return { shift: event.shiftKey, alt: event.altKey }
}
