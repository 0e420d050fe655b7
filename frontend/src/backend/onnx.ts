/** Pictures from a model that runs in this browser: the backend of the static site. */
import type { LabelMap } from '../canvas/label-map'
import { readLayout } from '../files/layout-file'
import { type Backend, BackendError, type Example, type Generated, type GenerateRequest, type ModelInfo } from './backend'
import type { Done, Task } from './onnx.worker'
import { type ExportedModel, fitted, type Inputs, seededNormal, toPixels } from './tensors'

export class OnnxBackend implements Backend {
  private readonly worker = new Worker(new URL('./onnx.worker.ts', import.meta.url), { type: 'module' })
  private readonly waiting = new Map<number, (done: Done) => void>()
  private queue: Promise<unknown> = Promise.resolve()
  private next = 0
  private model: ExportedModel | null = null

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
    if (request.style) throw new BackendError('The exported model has no style encoder: photos lend their style in segscape studio.')
    const [height, width] = request.size ?? [request.layout.height, request.layout.width]
    const inputs = fitted(model, request.layout, [height, width])
    const length = model.style_shape?.reduce((product, side) => product * side, 1) ?? 0
    const styles = seededNormal(length * request.samples, request.seed)
    const pictures: Blob[] = []
    let milliseconds = 0
    for (let sample = 0; sample < request.samples; sample++) {
      signal.throwIfAborted()
      const style = length ? styles.slice(sample * length, (sample + 1) * length) : null
      const done = await this.run({ ...inputs, style })
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

function snippet(model: ExportedModel, { size }: GenerateRequest): string {
  const asked = size ? `, size=(${size[0]}, ${size[1]})` : ''
  return [
    'from segscape.inference import OnnxPipeline',
    '',
    '# the layout as the studio saves it; random styles are drawn differently in the browser',
    'pipeline = OnnxPipeline("model.onnx")',
    `pipeline("layout.png"${asked})[0].save("photo.png")  # ${model.name}`,
    '',
  ].join('\n')
}
