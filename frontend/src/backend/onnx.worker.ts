/** Runs the exported model beside the page, so that painting goes on meanwhile. One message in, one out. */
import * as ort from 'onnxruntime-web/wasm'
import type { Inputs } from './tensors'

export type Task = { id: number; inputs: Inputs }
export type Done = { id: number; image: Float32Array; milliseconds: number } | { id: number; error: string }

ort.env.wasm.numThreads = 1 // more need headers that plain file servers do not send
const session = fetch(new URL('../model.onnx', self.location.href))
  .then(async (answer) => {
    if (!answer.ok) throw new Error(`model.onnx: ${answer.status} ${answer.statusText}`)
    return ort.InferenceSession.create(new Uint8Array(await answer.arrayBuffer()))
  })

self.onmessage = async ({ data }: MessageEvent<Task>) => {
  try {
    const network = await session
    const start = performance.now()
    const { image } = await network.run(tensors(data.inputs, network.inputNames))
    const milliseconds = performance.now() - start
    const pixels = image.data as Float32Array<ArrayBuffer>
    reply({ id: data.id, image: pixels, milliseconds }, [pixels.buffer])
  } catch (error) {
    reply({ id: data.id, error: error instanceof Error ? error.message : String(error) }, [])
  }
}

function tensors({ width, height, labels, position, style }: Inputs, names: readonly string[]): Record<string, ort.Tensor> {
  const indices = BigInt64Array.from(labels, BigInt)
  const all: Record<string, ort.Tensor | null> = {
    label_map: new ort.Tensor('int64', indices, [1, height, width]),
    instance_map: new ort.Tensor('int64', indices, [1, height, width]), // each class is one object, as on the server
    position: position && new ort.Tensor('float32', position, [1, 2, height, width]),
    style: style && new ort.Tensor('float32', style.values, [1, ...style.shape]),
  }
  return Object.fromEntries(names.flatMap((name) => (all[name] ? [[name, all[name]]] : [])))
}

function reply(message: Done, transfer: Transferable[]): void {
  self.postMessage(message, { transfer })
}
