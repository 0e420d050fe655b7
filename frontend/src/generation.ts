/** Asks for photos of the session, for the chosen model and the one to compare with. */
import { type Backend, BackendError, type Generated, type GenerateRequest, type ModelInfo } from './backend/backend'
import { copy } from './canvas/label-map'
import { sameClasses } from './labels'
import { Live } from './live'
import { choose, resolutions } from './resolution'
import type { Session } from './session'
import { Signal } from './signal'

export interface Photo extends Generated {
  model: ModelInfo
  bitmaps: ImageBitmap[]
  /** From the request to the picture, with the network and the way there and back. */
  total: number
}

const RETRY = 1000 // milliseconds, where the server does not say

export class Generation {
  readonly main = new Signal<Photo | null>(null)
  readonly other = new Signal<Photo | null>(null)
  readonly busy = new Signal(false)
  readonly trouble = new Signal<string | null>(null)
  private readonly lives: Record<'main' | 'other', Live<Photo>>

  constructor(
    private readonly backend: Backend,
    private readonly session: Session,
  ) {
    this.lives = { main: this.live('main'), other: this.live('other') }
    session.document.onChange((_box, done) => this.request(done))
    const settings = [session.model, session.seed, session.samples, session.resolution, session.style, session.classStyles]
    for (const signal of settings) (signal as Signal<unknown>).onChange(() => this.request(true))
    session.other.onChange((model) => {
      if (model) return this.lives.other.request(true)
      this.lives.other.cancel()
      this.other.value = null
    })
  }

  /** Asks for photos of what the session then is; see `Live.request`. */
  request(urgent: boolean, pause?: number): void {
    this.lives.main.request(urgent, pause)
    if (this.session.other.value) this.lives.other.request(urgent, pause)
  }

  private live(slot: 'main' | 'other'): Live<Photo> {
    const target = this[slot]
    return new Live<Photo>((signal) => this.draw(slot, signal), {
      done: (photo) => {
        target.value = photo
        this.trouble.value = null
      },
      failed: (error) => this.failed(slot, error),
      busy: (busy) => slot === 'main' && (this.busy.value = busy),
    })
  }

  private async draw(slot: 'main' | 'other', signal: AbortSignal): Promise<Photo> {
    const start = performance.now()
    const { session } = this
    const model = slot === 'main' ? session.model.value : session.other.value!
    const layout = copy(session.document.map)
    const styles = stylesFor(model, session)
    const samples = drawsStyles(model, session) ? session.samples.value : 1
    const { size } = choose(resolutions(session.model.value, layout, samples), session.resolution.value) // of both, to compare
    const request = {
      ...styles,
      layout,
      model: model.id,
      seed: session.seed.value,
      samples,
      size: size[0] === layout.height && size[1] === layout.width ? null : size,
    }
    const made = await this.backend.generate(request, slot, signal)
    const bitmaps = await Promise.all(made.pictures.map((picture) => createImageBitmap(picture)))
    return { ...made, model, bitmaps, total: performance.now() - start }
  }

  private failed(slot: 'main' | 'other', error: unknown): void {
    if (error instanceof DOMException && error.name === 'AbortError') return
    const status = error instanceof BackendError ? error.status : 0
    if (status === 409) return // a newer request of this page took its place
    if (status === 429) {
      const wait = error instanceof BackendError && error.retryAfter !== null ? error.retryAfter * 1000 : RETRY
      this.trouble.value = 'The server is busy; trying again…'
      this.lives[slot].request(true, wait)
      return
    }
    this.trouble.value = error instanceof Error ? error.message : String(error)
  }
}

/** Whether the styles of a model are drawn from the seed: no photo lends the whole picture its own. */
export function drawsStyles(model: ModelInfo, session: Session): boolean {
  return model.style?.random === true && stylesFor(model, session).style === null
}

/** The photos of style that a model can use: one latent needs no layout, all others need one of their own classes. */
function stylesFor({ style, labels }: ModelInfo, session: Session): Pick<GenerateRequest, 'style' | 'classStyles'> {
  const whole = session.style.value
  if (style?.kind === 'latent') return { style: whole && { ...whole, layout: null }, classStyles: new Map() }
  const fits = style !== null && sameClasses(labels, session.model.value.labels)
  const classes = fits && style.kind === 'codes' ? [...session.classStyles.value].filter(([, { layout }]) => layout) : []
  return { style: fits && whole?.layout ? whole : null, classStyles: new Map(classes) }
}
