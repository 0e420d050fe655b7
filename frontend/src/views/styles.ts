/** Photos that lend their style: one for the whole picture, and one for each class where the model takes that. */
import type { Backend, Reference } from '../backend/backend'
import { copy, type LabelMap } from '../canvas/label-map'
import { button, byId, context, dialog, make } from '../dom'
import { preparePhoto } from '../files/photo'
import { className } from '../labels'
import type { Session } from '../session'
import { chooseFile } from './files'
import { attempt, notify } from './notice'

export function showStyles(session: Session, backend: Backend): void {
  const show = () => {
    const { style, labels } = session.model.value
    byId('style').hidden = style === null || !backend.encodesPhotos
    byId('style-class').hidden = style?.kind !== 'codes'
    button('style-class').textContent = `Photo for ${className(labels, session.value.value)}…`
    const rows: HTMLElement[] = []
    if (session.style.value) rows.push(row('Whole picture', session.style.value, () => (session.style.value = null)))
    for (const [index, reference] of style?.kind === 'codes' ? session.classStyles.value : []) {
      rows.push(row(className(labels, index), reference, () => session.setClassStyle(index, null)))
    }
    byId('styles').replaceChildren(...rows)
  }
  session.model.follow(show)
  session.value.onChange(show)
  session.style.onChange(show)
  session.classStyles.onChange(show)
  const ask = (use: (reference: Reference) => void) =>
    attempt(async () => {
      const file = await chooseFile('photo-file')
      const reference = await makeReference(session, backend, file)
      if (reference) use(reference)
    })
  button('style-photo').addEventListener('click', () => void ask((reference) => (session.style.value = reference)))
  button('style-class').addEventListener('click', () => {
    const index = session.value.value
    void ask((reference) => session.setClassStyle(index, reference))
  })
}

/** The photo with its layout where the model needs one; null if the person gives up. */
async function makeReference(session: Session, backend: Backend, file: File): Promise<Reference | null> {
  const photo = await preparePhoto(file)
  if (session.model.value.style?.kind === 'latent') return { name: file.name, photo, layout: null }
  const layout = await askLayout(session, backend, photo)
  return layout && { name: file.name, photo, layout }
}

async function askLayout(session: Session, backend: Backend, photo: Blob): Promise<LabelMap | null> {
  const model = session.model.value
  switch (await askHow(model.segmenter)) {
    case 'reference-segment':
      notify('Looking at the photo…')
      return backend.segment(photo, model).finally(() => notify(''))
    case 'reference-current':
      return copy(session.document.map)
    case 'reference-file':
      return backend.readLayout(await chooseFile('layout-file'), model)
    default:
      return null
  }
}

/** The id of the button that was pressed; null if none. */
function askHow(segmenter: boolean): Promise<string | null> {
  const box = dialog('reference-dialog')
  const choices = [...box.querySelectorAll<HTMLButtonElement>('.choices button')]
  button('reference-segment').hidden = !segmenter
  return new Promise((resolve) => {
    let chosen: string | null = null
    for (const choice of choices) {
      choice.onclick = () => {
        chosen = choice.id
        box.close()
      }
    }
    box.onclose = () => resolve(chosen)
    box.showModal()
  })
}

function row(what: string, reference: Reference, remove: () => void): HTMLElement {
  const thumbnail = make('canvas', { width: '104', height: '72', 'aria-hidden': 'true' })
  void createImageBitmap(reference.photo).then((bitmap) => {
    const factor = Math.max(104 / bitmap.width, 72 / bitmap.height)
    const [width, height] = [bitmap.width * factor, bitmap.height * factor]
    context(thumbnail).drawImage(bitmap, (104 - width) / 2, (72 - height) / 2, width, height)
  })
  const off = make('button', { type: 'button', class: 'icon', 'aria-label': `No photo for: ${what}` }, '×')
  off.addEventListener('click', remove)
  return make('div', { class: 'reference', title: reference.name }, thumbnail, make('span', {}, what), off)
}
