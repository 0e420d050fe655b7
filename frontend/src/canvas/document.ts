/** The layout that is painted, with its history. Everything that changes it goes through here. */
import { type Box, copy, type LabelMap, union, wholeBox } from './label-map'
import { History } from './history'

/** Told of a change: which pixels, and whether it is done or a stroke is under way. */
export type ChangeListener = (box: Box, done: boolean) => void

export class LayoutDocument {
  private history = new History()
  private readonly listeners: ChangeListener[] = []
  private edit: Edit | null = null

  constructor(private current: LabelMap) {}

  get map(): LabelMap {
    return this.current
  }

  get canUndo(): boolean {
    return this.history.canUndo
  }

  get canRedo(): boolean {
    return this.history.canRedo
  }

  onChange(listener: ChangeListener): void {
    this.listeners.push(listener)
  }

  /** Starts a stroke; one that was under way is taken back. */
  begin(): Edit {
    this.edit?.cancel()
    this.edit = new Edit(this.current, (box) => this.tell(box, false), (box) => this.finish(box))
    return this.edit
  }

  /** Another layout instead, as one step of the history. */
  replace(map: LabelMap): void {
    this.edit?.cancel()
    this.history.record(this.current, map)
    this.show(map)
  }

  /** Another layout, of another label set: what came before means nothing there, so its history goes. */
  restart(map: LabelMap): void {
    this.edit?.cancel()
    this.history = new History()
    this.show(map)
  }

  undo(): void {
    this.step('undo')
  }

  redo(): void {
    this.step('redo')
  }

  private step(way: 'undo' | 'redo'): void {
    this.edit?.cancel()
    const map = this.history[way](this.current)
    if (map) this.show(map)
  }

  private show(map: LabelMap): void {
    this.current = map
    this.tell(wholeBox(map), true)
  }

  private finish(box: Box | null): void {
    const before = this.edit!.before
    this.edit = null
    if (!box) return
    this.history.record(before, this.current, box)
    this.tell(box, true)
  }

  private tell(box: Box, done: boolean): void {
    for (const listener of this.listeners) listener(box, done)
  }
}

/** A stroke that is under way: the layout shows it already, the history gets it when it is done. */
export class Edit {
  readonly before: LabelMap
  private box: Box | null = null
  private open = true

  constructor(
    private readonly map: LabelMap,
    private readonly show: (box: Box) => void,
    private readonly finish: (box: Box | null) => void,
  ) {
    this.before = copy(map)
  }

  /** Changes the layout by a function that returns which pixels it may have changed. */
  draw(change: (map: LabelMap) => Box | null): void {
    const box = change(this.map)
    this.box = union(this.box, box)
    if (box) this.show(box)
  }

  /** As `draw`, but what was drawn before in this stroke is taken back first. */
  redraw(change: (map: LabelMap) => Box | null): void {
    const old = this.box
    this.map.data.set(this.before.data)
    this.box = union(old, change(this.map))
    if (this.box) this.show(this.box)
  }

  commit(): void {
    if (!this.open) return
    this.open = false
    this.finish(this.box)
  }

  /** Takes all of it back. */
  cancel(): void {
    if (!this.open) return
    this.redraw(() => null)
    this.open = false
    this.finish(null)
  }
}
