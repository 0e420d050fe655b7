/** Pictures from a model that runs in this browser: the backend of the static site. */
import type { LabelMap } from '../canvas/label-map'
import { readLayout } from '../files/layout-file'
import { type Backend, BackendError, type Example, type Generated, type GenerateRequest, type ModelInfo } from './backend'
import type { Done, Task } from './onnx.worker'
import { chosenStyle, type ExportedModel, fitted, type Inputs, styleInput, toPixels } from './tensors'

export class OnnxBackend implements Backend {
  readonly encodesPhotos = false
  private readonly worker = new Worker(new URL('./onnx.worker.ts', import.meta.url), { type: 'module' })
  private readonly waiting = new Map<number, (done: Done) => void>()
  private queue: Promise<unknown> = Promise.resolve()
  private next = 0
  private model: ExportedModel | null = null
  /** As `segscape.studio.site.stored_styles` wrote them. */
  private styles: Promise<Float32Array> | null = null

  constructor() {
    this.worker.onmessage = ({ data }: MessageEvent<Done>) => {
      this.waiting.get(data.id)?.(data)
      this.waiting.delete(data.id)
    }
  }

  async models(): Promise<ModelInfo[]> {
    const answer = await fetch('model.json')
    if (!answer.ok) throw new BackendError('model.json is not there: write the site again with segscape export --format web.')
    this.model = { ...((await answer.json()) as ExportedModel), segmenter: false }
    if (this.model.stored_styles) this.styles = readStyles()
    return [this.model]
  }

  async generate(request: GenerateRequest, _slot: string, signal: AbortSignal): Promise<Generated> {
    const turn = this.queue.then(() => this.pictures(request, signal))
    this.queue = turn.catch(() => undefined)
    return turn
  }

  async readLayout(file: Blob, model: ModelInfo): Promise<LabelMap> {
    return readLayout(file, model.labels)
  }

  async segment(): Promise<LabelMap> {
    throw new BackendError('Photos are segmented by segscape studio only, not in the browser alone.', 501)
  }

  async examples(model: ModelInfo): Promise<Example[]> {
    const answer = await fetch('examples.json')
    if (!answer.ok) return []
    const found = (await answer.json()) as { name: string; url: string }[]
    return found.map(({ name, url }) => ({
      name,
      load: async () => readLayout(await (await fetch(url)).blob(), model.labels),
    }))
  }

  private async pictures(request: GenerateRequest, signal: AbortSignal): Promise<Generated> {
    const model = this.model
    if (!model) throw new BackendError('the model is not loaded yet')
    const [height, width] = request.size ?? [request.layout.height, request.layout.width]
    const inputs = fitted(model, request.layout, [height, width])
    const stored = await this.styles
    const pictures: Blob[] = []
    let milliseconds = 0
    for (let sample = 0; sample < request.samples; sample++) {
      signal.throwIfAborted()
      const done = await this.run({ ...inputs, style: styleInput(model, stored, inputs, request.seed, sample) })
      milliseconds += done.milliseconds
      pictures.push(await png(toPixels(done.image, inputs, ...cut(model, width, height)), cut(model, width, height), width, height))
    }
    return { pictures, milliseconds, seed: request.seed, snippet: snippet(model, request) }
  }

  private async run(inputs: Inputs): Promise<{ image: Float32Array; milliseconds: number }> {
    const task: Task = { id: this.next++, inputs }
    const done = await new Promise<Done>((resolve) => {
      this.waiting.set(task.id, resolve)
      this.worker.postMessage(task)
    })
    if ('error' in done) throw new BackendError(`The model cannot run in this browser: ${done.error}`)
    return done
  }
}

async function readStyles(): Promise<Float32Array> {
  const answer = await fetch('styles.bin')
  if (!answer.ok) throw new BackendError('styles.bin is not there: write the site again with segscape export --format web.')
  return new Float32Array(await answer.arrayBuffer())
}

/** Width and height of what the network drew of the layout, without padding. */
function cut(model: ExportedModel, width: number, height: number): [number, number] {
  return model.fixed_size ? [model.size[1], model.size[0]] : [width, height]
}

async function png(pixels: Uint8ClampedArray<ArrayBuffer>, [width, height]: [number, number], toWidth: number, toHeight: number) {
  const canvas = new OffscreenCanvas(width, height)
  canvas.getContext('2d')!.putImageData(new ImageData(pixels, width, height), 0, 0)
  if (width === toWidth && height === toHeight) return canvas.convertToBlob()
  const scaled = new OffscreenCanvas(toWidth, toHeight)
  const context = scaled.getContext('2d')!
  context.imageSmoothingQuality = 'high'
  context.drawImage(canvas, 0, 0, toWidth, toHeight)
  return scaled.convertToBlob()
}

function snippet(model: ExportedModel, { size, seed }: GenerateRequest): string {
  const codes = model.stored_styles > 0 && model.style?.kind === 'codes'
  const options = [
    ...(model.use_instances ? ['instance_maps="layout.png"'] : []),
    ...(size ? [`size=(${size[0]}, ${size[1]})`] : []),
    ...(codes ? ['style=style'] : []),
  ]
  return [
    ...(codes ? ['import numpy as np', 'from PIL import Image', ''] : []),
    'from segscape.inference import OnnxPipeline',
    '',
    '# the layout as the studio saves it; random styles are drawn differently in the browser',
    'pipeline = OnnxPipeline("model.onnx")',
    ...(codes ? storedCodes(model, seed) : []),
    `pipeline(${['"layout.png"', ...options].join(', ')})[0].save("photo.png")  # ${model.name}`,
    '',
  ].join('\n')
}

/** Python that gives the codes of `styleInput`. */
function storedCodes(model: ExportedModel, seed: number): string[] {
  const codes = model.style_shape![0]
  return [
    `styles = np.fromfile("styles.bin", "<f4").reshape(${model.stored_styles}, ${codes}, -1)`,
    `present = np.isin(np.arange(${codes}), np.asarray(Image.open("layout.png")))`,
    `style = np.where(present[:, None], styles[${chosenStyle(model, seed)}], styles[0])[None]`,
  ]
}
