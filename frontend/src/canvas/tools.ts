/** What each tool does between pointer down and up. Points are in pixels of the layout, not rounded. */
import type { Edit, LayoutDocument } from './document'
import { floodFill, replaceClass } from './fill'
import { at, type Box, type LabelMap, type Point, union } from './label-map'
import { clear, drop, lift, type Piece, surrounding } from './lasso'
import { type Brush, polygon, rectangle, stroke } from './shapes'

export type ToolName = 'brush' | 'eraser' | 'fill' | 'line' | 'rectangle' | 'polygon' | 'picker' | 'lasso' | 'hand'

/** What the tools work with. */
export interface Bench {
  document: LayoutDocument
  brush(): Brush
  /** The class that is painted. */
  value(): number
  /** The class of pixels that nobody labelled, if the label set has one. */
  unknown(): number | null
  pick(value: number): void
}

/** Keys held while a tool is used. */
export interface Held {
  shift: boolean
  alt: boolean
}

export interface Outline {
  points: Point[]
  closed: boolean
}

export interface Tool {
  down(point: Point, held: Held): void
  move(point: Point, held: Held): void
  up(point: Point, held: Held): void
  /** The pointer moves without being pressed. */
  hover?(point: Point): void
  /** Enter or a double click. */
  finish?(): void
  cancel(): void
  /** What to draw over the layout. */
  outline?(): Outline | null
}

/** Paints along the way of the pointer, a class that `value` gives. */
class Painting implements Tool {
  private edit: Edit | null = null
  private last: Point = { x: 0, y: 0 }
  private anchor: Point | null = null

  constructor(
    private readonly bench: Bench,
    private readonly value: () => number | null,
  ) {}

  down(point: Point, held: Held): void {
    if (this.value() === null) return
    this.edit = this.bench.document.begin()
    this.last = held.shift && this.anchor ? this.anchor : point // Shift: straight on from where the last stroke ended
    this.move(point)
  }

  move(point: Point): void {
    const value = this.value()
    if (value === null) return
    this.edit?.draw((map) => stroke(map, this.last, point, this.bench.brush(), value))
    this.last = point
  }

  up(): void {
    this.anchor = this.last
    this.edit?.commit()
    this.edit = null
  }

  cancel(): void {
    this.edit?.cancel()
    this.edit = null
  }
}

/** A shape between two points, drawn anew at every move. */
class Dragging implements Tool {
  private edit: Edit | null = null
  private start: Point = { x: 0, y: 0 }

  constructor(
    private readonly bench: Bench,
    private readonly draw: (map: LabelMap, from: Point, to: Point, held: Held) => Box | null,
  ) {}

  down(point: Point, held: Held): void {
    this.edit = this.bench.document.begin()
    this.start = point
    this.move(point, held)
  }

  move(point: Point, held: Held): void {
    this.edit?.redraw((map) => this.draw(map, this.start, point, held))
  }

  up(): void {
    this.edit?.commit()
    this.edit = null
  }

  cancel(): void {
    this.edit?.cancel()
    this.edit = null
  }
}

class Filling implements Tool {
  constructor(private readonly bench: Bench) {}

  down({ x, y }: Point, { shift }: Held): void {
    const fill = shift ? replaceClass : floodFill
    const edit = this.bench.document.begin()
    edit.draw((map) => fill(map, Math.floor(x), Math.floor(y), this.bench.value()))
    edit.commit()
  }

  move(): void {}
  up(): void {}
  cancel(): void {}
}

class Picking implements Tool {
  constructor(private readonly bench: Bench) {}

  down(point: Point): void {
    this.move(point)
  }

  move({ x, y }: Point): void {
    const found = at(this.bench.document.map, Math.floor(x), Math.floor(y))
    if (found !== null) this.bench.pick(found)
  }

  up(): void {}
  cancel(): void {}
}

/** A corner at each click; a click on the first corner, a double click or Enter fills it. */
class Polygon implements Tool {
  private corners: Point[] = []
  private end: Point | null = null

  constructor(
    private readonly bench: Bench,
    private readonly near: (a: Point, b: Point) => boolean,
  ) {}

  down(point: Point): void {
    const closes = this.corners.length > 2 && this.near(this.corners[0], point)
    if (closes) this.finish()
    else if (!this.corners.length || !this.near(this.corners.at(-1)!, point)) this.corners.push(point)
    this.end = null
  }

  move(): void {}
  up(): void {}

  hover(point: Point): void {
    this.end = this.corners.length ? point : null
  }

  finish(): void {
    const edit = this.bench.document.begin()
    edit.draw((map) => polygon(map, this.corners, this.bench.value()))
    edit.commit()
    this.cancel()
  }

  cancel(): void {
    this.corners = []
    this.end = null
  }

  outline(): Outline | null {
    return this.corners.length ? { points: this.end ? [...this.corners, this.end] : this.corners, closed: false } : null
  }
}

/** Draw around something, then drag it elsewhere; with Alt a copy. */
class Lasso implements Tool {
  private drawn: Point[] = []
  private piece: Piece | null = null
  private edit: Edit | null = null
  private start: Point = { x: 0, y: 0 }
  private shift = { x: 0, y: 0 }

  constructor(private readonly bench: Bench) {}

  down(point: Point): void {
    this.start = point
    if (this.piece && inside(this.piece.outline, point)) {
      this.edit = this.bench.document.begin()
      return
    }
    this.piece = null
    this.drawn = [point]
  }

  move(point: Point, held: Held): void {
    if (!this.edit || !this.piece) {
      if (this.drawn.length) this.drawn.push(point)
      return
    }
    this.shift = { x: Math.round(point.x - this.start.x), y: Math.round(point.y - this.start.y) }
    const { piece, shift } = this
    const rest = this.bench.unknown() ?? surrounding(this.edit.before, piece)
    this.edit.redraw((map) => union(held.alt ? null : clear(map, piece, rest), drop(map, piece, shift.x, shift.y)))
  }

  up(): void {
    if (this.edit && this.piece) {
      this.edit.commit()
      const moved = this.piece.outline.map(({ x, y }) => ({ x: x + this.shift.x, y: y + this.shift.y }))
      this.piece = lift(this.bench.document.map, moved)
    } else if (this.drawn.length) {
      this.piece = lift(this.bench.document.map, this.drawn)
    }
    this.edit = null
    this.drawn = []
    this.shift = { x: 0, y: 0 }
  }

  cancel(): void {
    this.edit?.cancel()
    this.edit = null
    this.piece = null
    this.drawn = []
    this.shift = { x: 0, y: 0 }
  }

  outline(): Outline | null {
    if (!this.piece) return this.drawn.length ? { points: this.drawn, closed: false } : null
    const { x: dx, y: dy } = this.shift
    return { points: this.piece.outline.map(({ x, y }) => ({ x: x + dx, y: y + dy })), closed: true }
  }
}

/** Whether a point is within a polygon (even-odd rule). */
function inside(corners: readonly Point[], { x, y }: Point): boolean {
  let found = false
  corners.forEach((a, index) => {
    const b = corners[(index + 1) % corners.length]
    if (a.y <= y !== b.y <= y && x < a.x + ((y - a.y) / (b.y - a.y)) * (b.x - a.x)) found = !found
  })
  return found
}

/** With Shift, a line goes in steps of 45 degrees and a rectangle is a square. */
function straight(from: Point, to: Point, held: Held, square: boolean): Point {
  if (!held.shift) return to
  const [dx, dy] = [to.x - from.x, to.y - from.y]
  const longer = Math.max(Math.abs(dx), Math.abs(dy))
  const small = (side: number) => !square && Math.abs(side) < longer * Math.tan(Math.PI / 8)
  return {
    x: from.x + (small(dx) ? 0 : Math.sign(dx) * longer),
    y: from.y + (small(dy) ? 0 : Math.sign(dy) * longer),
  }
}

/** The tools that change or read the layout; the hand is the pointer's own affair. */
export function makeTools(
  bench: Bench,
  near: (a: Point, b: Point) => boolean,
): Record<Exclude<ToolName, 'hand'>, Tool> {
  return {
    brush: new Painting(bench, bench.value),
    eraser: new Painting(bench, bench.unknown),
    fill: new Filling(bench),
    line: new Dragging(bench, (map, a, b, held) => stroke(map, a, straight(a, b, held, false), bench.brush(), bench.value())),
    rectangle: new Dragging(bench, (map, a, b, held) => rectangle(map, a, straight(a, b, held, true), bench.value())),
    polygon: new Polygon(bench, near),
    picker: new Picking(bench),
    lasso: new Lasso(bench),
  }
}
