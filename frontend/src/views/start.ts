/** Where a layout comes from: an example, a file, a photo, or an empty one. */
import type { Backend, Example } from '../backend/backend'
import type { Editor } from '../canvas/editor'
import { blank, type LabelMap } from '../canvas/label-map'
import { LayoutPicture } from '../canvas/picture'
import { button, byId, dialog, input, make } from '../dom'
import { preparePhoto } from '../files/photo'
import type { LabelSet } from '../labels'
import type { Session } from '../session'
import { chooseFile } from './files'
import { attempt, notify } from './notice'

const LONGEST_SIDE = 1024 // of a photo that becomes a layout, in pixels

export function showStart(session: Session, editor: Editor, backend: Backend): void {
  const box = dialog('start-dialog')
  const begin = (map: LabelMap, name: string) => {
    editor.cancel()
    session.name.value = name.replace(/\.[^.]*$/, '') || 'layout'
    session.document.replace(map)
    editor.fit()
    box.close()
  }
  button('start').addEventListener('click', () => {
    box.showModal()
    void attempt(() => showExamples(session, backend, begin))
  })
  button('open-layout').addEventListener('click', () => void openLayout(session, backend, editor, begin))
  button('open-photo').addEventListener('click', () => void openPhoto(session, backend, editor, begin))
  session.model.follow(({ segmenter, size }) => {
    byId('open-photo-how').textContent = segmenter ? 'its classes are found for you' : 'to paint over'
    input('blank-width').value = String(size[1])
    input('blank-height').value = String(size[0])
  })
  byId('blank').addEventListener('submit', (event) => {
    event.preventDefault()
    const [width, height] = [input('blank-width').valueAsNumber, input('blank-height').valueAsNumber]
    editor.under.value = null
    begin(emptyLayout(session.model.value.labels, width, height), 'layout')
  })
  listenDrop(async (file) => begin(await backend.readLayout(file, session.model.value), file.name))
}

/** All unknown, or all of the first class where the set has no unknown one. */
export function emptyLayout(labels: LabelSet, width: number, height: number): LabelMap {
  return blank(width, height, labels.unknown ?? 0)
}

type Begin = (map: LabelMap, name: string) => void

export async function openLayout(session: Session, backend: Backend, editor: Editor, begin: Begin): Promise<void> {
  await attempt(async () => {
    const file = await chooseFile('layout-file')
    const map = await backend.readLayout(file, session.model.value)
    editor.under.value = null
    begin(map, file.name)
  })
}

async function openPhoto(session: Session, backend: Backend, editor: Editor, begin: Begin): Promise<void> {
  await attempt(async () => {
    const file = await chooseFile('photo-file')
    const photo = await preparePhoto(file, LONGEST_SIDE)
    const bitmap = await createImageBitmap(photo)
    const model = session.model.value
    if (model.segmenter) notify('Looking at the photo…')
    const map = model.segmenter ? await backend.segment(photo, model) : emptyLayout(model.labels, bitmap.width, bitmap.height)
    notify('')
    begin(map, file.name)
    editor.under.value = { photo: bitmap, opacity: model.segmenter ? 1 : 0.5 }
  })
}

async function showExamples(session: Session, backend: Backend, begin: Begin): Promise<void> {
  const found = await backend.examples(session.model.value)
  const { labels } = session.model.value
  const loaded = await Promise.all(found.map(async (example) => ({ example, map: await loadOrNull(example) })))
  const usable = loaded.filter((entry): entry is { example: Example; map: LabelMap } => entry.map !== null)
  byId('examples').replaceChildren(
    ...usable.map(({ example, map }) => {
      const picture = new LayoutPicture()
      picture.labels = labels
      picture.draw(map)
      const choice = make('button', { type: 'button' }, picture.canvas, example.name.replaceAll('-', ' '))
      choice.addEventListener('click', () => begin(map, example.name))
      return choice
    }),
  )
  if (!usable.length) byId('examples').textContent = 'There are none for this label set.'
}

/** The layout of an example; null if it is none of this label set. */
async function loadOrNull(example: Example): Promise<LabelMap | null> {
  return example.load().catch(() => null)
}

function listenDrop(open: (file: File) => Promise<void>): void {
  const target = byId('drop')
  window.addEventListener('dragover', (event) => {
    event.preventDefault()
    target.hidden = false
  })
  window.addEventListener('dragleave', (event) => (target.hidden = event.relatedTarget !== null))
  window.addEventListener('drop', (event) => {
    event.preventDefault()
    target.hidden = true
    const file = event.dataTransfer?.files[0]
    if (file) void attempt(() => open(file))
  })
}
