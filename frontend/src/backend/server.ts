/** Pictures from `segscape studio`, over its HTTP interface (see /api/openapi.json). */
import type { LabelMap } from '../canvas/label-map'
import { readLayout } from '../files/layout-file'
import { greyPng } from '../files/png-write'
import {
  type Backend,
  BackendError,
  type Example,
  type Generated,
  type GenerateRequest,
  type ModelInfo,
  type Reference,
} from './backend'

interface Answer extends Omit<Generated, 'pictures'> {
  pictures: string[]
}

export class ServerBackend implements Backend {
  readonly encodesPhotos = true
  private readonly clients = new Map<string, string>()
  private models_: ModelInfo[] = []

  async models(): Promise<ModelInfo[]> {
    this.models_ = (await (await ask('api/models')).json()) as ModelInfo[]
    return this.models_
  }

  async generate(request: GenerateRequest, slot: string, signal: AbortSignal): Promise<Generated> {
    const body = await this.form(request)
    const answer = await ask('api/generate', { method: 'POST', body, signal, headers: { 'X-Client': this.client(slot) } })
    const { pictures, ...rest } = (await answer.json()) as Answer
    return { ...rest, pictures: pictures.map(fromBase64) }
  }

  async readLayout(file: Blob, model: ModelInfo): Promise<LabelMap> {
    const body = new FormData()
    body.set('file', file, 'layout')
    body.set('model', model.id)
    return this.layoutOf(await ask('api/layout', { method: 'POST', body }), model)
  }

  async segment(photo: Blob, model: ModelInfo): Promise<LabelMap> {
    const body = new FormData()
    body.set('photo', photo, 'photo')
    body.set('model', model.id)
    return this.layoutOf(await ask('api/segment', { method: 'POST', body }), model)
  }

  async examples(model: ModelInfo): Promise<Example[]> {
    const found = (await (await ask(`api/examples?model=${encodeURIComponent(model.id)}`)).json()) as { name: string; url: string }[]
    return found.map(({ name, url }) => ({ name, load: async () => this.layoutOf(await ask(url.replace(/^\//, '')), model) }))
  }

  private async layoutOf(answer: Response, model: ModelInfo): Promise<LabelMap> {
    return readLayout(await answer.blob(), model.labels)
  }

  /** Each slot is a client of its own, as a newer request of a client replaces its waiting one. */
  private client(slot: string): string {
    if (!this.clients.has(slot)) this.clients.set(slot, uuid())
    return this.clients.get(slot)!
  }

  private async form(request: GenerateRequest): Promise<FormData> {
    const body = new FormData()
    body.set('layout', await greyPng(request.layout), 'layout.png')
    body.set('model', request.model)
    body.set('seed', String(request.seed))
    body.set('samples', String(request.samples))
    if (request.size) body.set('size', request.size.join('x'))
    if (request.style) {
      body.set('style', request.style.photo, 'style')
      if (request.style.layout) body.set('style_layout', await greyPng(request.style.layout), 'style_layout.png')
    }
    const labels = this.models_.find(({ id }) => id === request.model)?.labels
    for (const [index, reference] of request.classStyles) {
      await addClassStyle(body, index, labels?.classes[index]?.name ?? '', reference)
    }
    return body
  }
}

async function addClassStyle(body: FormData, index: number, name: string, reference: Reference): Promise<void> {
  const [photo, layout] = [`photo_${index}`, `layout_${index}`]
  body.set(photo, reference.photo, photo)
  if (reference.layout) body.set(layout, await greyPng(reference.layout), `${layout}.png`)
  body.append('class_style', JSON.stringify({ class: name, photo, layout: reference.layout ? layout : undefined }))
}

async function ask(address: string, options: RequestInit = {}): Promise<Response> {
  let answer: Response
  try {
    answer = await fetch(address, options)
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error
    throw new BackendError('The server does not answer: is segscape studio still running?')
  }
  if (answer.ok) return answer
  const wait = Number(answer.headers.get('Retry-After') ?? Number.NaN)
  throw new BackendError(await sentence(answer), answer.status, Number.isFinite(wait) ? wait : null)
}

async function sentence(answer: Response): Promise<string> {
  try {
    const { error } = (await answer.json()) as { error: unknown }
    if (typeof error === 'string' && error) return error
  } catch {
    // not from our server: say at least the status
  }
  return `The server answers ${answer.status} ${answer.statusText}.`
}

function fromBase64(text: string): Blob {
  return new Blob([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], { type: 'image/png' })
}

function uuid(): string {
  if (crypto.randomUUID) return crypto.randomUUID() // in secure contexts only
  const bytes = crypto.getRandomValues(new Uint8Array(16))
  bytes[6] = (bytes[6] & 15) | 64
  bytes[8] = (bytes[8] & 63) | 128
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('')
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}
