/** What the person has chosen: all views read and write it here. */
import type { ModelInfo, Reference } from './backend/backend'
import type { LayoutDocument } from './canvas/document'
import type { ResolutionName } from './resolution'
import { Signal } from './signal'

const RECENT = 9

export class Session {
  readonly model: Signal<ModelInfo>
  /** The model to compare with. */
  readonly other = new Signal<ModelInfo | null>(null)
  readonly seed = new Signal(0)
  readonly samples = new Signal(1)
  readonly resolution = new Signal<ResolutionName>('model')
  /** Of the layout over the photo, in percent. */
  readonly overlay = new Signal(0)
  readonly style = new Signal<Reference | null>(null)
  /** By the index of the class. */
  readonly classStyles = new Signal<ReadonlyMap<number, Reference>>(new Map())
  /** The class that is painted. */
  readonly value = new Signal(0)
  readonly recent = new Signal<readonly number[]>([])
  /** What files that are saved are called. */
  readonly name = new Signal('layout')

  constructor(
    readonly models: readonly ModelInfo[],
    readonly document: LayoutDocument,
  ) {
    this.model = new Signal(models[0])
    this.value.onChange((value) => this.remember(value))
  }

  /** Another random style. */
  roll(): void {
    this.seed.value = Math.floor(Math.random() * 2 ** 31)
  }

  setClassStyle(index: number, reference: Reference | null): void {
    const next = new Map(this.classStyles.value)
    if (reference) next.set(index, reference)
    else next.delete(index)
    this.classStyles.value = next
  }

  private remember(value: number): void {
    this.recent.value = [value, ...this.recent.value.filter((other) => other !== value)].slice(0, RECENT)
  }
}
