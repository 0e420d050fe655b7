/** What makes the pictures: a server, or the model in this browser. */
import type { LabelMap } from '../canvas/label-map'
import type { LabelSet } from '../labels'

export interface ModelInfo {
  id: string
  name: string
  /** Height and width of training. */
  size: [number, number]
  size_multiple: number
  fixed_size: boolean
  use_instances: boolean
  style: null | { kind: 'latent' | 'codes' | 'map'; random: boolean }
  /** Whether it adds noise, so that other seeds give other pictures in any style. */
  noise: boolean
  labels: LabelSet
  /** Classes that the model never saw in training. */
  unseen: number[]
  /** Whether photos can be segmented into this label set. */
  segmenter: boolean
}

/** A photo that lends its style, with its layout where the model needs one. */
export interface Reference {
  name: string
  photo: Blob
  layout: LabelMap | null
}

export interface GenerateRequest {
  layout: LabelMap
  model: string
  seed: number
  samples: number
  /** Height and width; null is the layout's own size. */
  size: [number, number] | null
  style: Reference | null
  /** By the index of the class. */
  classStyles: ReadonlyMap<number, Reference>
}

export interface Generated {
  pictures: Blob[]
  /** Time in the network. */
  milliseconds: number
  seed: number
  /** Python that makes the first picture again. */
  snippet: string
}

export interface Example {
  name: string
  load: () => Promise<LabelMap>
}

export interface Backend {
  /** Whether photos can lend their style. */
  readonly encodesPhotos: boolean
  models(): Promise<ModelInfo[]>
  /** `slot` names the place that the picture is for: a newer request for it replaces an older one. */
  generate(request: GenerateRequest, slot: string, signal: AbortSignal): Promise<Generated>
  /** Raises a BackendError with one sentence if the file is no layout of the model's label set. */
  readLayout(file: Blob, model: ModelInfo): Promise<LabelMap>
  segment(photo: Blob, model: ModelInfo): Promise<LabelMap>
  examples(model: ModelInfo): Promise<Example[]>
}

/** A refusal that a person can act upon. */
export class BackendError extends Error {
  /**
   * @param message one sentence
   * @param status of HTTP, 0 where there is none
   * @param retryAfter seconds after which to try again, if that helps
   */
  constructor(
    message: string,
    readonly status = 0,
    readonly retryAfter: number | null = null,
  ) {
    super(message)
  }
}
