/** Puts the studio together. */
import { autosave, fitting, restore } from './autosave'
import type { Backend, ModelInfo } from './backend/backend'
import { ServerBackend } from './backend/server'
import { LayoutDocument } from './canvas/document'
import { Editor } from './canvas/editor'
import { classesOf, type LabelMap } from './canvas/label-map'
import { button, byId } from './dom'
import { Generation } from './generation'
import { listenKeys } from './keys'
import { sameClasses } from './labels'
import { Session } from './session'
import { loadProject, packLayout, restoredLayout } from './storage'
import { showTheme } from './theme'
import { showControls } from './views/controls'
import { showPalette } from './views/palette'
import { showPhoto } from './views/photo'
import { showPlace } from './views/place'
import { showSave } from './views/save'
import { emptyLayout, showStart } from './views/start'
import { showStyles } from './views/styles'
import { showToolbar } from './views/toolbar'

async function start(): Promise<void> {
  showTheme()
  const backend = await chooseBackend()
  const [models, project] = await Promise.all([backend.models(), loadProject()])
  if (!models.length) throw new Error('The server has no model.')
  const found = fitting(project, models)
  const layout = found?.layout ?? (await firstLayout(backend, models[0]))
  const session = new Session(models, new LayoutDocument(layout))
  const editor = new Editor(byId('canvas', HTMLCanvasElement), session.document)
  followModel(session, editor)
  if (found) restore(found, session, editor)
  else session.value.value = commonClass(session.document.map, session.model.value)
  const generation = new Generation(backend, session)
  generation.request(true, 0)
  await new Promise((resolve) => setTimeout(resolve)) // the first photo is on its way while the views are made
  show(session, editor, generation, backend)
  document.documentElement.dataset.ready = 'true'
}

/** The static site says in its page that the model runs in the browser; its runtime is loaded only then. */
async function chooseBackend(): Promise<Backend> {
  if (document.documentElement.dataset.backend !== 'browser') return new ServerBackend()
  const { OnnxBackend } = await import('./backend/onnx')
  return new OnnxBackend()
}

async function firstLayout(backend: Backend, model: ModelInfo): Promise<LabelMap> {
  try {
    const [example] = await backend.examples(model)
    if (example) return await example.load()
  } catch {
    // an example of another label set is no reason not to start
  }
  return emptyLayout(model.labels, model.size[1], model.size[0])
}

function show(session: Session, editor: Editor, generation: Generation, backend: Backend): void {
  session.value.follow((value) => (editor.value.value = value))
  editor.value.onChange((value) => (session.value.value = value))
  showPalette(session)
  showToolbar(editor)
  showPlace(session, editor)
  showControls(session)
  showPhoto(session, generation, editor.picture)
  showStyles(session, backend)
  showStart(session, editor, backend)
  showSave(session, generation)
  showHistory(session)
  listenKeys(session, editor)
  autosave(session, editor)
}

/** The layout goes from one model to another by the names of the classes. */
function followModel(session: Session, editor: Editor): void {
  let { labels } = session.model.value
  editor.labels = labels
  session.model.onChange((model) => {
    if (!sameClasses(labels, model.labels)) {
      const packed = packLayout(session.document.map, labels)
      const { width, height } = session.document.map
      session.value.value = Math.min(session.value.value, model.labels.classes.length - 1)
      session.document.restart(restoredLayout(packed, model.labels) ?? emptyLayout(model.labels, width, height))
    }
    labels = model.labels
    editor.labels = labels
  })
}

/** The class to begin with: the first in the layout that is not the unknown one. */
function commonClass(map: LabelMap, { labels }: ModelInfo): number {
  const present = [...classesOf(map)].sort((a, b) => a - b)
  return present.find((index) => index !== labels.unknown) ?? labels.classes.find(({ index }) => index !== labels.unknown)?.index ?? 0
}

function showHistory({ document: layout }: Session): void {
  const show = () => {
    button('undo').disabled = !layout.canUndo
    button('redo').disabled = !layout.canRedo
  }
  button('undo').addEventListener('click', () => layout.undo())
  button('redo').addEventListener('click', () => layout.redo())
  layout.onChange((_box, done) => done && show())
  show()
}

start().catch((error: unknown) => {
  byId('trouble').hidden = false
  byId('trouble').textContent = error instanceof Error ? error.message : String(error)
})
