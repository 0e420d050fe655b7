/** Saving files, and the Python that makes the photo again. */
import { button, byId } from '../dom'
import { copyText, download } from '../files/download'
import { palettePng } from '../files/png-write'
import { zip } from '../files/zip'
import type { Generation } from '../generation'
import type { Session } from '../session'
import { attempt, notify } from './notice'
import { chosenSample } from './photo'

export function showSave(session: Session, generation: Generation): void {
  const name = () => session.name.value
  const layout = () => palettePng(session.document.map, session.model.value.labels)
  const result = () => {
    const pictures = generation.main.value?.pictures
    const picture = pictures?.[Math.min(chosenSample.value, pictures.length - 1)]
    if (!picture) throw new Error('there is no photo yet')
    return picture
  }
  const saving = {
    'save-layout': async () => download(await layout(), `${name()}.png`),
    'save-result': async () => download(result(), `${name()}-photo.png`),
    download: async () => download(result(), `${name()}-photo.png`),
    'save-both': async () => download(await both(name(), result(), await layout()), `${name()}.zip`),
    snippet: async () => copySnippet(generation),
  }
  for (const [id, save] of Object.entries(saving)) {
    button(id).addEventListener('click', () => {
      byId('save', HTMLDetailsElement).open = false
      void attempt(save)
    })
  }
  closeOutside(byId('save', HTMLDetailsElement))
}

/** The folders of a dataset, so that several can be unpacked into one. */
function both(name: string, picture: Blob, layout: Blob): Promise<Blob> {
  return zip([
    { name: `images/${name}.png`, content: picture },
    { name: `labels/${name}.png`, content: layout },
  ])
}

async function copySnippet(generation: Generation): Promise<void> {
  const photo = generation.main.value
  if (!photo) throw new Error('there is no photo yet')
  await copyText(photo.snippet)
  notify('Copied. It reads the layout from layout.png.')
}

function closeOutside(menu: HTMLDetailsElement): void {
  window.addEventListener('pointerdown', (event) => {
    if (!menu.contains(event.target as Node)) menu.open = false
  })
  menu.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape') return
    menu.open = false
    menu.querySelector('summary')!.focus()
  })
}
